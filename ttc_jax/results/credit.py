"""What a selection rule earns on average on n candidates of a pool, drawn without replacement.

`pass` and `best_of_n` have closed forms. The votes average over all subsets where these are few
(always at n = the pool's size) and otherwise over random ones that fall into disjoint groups, which
lowers the variance. The subsets of a pool are drawn, and their votes counted, once for all rules.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ttc_jax import hashing
from ttc_jax.results.selection import (
    NO_ANSWER,
    answer_ids,
    answer_score,
    ballot_boxes,
    shares,
    shares_of_boxes,
    vote_weights,
)
from ttc_jax.results.store import Record

PASS: Final = "pass"  # pass@N: some candidate of N is correct; the ceiling of every selection rule
_CLOSED: Final = (PASS, "best_of_n")  # rules that need no subsets


@dataclasses.dataclass(frozen=True)
class Pool:
    """The N candidates of one record as arrays."""

    answers: NDArray[np.int64]  # [N] `answer_ids`
    scores: NDArray[np.float64]  # [N] answer scores
    correct: NDArray[np.float64]  # [N] 1.0 or 0.0
    seed: tuple[int, ...]  # of the random subsets
    sequential: int = 1  # answers of a chain: see `Record`

    @functools.cached_property
    def truth(self) -> NDArray[np.float64] | None:
        """[boxes] 1.0 for a correct answer; None where equal answers differ; first that of none."""
        right = np.bincount(self.answers + 1, self.correct)
        every = np.bincount(self.answers + 1)
        same = ((right == 0) | (right == every)).all()
        return (right > 0).astype(np.float64) if same else None


def expected_credit(
    record: Record,
    budgets: Sequence[int],
    rules: Sequence[str],
    aggregation: str = "last",
    subsets: int = 512,
    seed: int = 0,
) -> NDArray[np.float64]:
    """[budgets, rules] Chance that a rule is right on n candidates drawn without replacement.

    Args:
        record, budgets, rules, aggregation, subsets, seed: see `question_accuracy`.
    """
    pool = as_pool(record, aggregation, seed)
    columns = []  # rules that read the same scores share one: with one step all aggregations do
    closed: dict[tuple[str, bytes], Callable[[int], float]] = {}
    voting: dict[tuple[str, bytes], Callable[[_Votes], float]] = {}
    for name in rules:
        rule, _, how = name.partition("/")
        other = rule not in (PASS, "majority") and how not in ("", aggregation)
        seen = dataclasses.replace(pool, scores=_scores(record, how)) if other else pool
        key = rule, seen.scores.tobytes()
        columns.append(key)
        if key in closed or key in voting:
            continue
        if rule in _CLOSED:
            closed[key] = _closed_form(rule, seen)
        else:
            voting[key] = _by_votes(rule, seen)
    orders = draw_orders(len(pool.answers), budgets if voting else (), subsets, pool.seed)
    values = np.empty((len(budgets), len(rules)))
    for i, n in enumerate(budgets):
        found = {key: credit(n) for key, credit in closed.items()}
        if voting:
            votes = _Votes(pool, subset_indices(orders, n, subsets))
            found |= {key: credit(votes) for key, credit in voting.items()}
        values[i] = [found[key] for key in columns]
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


def as_pool(record: Record, aggregation: str = "last", seed: int = 0) -> Pool:
    """A record's candidates as arrays; see `answer_score` for the aggregation of step scores."""
    candidates = record.candidates
    question = hashing.number_of(record.question)
    return Pool(
        answers=answer_ids([candidate.answer for candidate in candidates]),
        scores=_scores(record, aggregation),
        correct=np.array([candidate.correct for candidate in candidates], dtype=np.float64),
        seed=(seed % 2**64, question, record.seed % 2**64),
        sequential=record.sequential,
    )


def _scores(record: Record, aggregation: str) -> NDArray[np.float64]:
    return np.array([answer_score(c.step_scores, aggregation) for c in record.candidates])


def _closed_form(rule: str, pool: Pool) -> Callable[[int], float]:
    """Returns n -> the expected credit; what all n share is computed once."""
    size = len(pool.answers)
    if rule == PASS:
        wrong = int((pool.correct == 0).sum())
        return lambda n: 1.0 - float(_all_within(size, n)[wrong])
    # By rank. The winner has score v if no candidate is above v and not all are below. Which one of
    # score v it is, is then equally likely, so that they earn their mean correctness.
    voters = pool.answers != NO_ANSWER
    _, group, sizes = np.unique(pool.scores[voters], return_inverse=True, return_counts=True)
    correct = np.bincount(group, pool.correct[voters], minlength=len(sizes)) / sizes
    not_above = np.cumsum(sizes) + np.count_nonzero(~voters)

    def best(n: int) -> float:
        within = _all_within(size, n)
        return float(((within[not_above] - within[not_above - sizes]) * correct).sum())

    return best


class _Votes:
    """The votes in subsets [S, n] of a pool, counted once for all rules.

    Attributes:
        answers: [S, n] as `Pool.answers`.
        slots, counts: see `ballot_boxes`.
        correct: [S·boxes] correct candidates in each ballot box.
    """

    def __init__(self, pool: Pool, chosen: NDArray[np.int64]):
        self.chosen = chosen
        self.answers = _take(pool.answers, chosen)
        self.slots, self.counts = ballot_boxes(self.answers)
        if pool.truth is not None:
            self.correct = (self.counts * pool.truth[: self.counts.shape[1]]).ravel()
        else:
            correct = _take(pool.correct, chosen).ravel()
            self.correct = np.bincount(self.slots, correct, self.counts.size)


def _by_votes(rule: str, pool: Pool) -> Callable[[_Votes], float]:
    """Returns votes -> the mean over subsets of the shares that correct candidates hold."""
    if rule not in ("majority", "best_of_n_weighted") or pool.sequential > 1:
        return functools.partial(_by_shares, rule, pool)
    weights = None if rule == "majority" else vote_weights(pool.scores)

    def by_boxes(votes: _Votes) -> float:
        drawn = None if weights is None else _take(weights, votes.chosen)
        held = shares_of_boxes(votes.slots, votes.counts, drawn)
        return float((held * votes.correct).sum() / len(votes.chosen))

    return by_boxes


def _by_shares(rule: str, pool: Pool, votes: _Votes) -> float:
    """The same by rules whose shares are of single candidates."""
    held = shares(rule, votes.answers, pool.scores[votes.chosen], pool.sequential).ravel()
    return float((held * pool.correct[votes.chosen].ravel()).sum() / len(votes.chosen))


def _take(values: NDArray[Any], chosen: NDArray[np.int64]) -> NDArray[Any]:
    return values.take(chosen, mode="clip")  # twice as fast as to look for indices out of range


@functools.lru_cache(maxsize=64)
def _all_within(pool_size: int, n: int) -> NDArray[np.float64]:
    """[pool_size + 1] Chance C(k, n) / C(pool_size, n) that n draws all fall among k candidates."""
    k = np.arange(pool_size, 0, -1)
    steps = np.maximum(k - n, 0) / k  # from k to k - 1 candidates; no binomial overflows
    return np.cumprod(np.concatenate([np.ones(1), steps]), dtype=np.float64)[::-1]
