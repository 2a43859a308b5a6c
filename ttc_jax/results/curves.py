"""Accuracy at every budget N from one pool of samples, without bias, with intervals.

A question was sampled N_max times. What N samples would have earned is estimated by the average
over subsets of N candidates of that pool (a U-statistic): unbiased for every N up to N_max, and far
less noisy than looking at one subset. See `ttc_jax.results.credit` for one pool.
"""

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ttc_jax.errors import UserError
from ttc_jax.results.credit import PASS, expected_credit
from ttc_jax.results.records import DIFFICULTY
from ttc_jax.results.selection import RULES
from ttc_jax.results.store import Record

DIGITS: Final = 6


@dataclass(frozen=True)
class Estimate:
    """A mean over questions with its 95 % bootstrap percentile interval."""

    mean: float
    low: float
    high: float

    def rounded(self) -> dict[str, float]:
        """For JSON: rounded, where the last bits of floating-point sums may differ."""
        return {name: round(value, DIGITS) for name, value in vars(self).items()}

    def ratio(self, censored: bool) -> dict[str, float | bool]:
        """The same of a ratio: where it is censored, its lower end is all that is supported."""
        found = self.rounded()
        return {"ratio": found.pop("mean"), **found, "censored": censored}


@dataclass(frozen=True)
class QuestionAccuracy:
    """Expected accuracy of each question; everything by bin or over questions follows from it."""

    questions: tuple[str, ...]  # [B], sorted
    budgets: tuple[int, ...]  # the values of N
    values: Mapping[str, NDArray[np.float64]]  # rule -> [B, budgets], mean over seeds


def budget_grid(n_max: int) -> tuple[int, ...]:
    """1, 2, 4, ... up to n_max, which always ends the grid.

    Raises:
        UserError: n_max < 1.
    """
    if n_max < 1:
        raise UserError(f"N is {n_max}; it must be at least 1")
    return (*(2**power for power in range((n_max - 1).bit_length())), n_max)


def default_rules(records: Sequence[Record]) -> tuple[str, ...]:
    """The rules that the records allow: those that read scores need a verifier's."""
    return (*RULES, PASS) if scored(records) else ("majority", PASS)


def scored(records: Iterable[Record]) -> bool:
    """Whether a verifier scored any candidate."""
    return any(candidate.step_scores for record in records for candidate in record.candidates)


def check_rule(rule: str, records: Iterable[Record], where: str) -> None:
    """Refuses a selection rule that reads scores where a strategy's records hold none.

    A strategy of single candidates needs none, nor do the samples that only say how hard a question
    is: there is nothing to choose among these.

    Raises:
        UserError: as `check_scores`.
    """
    found: dict[str, bool] = {}
    for record in records:
        if record.strategy != DIFFICULTY and len(record.candidates) > 1:
            found[record.strategy] = found.get(record.strategy, False) or scored([record])
    check_scores(rule, found, where)


def check_scores(rule: str, strategies: Mapping[str, bool], where: str) -> None:
    """Refuses a selection rule that reads scores where a strategy has none.

    Args:
        strategies: those to choose among whose candidates is asked, and whether these are scored.

    Raises:
        UserError: names `where` the strategies are, and the first that has none.
    """
    unscored = sorted(strategy for strategy, known in strategies.items() if not known)
    if rule != "majority" and unscored:
        whose = f" of {unscored[0]!r}" if any(strategies.values()) else ""
        raise UserError(
            f"selection.rule={rule}: reads scores, and {where} has none{whose}; choose "
            "--config.selection.rule=majority"
        )


def question_accuracy(
    records: Sequence[Record],
    rules: Sequence[str] | None = None,
    budgets: Sequence[int] | None = None,
    aggregation: str = "last",
    subsets: int = 512,
    seed: int = 0,
) -> QuestionAccuracy:
    """Expected accuracy of every question, rule and budget.

    Several records of one question (other seeds) are averaged within the question. The result does
    not depend on the order of the records, nor on which other questions there are.

    Args:
        records: pools of candidates, all of one strategy.
        rules: names in `RULES`, or "pass"; default: `default_rules`. One may name an aggregation of
            its own, as in "best_of_n/min". All share the same subsets, which are drawn once.
        budgets: values of N; default: `budget_grid` up to the smallest pool. Of chains of revisions
            none but all candidates together: a part of them is no shorter chain.
        aggregation: step scores to answer score, see `answer_score`.
        subsets: subsets a question and N where the average over all would take more.
        seed: of the random subsets.

    Raises:
        UserError: no record, a pool without candidates or smaller than a budget (names the
            question), an unknown rule or aggregation, several strategies.
    """
    if not records:
        raise UserError("results: no record to evaluate; run the job that samples first")
    if len(strategies := {record.strategy for record in records}) > 1:
        raise UserError(f"results: evaluate one strategy at a time, not {sorted(strategies)}")
    rules = default_rules(records) if rules is None else rules
    if unknown := [rule for rule in rules if rule.partition("/")[0] not in (*RULES, PASS)]:
        raise UserError(f"rules: {unknown} unknown; choose from {', '.join((*RULES, PASS))}")
    smallest = min(records, key=lambda record: len(record.candidates))
    limit = len(smallest.candidates)
    if outside := [n for n in budgets or (1,) if not 1 <= n <= limit]:
        raise UserError(
            f"budgets: question {smallest.question!r} has {limit} candidates, so N must lie in "
            f"1..{limit}; {max(outside)} does not"
        )
    chained = any(record.sequential > 1 for record in records)
    if budgets is None:
        budgets = (limit,) if chained else budget_grid(limit)
    if chained and set(budgets) != {limit}:
        raise UserError(f"budgets: chains of revisions count as a whole: N must be {limit}")

    ordered = sorted(records, key=lambda record: record.key)
    options = budgets, rules, aggregation, subsets, seed
    by_question: dict[str, list[NDArray[np.float64]]] = {}
    executor = ThreadPoolExecutor(os.cpu_count())  # NumPy lets go of Python's lock where it works
    try:
        found = executor.map(lambda record: expected_credit(record, *options), ordered)
        for record, credit in zip(ordered, found, strict=True):
            by_question.setdefault(record.question, []).append(credit)
    finally:
        executor.shutdown(cancel_futures=True)
    means = np.array([np.mean(seeds, axis=0) for seeds in by_question.values()])
    values = {rule: means[:, :, index] for index, rule in enumerate(rules)}
    return QuestionAccuracy(tuple(by_question), tuple(budgets), values)


def pass_at_1(records: Iterable[Record]) -> dict[str, float]:
    """Each question's share of correct candidates, over all its records, sorted by question."""
    found: dict[str, list[bool]] = {}
    for record in records:
        found.setdefault(record.question, []).extend(c.correct for c in record.candidates)
    return {question: float(np.mean(found[question])) for question in sorted(found)}


def tied(easiness: Mapping[str, float], bins: Mapping[str, int]) -> set[str]:
    """The questions whose bin their id decides, since some other bin holds their like.

    Bins of a few samples have many such questions: their easiness has few values.
    """
    of_value: dict[float, set[int]] = {}
    for question, which in bins.items():
        of_value.setdefault(easiness[question], set()).add(which)
    return {question for question in bins if len(of_value[easiness[question]]) > 1}


def bootstrap(
    values: NDArray[np.float64], seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> list[Estimate]:
    """Mean and bootstrap percentile interval over questions for every column.

    Columns are resampled together, so that equal columns get equal intervals. Where no question
    differs from another the interval is a point: it then says nothing about unseen questions.

    Args:
        values: [B, columns].
        seed: of the resampling; equal seeds and B give equal resamples.
        resamples: bootstrap samples.
        level: share of the resampled means inside the interval.
    """
    count = len(values)
    tail = (1 - level) / 2
    means = _resamples(count, seed, resamples) @ values / count
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return [Estimate(*map(float, row)) for row in zip(values.mean(0), low, high, strict=True)]


def bootstrap_of(
    counts: NDArray[np.float64],
    measure: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> list[Estimate | None]:
    """Measures of sums over questions, such as ratios, with the intervals of `bootstrap`.

    Args:
        counts: [B, C].
        measure: makes [*n, C] sums [*n, M] measures; NaN where there is none.

    Returns:
        M estimates, from the resamples that have the measure; None where all questions have none.
    """
    tail = (1 - level) / 2
    drawn = measure(_resamples(len(counts), seed, resamples) @ counts)
    found: list[Estimate | None] = []
    for value, column in zip(measure(counts.sum(0)).tolist(), drawn.T, strict=True):
        low, high = np.nanquantile(column, [tail, 1 - tail]) if value == value else (0, 0)
        found.append(Estimate(value, float(low), float(high)) if value == value else None)
    return found


@functools.lru_cache(maxsize=4)
def _resamples(count: int, seed: int, resamples: int) -> NDArray[np.int64]:
    """[resamples, B] How often each question is drawn; reports ask for the same ones many times."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(count, [1 / count] * count, size=resamples)


def accuracy_curves(accuracy: QuestionAccuracy, seed: int = 0) -> dict[str, dict[int, Estimate]]:
    """Accuracy over questions with its interval: rule -> N -> estimate."""
    return {
        rule: dict(zip(accuracy.budgets, bootstrap(values, seed), strict=True))
        for rule, values in accuracy.values.items()
    }
