"""How questions are answered at a budget: the arguments of a call, and the solver they need."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any

from jax.sharding import Mesh

from ttc_jax.errors import UserError
from ttc_jax.experiments.fitted import Fitted
from ttc_jax.experiments.setup import Models, Setup
from ttc_jax.experiments.solver import Solver
from ttc_jax.models.limits import printable
from ttc_jax.policy_file import Entry, PolicyFile, read_policy
from ttc_jax.results.selection import RULES
from ttc_jax.sampling.draw import SamplingParams
from ttc_jax.sampling.programs import shards
from ttc_jax.sampling.thinking import ThinkingFormat
from ttc_jax.search.execution import Execution
from ttc_jax.search.plan import check_threshold
from ttc_jax.search.strategies import make_strategy
from ttc_jax.tasks import load_task
from ttc_jax.tasks.prompts import PromptFormat
from ttc_jax.verifiers.generative import load_judge
from ttc_jax.verifiers.judge_format import check_judge


@dataclasses.dataclass(frozen=True)
class Spending:
    """How a budget is spent on a question, and its answers read; see `LLM.solve`. Hashable."""

    budget: int
    strategy: str
    options: tuple[tuple[str, Any], ...]
    judge: str
    policy: str
    task: str
    prompt: PromptFormat
    max_tokens: int
    max_step_tokens: int
    sampling: SamplingParams
    score_threshold: float | None
    thinking: ThinkingFormat | None

    @classmethod
    def of(
        cls,
        *,
        scored: bool,
        strategy: str,
        options: Mapping[str, Any] | None,
        judge: str,
        policy: str,
        prompt: PromptFormat,
        sampling: SamplingParams | None,
        **others: Any,
    ) -> Spending:
        """Fills in what a call leaves open.

        Args:
          scored: whether there is a verifier.

        Raises:
          UserError: options that cannot be, what is no judge or stands beside a policy, or a
            threshold that nothing would be compared with.
        """
        check_judge(judge, "search.judge", selects=True)
        if judge and policy:
            raise UserError(
                f"judge is {judge}: the policy says where a judge chooses; leave it out"
            )
        found = cls(
            strategy=strategy or ("beam" if scored and not policy else "best_of_n"),
            options=_hashable(options or {}),
            judge=judge,
            policy=policy,
            prompt=prompt,
            sampling=sampling or SamplingParams(),
            **others,
        )
        if found.score_threshold is not None:
            found.check_threshold(scored)
        return found

    def check_threshold(self, scored: bool) -> None:
        """Refuses a threshold that nothing would be compared with."""
        value = self.score_threshold
        if not scored:
            raise UserError(
                f"score_threshold is {value}, and there is no verifier; name one by "
                "LLM(path, verifier=…)"
            )
        if not self.policy:
            check_threshold(make_strategy(self.strategy, **dict(self.options)), value)


def _hashable(options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Returns a strategy's options in the order of their names."""
    shown = printable(repr(options), 80)
    if not all(isinstance(name, str) for name in options):
        raise UserError(f"options is {shown}; it must have texts for names")
    try:
        hash(tuple(options.values()))
    except TypeError as error:
        raise UserError(f"options is {shown}; it must hold numbers and texts") from error
    return tuple(sorted(options.items()))


def rule_of(rule: str, *, scored: bool) -> str:
    """Returns the rule that chooses an answer; "" stands for the best one that there is.

    Args:
      scored: whether there is a verifier.

    Raises:
      UserError: a rule that is none, or reads scores where there are none.
    """
    if rule and rule not in RULES:
        raise UserError(f"rule: {rule!r} is unknown; choose {', '.join(RULES)}")
    if rule not in ("", "majority") and not scored:
        raise UserError(
            f"rule is {rule}: reads scores, and there is no verifier; name one by "
            "LLM(path, verifier=…), or choose majority"
        )
    return rule or ("best_of_n_weighted" if scored else "majority")


@dataclasses.dataclass(frozen=True)
class _Policy:
    """The policy that a file holds; equal and hashed by its JSON."""

    text: str
    found: PolicyFile = dataclasses.field(compare=False)


class Solvers:
    """The solvers of one pair of models, each made once.

    Args:
      paths: of generator and verifier, which a policy may name.
      delimiter: text that ends a step.
      rows: candidates that are decoded together.
      storage: how a judge's own model is kept, see `load_generator`.
    """

    def __init__(
        self,
        models: Models,
        paths: tuple[str, str],
        *,
        storage: Mapping[str, Any],
        delimiter: str,
        rows: int,
        mesh: Mesh | None,
    ):
        self._models, self._paths = models, paths
        self._delimiter, self._rows, self._mesh = delimiter, rows, mesh
        self._judge = functools.cache(
            lambda path: load_judge(path, selects=True, **storage) if path else None
        )
        self._made = functools.lru_cache(maxsize=16)(self._make)

    def of(self, spending: Spending) -> Solver:
        """Returns the solver of a spending, and of its policy as the file says it now.

        Raises:
          UserError: as `read_policy`, `Fitted.of`, `load_task` and `Solver`.
        """
        if not spending.policy:
            return self._made(spending, None)
        found = read_policy(spending.policy)
        return self._made(spending, _Policy(json.dumps(found.to_dict()), found))

    def _make(self, spending: Spending, policy: _Policy | None) -> Solver:
        setup = Setup(
            functools.partial(self._models_of, spending.policy),
            load_task(spending.task),
            spending.prompt,
            self._delimiter,
            max_new_tokens=spending.max_tokens,
            max_step_tokens=spending.max_step_tokens,
            sampling=spending.sampling,
            rows=self._rows,
            execution=Execution(shards(self._mesh), mesh=self._mesh),
            score_threshold=spending.score_threshold,
            thinking=spending.thinking,
        )
        follow: Fitted | Entry = Entry(
            spending.strategy, dict(spending.options), judge=spending.judge
        )
        if policy is not None:
            follow = Fitted.of(policy.found).beside(*self._paths)
        return Solver(setup, follow, budget=spending.budget)

    def _models_of(self, policy: str, entry: Entry) -> Models:
        """Returns the models, which a policy's strategy must not have of its own."""
        for kind, path in (("generator", entry.generator), ("verifier", entry.verifier)):
            if path:
                raise UserError(
                    f"{policy}: {entry.strategy} has a {kind} of its own, {path}; use "
                    "LLM(path, verifier=…) with the models that the policy was fitted with"
                )
        return self._models._replace(judge=self._judge(entry.judge))
