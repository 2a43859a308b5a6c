"""How a strategy spends a generation budget: candidates side by side, answers in sequence."""

from __future__ import annotations

import math

from ml_collections import ConfigDict

from ttc_jax.errors import UserError
from ttc_jax.policy_file import Entry
from ttc_jax.results.summary import JUDGE, POOL
from ttc_jax.search.strategies import Strategy, make_strategy

PARALLEL = Entry(strategy=POOL)


def judged(judge: str) -> dict[str, Entry]:
    """Returns the strategy that a sweep has beside its own ones where it names a judge."""
    return {JUDGE: Entry(strategy=POOL, judge=judge)} if judge else {}


def is_pool(entry: Entry) -> bool:
    """Whether its candidates are independent, so that some of them are a smaller budget's."""
    return entry.strategy == POOL and not entry.ratio and not entry.judge


def shape(strategy: Strategy, budget: int, lookahead: int, ratio: float) -> tuple[int, int] | None:
    """Returns parallel candidates and answers in sequence that spend a budget exactly, or None.

    A ratio of sequential to parallel answers, r, is met by s = √(N · r) (paper section 6.2).
    """
    generations, rest = divmod(budget, lookahead + 1)
    revisions = round(math.sqrt(generations * ratio)) if ratio else 1
    candidates, more = divmod(generations, max(revisions, 1))
    if rest or more or not candidates or (ratio and revisions != candidates * ratio):
        return None
    try:
        strategy.check(candidates)
    except UserError:
        return None
    return candidates, revisions


def spend(config: ConfigDict, entry: Entry, budget: int) -> ConfigDict | None:
    """Returns the config of a run that spends a budget exactly; None where the strategy cannot.

    Args:
      config: what the strategy leaves open.
      entry: the strategy; models it leaves out are those of `config`.
      budget: generations a question.

    Raises:
      UserError: an unknown strategy or option.
    """
    strategy = make_strategy(entry.strategy, **entry.options)
    found = shape(strategy, budget, entry.lookahead, entry.ratio)
    if found is None:
        return None
    run = config.copy_and_resolve_references()
    with run.unlocked():
        run.sampling.n, run.search.revisions = found
    run.search.strategy, run.search.lookahead = entry.strategy, entry.lookahead
    run.search.options = ConfigDict(entry.options)
    name_models(run, entry)
    if entry.thinking >= 0:
        if not run.get("thinking", {}).get("close"):
            raise no_marks(entry)
        with run.unlocked():
            run.thinking.maximum = entry.thinking
    return run


def no_marks(entry: Entry) -> UserError:
    """Returns the error of a maximum for the thoughts of a model that does not think."""
    return UserError(
        f"thinking={entry.thinking}: the config's section thinking names no marks; set "
        "thinking.close, such as </think>"
    )


def name_models(config: ConfigDict, entry: Entry) -> None:
    """Puts the models that a strategy has of its own into a config; others stay the config's.

    Of a judge there is none but the strategy's own.
    """
    if entry.generator:  # which brings its own tokenizer
        config.generator.path = entry.generator
        if "tokenizer" in config.generator:
            config.generator.tokenizer = ""
    if entry.verifier:
        config.verifier.path = entry.verifier
    if entry.judge != config.search.get("judge", ""):
        with config.unlocked():
            config.search.judge = entry.judge
