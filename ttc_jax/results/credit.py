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
    vote_weights,
    winning_boxes,
)
from ttc_jax.results.store import Record

PASS: Final = "pass"  # pass@N: some candidate of N is correct; the ceiling of every selection rule
_CLOSED: Final = (PASS, "best_of_n")  # rules that need no subsets
_BLOCK: Final = 2**17  # candidates whose votes are counted at once
_Cut = Callable[[int, slice], NDArray[Any]]  # n and a block -> values [S, n] in its subsets
_Key = tuple[str, bytes]  # a rule and the scores that it reads


@dataclasses.dataclass(frozen=True)
class Pool:
    """The N candidates of one record as arrays."""

    answers: NDArray[np.int64]  # [N] `answer_ids`
    scores: NDArray[np.float64]  # [N] answer scores
    correct: NDArray[np.float64]  # [N] 1.0 or 0.0
    seed: tuple[int, ...]  # of the random subsets
    sequential: int = 1  # answers of a chain: see `Record`

    @functools.cached_property
    def boxes(self) -> int:
        """Ballot boxes that its answers need."""
        return int(self.answers.max(initial=NO_ANSWER)) + 2

    @functools.cached_property
    def right(self) -> NDArray[np.int64] | None:
        """The ballot boxes of the correct answers; None where equal answers are graded unlike."""
        correct = np.bincount(self.answers + 1, self.correct)
        every = np.bincount(self.answers + 1)
        same = ((correct == 0) | (correct == every)).all()
        return np.flatnonzero(correct) if same else None


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
    draws = _Draws(pool, budgets, subsets)
    columns = []  # rules that read the same scores share one: with one step all aggregations do
    closed: dict[_Key, Callable[[int], float]] = {}
    voting: dict[_Key, Callable[[_Votes], float]] = {}
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
            voting[key] = _by_votes(rule, seen, draws)
    values = np.empty((len(budgets), len(rules)))
    for i, n in enumerate(budgets):
        found = {key: credit(n) for key, credit in closed.items()}
        if voting:
            earned = dict.fromkeys(voting, 0.0)
            for votes in (_Votes(pool, draws, n, block) for block in draws.blocks(n)):
                for key, credit in voting.items():
                    earned[key] += credit(votes)
            found |= {key: total / draws.subsets(n) for key, total in earned.items()}
        values[i] = [found[key] for key in columns]
    return values


def draw_orders(
    pool_size: int, budgets: Sequence[int], subsets: int, seed: Sequence[int]
) -> NDArray[np.int64]:
    """[orders, pool_size] Random orders of the pool: as many as `subset_indices` needs.

    More budgets draw more of them, and the same first ones.
    """
    drawn = [n for n in budgets if _comb(pool_size, n) > subsets]
    count = max((math.ceil(subsets / (pool_size // n)) for n in drawn), default=0)
    orders = np.repeat(np.arange(pool_size)[None], count, axis=0)
    return np.random.default_rng(seed).permuted(orders, axis=1)


def subset_indices(orders: NDArray[np.int64], n: int, subsets: int) -> NDArray[np.int64]:
    """[subsets, n] Subsets of n candidates out of the pool.

    All subsets, once each, if there are at most `subsets`. Otherwise random ones, each uniform:
    orders of the pool cut into disjoint runs of n.
    """
    pool_size = orders.shape[1]
    if _comb(pool_size, n) <= subsets:
        return np.array(list(itertools.combinations(range(pool_size), n)), dtype=np.int64)
    return _runs(orders, n, subsets)


def _runs(ordered: NDArray[Any], n: int, subsets: int) -> NDArray[Any]:
    """[subsets, n] What stands in orders [orders, pool_size], cut into disjoint runs of n."""
    runs = ordered.shape[1] // n
    taken = ordered[: math.ceil(subsets / runs)]
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


class _Draws:
    """Subsets of a pool, those of all sizes cut from the same random orders of it.

    They come in blocks that a processor's cache holds.
    """

    def __init__(self, pool: Pool, budgets: Sequence[int], subsets: int):
        self._pool, self._budgets, self._count = pool, budgets, subsets
        self._size = len(pool.answers)

    @functools.cached_property
    def _orders(self) -> NDArray[np.int64]:
        return draw_orders(self._size, self._budgets, self._count, self._pool.seed)

    def subsets(self, n: int) -> int:
        """How many subsets of n there are, or are drawn."""
        return min(_comb(self._size, n), self._count)

    def blocks(self, n: int) -> list[slice]:
        """The orders that each block of subsets of n is cut from."""
        if _comb(self._size, n) <= self._count:
            return [slice(None)]
        runs = self._size // n
        orders = math.ceil(self._count / runs)
        step = max(_BLOCK // (runs * n), 1)
        return [slice(i, min(i + step, orders)) for i in range(0, orders, step)]

    def of(self, values: NDArray[Any]) -> _Cut:
        """Returns what cuts the values into subsets; they are looked up once for all sizes."""
        return functools.partial(_cut, values, _take(values, self._orders), self._count)

    @functools.cached_property
    def answers(self) -> _Cut:
        """Cuts the answers into subsets."""
        return self.of(self._pool.answers)

    @functools.cached_property
    def correct(self) -> _Cut:
        """Cuts 1.0 for correct candidates into subsets."""
        return self.of(self._pool.correct)


def _cut(
    values: NDArray[Any], ordered: NDArray[Any], count: int, n: int, block: slice
) -> NDArray[Any]:
    """[S, n] The values in a block's subsets of n; `ordered` holds them [orders, pool_size]."""
    if _comb(len(values), n) <= count:
        return _take(values, subset_indices(ordered, n, count))
    before = (block.start or 0) * (len(values) // n)
    return _runs(ordered[block], n, count - before)


class _Votes:
    """The votes in a block's subsets [S, n] of a pool, counted once for all rules.

    Attributes:
        n, block: see `_Draws`.
        answers: [S, n] as `Pool.answers`.
        slots, counts: see `ballot_boxes`.
    """

    def __init__(self, pool: Pool, draws: _Draws, n: int, block: slice):
        self.n, self.block, self.answers = n, block, draws.answers(n, block)
        self.slots, self.counts = ballot_boxes(self.answers, pool.boxes)
        self._right = pool.right
        if self._right is None:
            correct = draws.correct(n, block).ravel()
            correct = np.bincount(self.slots, correct, self.counts.size)
            self._fraction = correct.reshape(self.counts.shape) / np.maximum(self.counts, 1)

    def credit(self, winners: NDArray[np.bool_]) -> float:
        """The sum over subsets of the fraction of correct candidates in the winning boxes.

        Args:
            winners: [S, boxes] as `winning_boxes`.
        """
        if self._right is not None:
            earned = winners[:, self._right].sum(1)
        else:
            earned = (winners * self._fraction).sum(1)
        return float((earned / np.maximum(winners.sum(1), 1)).sum())


def _by_votes(rule: str, pool: Pool, draws: _Draws) -> Callable[[_Votes], float]:
    """Returns votes -> the sum over subsets of the shares that correct candidates hold."""
    if rule == "majority":
        return lambda votes: votes.credit(winning_boxes(votes.slots, votes.counts, None))
    if rule == "best_of_n_weighted" and pool.sequential == 1:
        weights = draws.of(vote_weights(pool.scores))
        return lambda votes: votes.credit(
            winning_boxes(votes.slots, votes.counts, weights(votes.n, votes.block))
        )
    scores = draws.of(pool.scores)

    def by_shares(votes: _Votes) -> float:
        held = shares(rule, votes.answers, scores(votes.n, votes.block), pool.sequential)
        return float((held * draws.correct(votes.n, votes.block)).sum())

    return by_shares


def _take(values: NDArray[Any], chosen: NDArray[np.int64]) -> NDArray[Any]:
    return values.take(chosen, mode="clip")  # twice as fast as to look for indices out of range


@functools.lru_cache(maxsize=256)
def _comb(pool_size: int, n: int) -> int:
    """C(pool_size, n), a number of thousands of digits, asked for again for every pool."""
    return math.comb(pool_size, n)


@functools.lru_cache(maxsize=64)
def _all_within(pool_size: int, n: int) -> NDArray[np.float64]:
    """[pool_size + 1] Chance C(k, n) / C(pool_size, n) that n draws all fall among k candidates."""
    k = np.arange(pool_size, 0, -1)
    steps = np.maximum(k - n, 0) / k  # from k to k - 1 candidates; no binomial overflows
    return np.cumprod(np.concatenate([np.ones(1), steps]), dtype=np.float64)[::-1]
