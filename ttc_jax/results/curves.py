"""Accuracy at every budget N from one pool of samples, without bias, with intervals.

A question was sampled N_max times. What N samples would have earned is estimated by the average
over subsets of N candidates of that pool (a U-statistic): unbiased for every N up to N_max, and far
less noisy than looking at one subset. `pass` and `best_of_n` have closed forms. The votes average
over all subsets where these are few (always at N = N_max) and otherwise over random ones that fall
into disjoint groups, which lowers the variance.
"""

import functools
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ttc_jax import hashing
from ttc_jax.errors import UserError
from ttc_jax.results.selection import (
    NO_ANSWER,
    RULES,
    answer_ids,
    answer_score,
    shares,
    tally,
    vote_weights,
)
from ttc_jax.results.store import Record

DIGITS: Final = 6
PASS: Final = "pass"  # pass@N: some candidate of N is correct; the ceiling of every selection rule


@dataclass(frozen=True)
class Estimate:
    """A mean over questions with its 95 % bootstrap percentile interval."""

    mean: float
    low: float
    high: float

    def rounded(self) -> dict[str, float]:
        """For JSON: rounded, where the last bits of floating-point sums may differ."""
        return {name: round(value, DIGITS) for name, value in vars(self).items()}


@dataclass(frozen=True)
class Pool:
    """The N candidates of one record as arrays."""

    answers: NDArray[np.int64]  # [N] `answer_ids`
    scores: NDArray[np.float64]  # [N] answer scores
    correct: NDArray[np.float64]  # [N] 1.0 or 0.0
    seed: tuple[int, ...]  # of the random subsets
    sequential: int = 1  # answers of a chain: see `Record`


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
    """Refuses a selection rule that reads scores where the records hold none.

    Raises:
        UserError: names `where` the records are.
    """
    if rule != "majority" and not scored(records):
        raise UserError(
            f"selection.rule={rule}: reads scores, and {where} has none; choose "
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
        rules: names in `RULES`, or "pass"; default: `default_rules`.
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
    if unknown := [rule for rule in rules if rule not in (*RULES, PASS)]:
        raise UserError(f"rules: {unknown} unknown; choose from {', '.join((*RULES, PASS))}")
    smallest = min(records, key=lambda record: len(record.candidates))
    limit = len(smallest.candidates)
    if limit < max(budgets or (1,)) or min(budgets or (1,)) < 1:
        raise UserError(
            f"budgets: question {smallest.question!r} has {limit} candidates, "
            f"so N must lie in 1..{limit}, not {sorted(budgets or (1,))}"
        )
    chained = any(record.sequential > 1 for record in records)
    if budgets is None:
        budgets = (limit,) if chained else budget_grid(limit)
    if chained and set(budgets) != {limit}:
        raise UserError(f"budgets: chains of revisions count as a whole: N must be {limit}")

    by_question: dict[str, list[NDArray[np.float64]]] = {}
    for record in sorted(records, key=lambda record: record.key):
        pool = as_pool(record, aggregation, seed)
        by_question.setdefault(record.question, []).append(
            expected_credit(pool, budgets, rules, subsets)
        )
    means = np.array([np.mean(seeds, axis=0) for seeds in by_question.values()])
    values = {rule: means[:, :, index] for index, rule in enumerate(rules)}
    return QuestionAccuracy(tuple(by_question), tuple(budgets), values)


def expected_credit(
    pool: Pool, budgets: Sequence[int], rules: Sequence[str], subsets: int = 512
) -> NDArray[np.float64]:
    """[budgets, rules] Chance that a rule is right on n candidates drawn without replacement."""
    credit = {PASS: _expected_pass, "best_of_n": _expected_best}
    values = np.empty((len(budgets), len(rules)))
    votes = [rule for rule in rules if rule not in credit]
    orders = draw_orders(len(pool.answers), budgets if votes else (), subsets, pool.seed)
    for i, n in enumerate(budgets):
        chosen = subset_indices(orders, n, subsets) if votes else np.empty(0, np.int64)
        for j, rule in enumerate(rules):
            if rule in credit:
                values[i, j] = credit[rule](pool, n)
                continue
            values[i, j] = _expected_vote(pool, chosen, rule)
    return values


def draw_orders(
    pool_size: int, budgets: Sequence[int], subsets: int, seed: Sequence[int]
) -> NDArray[np.int64]:
    """[orders, pool_size] Random orders of the pool: as many as `subset_indices` needs.

    More budgets draw more of them, and the same first ones.
    """
    drawn = [n for n in budgets if math.comb(pool_size, n) > subsets]
    count = max((math.ceil(subsets / (pool_size // n)) for n in drawn), default=0)
    orders = np.tile(np.arange(pool_size), (count, 1))
    return np.random.default_rng(seed).permuted(orders, axis=1)


def subset_indices(orders: NDArray[np.int64], n: int, subsets: int) -> NDArray[np.int64]:
    """[subsets, n] Subsets of n candidates out of the pool.

    All subsets, once each, if there are at most `subsets`. Otherwise random ones, each uniform:
    orders of the pool cut into disjoint runs of n.
    """
    pool_size = orders.shape[1]
    if math.comb(pool_size, n) <= subsets:
        return np.array(list(itertools.combinations(range(pool_size), n)), dtype=np.int64)
    runs = pool_size // n
    taken = orders[: math.ceil(subsets / runs)]
    return taken[:, : runs * n].reshape(-1, n)[:subsets]


def pass_at_1(records: Iterable[Record]) -> dict[str, float]:
    """Each question's share of correct candidates, over all its records, sorted by question."""
    found: dict[str, list[bool]] = {}
    for record in records:
        found.setdefault(record.question, []).extend(c.correct for c in record.candidates)
    return {question: float(np.mean(found[question])) for question in sorted(found)}


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
    weights = np.random.default_rng(seed).multinomial(count, [1 / count] * count, size=resamples)
    tail = (1 - level) / 2
    low, high = np.quantile(weights @ values / count, [tail, 1 - tail], axis=0)
    return [Estimate(*map(float, row)) for row in zip(values.mean(0), low, high, strict=True)]


def accuracy_curves(accuracy: QuestionAccuracy, seed: int = 0) -> dict[str, dict[int, Estimate]]:
    """Accuracy over questions with its interval: rule -> N -> estimate."""
    return {
        rule: dict(zip(accuracy.budgets, bootstrap(values, seed), strict=True))
        for rule, values in accuracy.values.items()
    }


def as_pool(record: Record, aggregation: str = "last", seed: int = 0) -> Pool:
    """A record's candidates as arrays; see `answer_score` for the aggregation of step scores."""
    candidates = record.candidates
    question = hashing.number_of(record.question)
    return Pool(
        answers=answer_ids([candidate.answer for candidate in candidates]),
        scores=np.array([answer_score(c.step_scores, aggregation) for c in candidates]),
        correct=np.array([candidate.correct for candidate in candidates], dtype=np.float64),
        seed=(seed % 2**64, question, record.seed % 2**64),
        sequential=record.sequential,
    )


def _expected_pass(pool: Pool, n: int) -> float:
    wrong = int((pool.correct == 0).sum())
    return 1.0 - float(_all_within(len(pool.correct), n)[wrong])


def _expected_best(pool: Pool, n: int) -> float:
    """Closed form, by rank.

    The winner has score v if no candidate is above v and not all are below. Which one of score v it
    is, is then equally likely, so that they earn their mean correctness.
    """
    voters = pool.answers != NO_ANSWER
    _, group, sizes = np.unique(pool.scores[voters], return_inverse=True, return_counts=True)
    correct = np.bincount(group, pool.correct[voters], minlength=len(sizes)) / sizes
    not_above = np.cumsum(sizes) + np.count_nonzero(~voters)
    within = _all_within(len(voters), n)
    return float(((within[not_above] - within[not_above - sizes]) * correct).sum())


def _expected_vote(pool: Pool, chosen: NDArray[np.int64], rule: str) -> float:
    """The mean over subsets [S, n] of the shares that correct candidates hold."""
    correct = pool.correct[chosen].ravel()
    if rule not in ("majority", "best_of_n_weighted") or pool.sequential > 1:
        held = shares(rule, pool.answers[chosen], pool.scores[chosen], pool.sequential).ravel()
    else:  # the same, without an array of shares
        weights = None if rule == "majority" else vote_weights(pool.scores)[chosen]
        slots, held = tally(pool.answers[chosen], weights)
        correct = np.bincount(slots, correct, len(held))
    return float((held * correct).sum() / len(chosen))


@functools.lru_cache(maxsize=64)
def _all_within(pool_size: int, n: int) -> NDArray[np.float64]:
    """[pool_size + 1] Chance C(k, n) / C(pool_size, n) that n draws all fall among k candidates."""
    k = np.arange(pool_size, 0, -1)
    steps = np.maximum(k - n, 0) / k  # from k to k - 1 candidates; no binomial overflows
    return np.cumprod(np.concatenate([np.ones(1), steps]), dtype=np.float64)[::-1]
