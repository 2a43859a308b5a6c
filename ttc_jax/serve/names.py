"""The names of models, which say how a budget is spent: `NAME`, `NAME@beam-16`."""

from __future__ import annotations

from collections.abc import Sequence

from ttc_jax.serve.errors import ApiError
from ttc_jax.serve.programs import PLAIN, Spending
from ttc_jax.serve.schema import ChatRequest, CompletionRequest
from ttc_jax.serve.service import ALLOCATION, POLICY, Service


def names_of(service: Service) -> list[str]:
    """Returns the models that clients may name."""
    return [
        service.name,
        *(
            f"{service.name}@{strategy}-{budget}"
            for strategy, budgets in service.budgets.items()
            for budget in budgets
        ),
    ]


def spending_of(asked: ChatRequest | CompletionRequest, service: Service) -> Spending:
    """Returns how much a request wants to be spent.

    Raises:
      ApiError: another model, strategy or budget than there are.
    """
    strategy, budget = _said(asked, service)
    tokens, field = asked.budget_tokens, "model" if "@" in asked.model else ""
    if strategy is None and budget is None and tokens is None:
        return _plain(asked, service)
    strategy = service.strategy if strategy is None else strategy
    if strategy not in service.budgets:
        known, field = ", ".join(service.budgets) or "none", field or "strategy"
        raise ApiError(400, f"{field}: unknown strategy {strategy!r:.40}; there are {known}", field)
    if tokens is not None:
        if strategy == ALLOCATION:
            raise ApiError(
                400,
                "budget_tokens: an allocation keeps its budget on average alone; give budget",
                "budget_tokens",
            )
        samples = service.fitted.samples if strategy == POLICY and service.fitted else 0
        longest, budgets = asked.limit or service.max_tokens, service.budgets[strategy]
        budget = _paid_by(tokens, longest, budgets, samples)
    budget = service.budget if budget is None else budget
    if budget not in service.budgets[strategy]:
        known, field = ", ".join(map(str, service.budgets[strategy])), field or "budget"
        raise ApiError(400, f"{field}: a budget of {budget}; must be one of {known}", field)
    if asked.confidence is not None and strategy not in service.pools:
        raise ApiError(
            400,
            f"confidence: {strategy} decides itself what it draws; choose a strategy whose "
            "candidates are independent, such as best_of_n",
            "confidence",
        )
    if (asked.n or 1) != 1:
        raise ApiError(
            400, "n: one answer is chosen where there is a budget; leave n out, or give 1", "n"
        )
    return Spending(strategy, budget, 1)


def _said(
    asked: ChatRequest | CompletionRequest, service: Service
) -> tuple[str | None, int | None]:
    """Returns the strategy and the budget that a request names, in its model or beside it.

    Raises:
      ApiError: another model than there is, or a name or budget that is given twice.
    """
    name, _, spec = asked.model.partition("@")
    if name not in ("", service.name):
        raise ApiError(
            404,
            f"the model {asked.model!r:.80} does not exist; this server has {service.name!r}",
            "model",
            "model_not_found",
        )
    if asked.budget is not None and asked.budget_tokens is not None:
        raise ApiError(400, "budget_tokens: there is a budget already; leave one out", "budget")
    if not spec:
        return asked.strategy, asked.budget
    for field in ("strategy", "budget", "budget_tokens"):
        if getattr(asked, field) is not None:
            raise ApiError(400, f"{field}: the model's name says it already; leave it out", field)
    strategy, _, number = spec.rpartition("-")
    if not number.isdecimal() or not strategy:
        raise ApiError(
            404,
            f"the model {asked.model!r:.80} does not exist; write NAME@STRATEGY-BUDGET, as in "
            f"{names_of(service)[-1]}",
            "model",
            "model_not_found",
        )
    return strategy, int(number[:9])


def _plain(asked: ChatRequest | CompletionRequest, service: Service) -> Spending:
    """Returns what is spent on completions of which none is chosen.

    Raises:
      ApiError: more of them than are allowed, or a vote that there is not.
    """
    if asked.confidence is not None:
        raise ApiError(400, "confidence: needs a budget to stop before the end of", "confidence")
    n = asked.n or 1
    if n > service.bounds.n:
        raise ApiError(400, f"n: {n} is more than the {service.bounds.n} allowed", "n")
    return Spending(PLAIN, n, n)


def _paid_by(tokens: int, longest: int, budgets: Sequence[int], samples: int) -> int:
    """Returns the largest budget that never draws more tokens than these.

    Args:
      longest: tokens of an answer at most.
      samples: answers drawn besides, which tell how hard the question is.

    Raises:
      ApiError: there is none.
    """
    fitting = [budget for budget in budgets if (budget + samples) * longest <= tokens]
    if not fitting:
        least = min(budgets) + samples
        raise ApiError(
            400,
            f"budget_tokens: {tokens} do not pay for {least} answers of up to {longest} tokens; "
            f"give {least * longest}, or lower max_tokens",
            "budget_tokens",
        )
    return max(fitting)
