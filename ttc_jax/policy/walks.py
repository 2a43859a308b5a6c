"""Pools of samples as they grow, and what is seen of them without knowing the right answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ttc_jax.errors import UserError
from ttc_jax.results.credit import as_pool
from ttc_jax.results.curves import budget_grid
from ttc_jax.results.selection import NO_ANSWER, best_of_n_weighted
from ttc_jax.results.store import Record


@dataclasses.dataclass(frozen=True)
class Walks:
    """Pools of samples, looked at while they grow.

    Attributes:
      questions: [Q] ids, sorted.
      grid: [n] numbers of samples.
      states: [Q, seeds, orders, n, 2] what `look` sees; orders are those of the samples.
      right: [Q, seeds, orders, n] chance that the answer voted for is right.
    """

    questions: tuple[str, ...]
    grid: tuple[int, ...]
    states: NDArray[np.float64]
    right: NDArray[np.float64]

    def only(self, inside: NDArray[np.bool_]) -> Walks:
        """Returns those of some questions.

        Args:
          inside: [Q].
        """
        questions = tuple(q for q, kept in zip(self.questions, inside, strict=True) if kept)
        return Walks(questions, self.grid, self.states[inside], self.right[inside])

    def since(self, n: int) -> Walks:
        """Returns the same, looked at after n samples for the first time."""
        kept = np.array(self.grid) >= n
        grid = tuple(k for k in self.grid if k >= n)
        return Walks(self.questions, grid, self.states[..., kept, :], self.right[..., kept])


def look(answers: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """[..., 2] What is seen of N samples without knowing the right answer.

    It is the winner's share of all scores in the vote of best-of-N weighted, and its mean score; of
    answers that tie the first; zeros where no sample has an answer or a score.

    Args:
      answers, scores: [..., N], see `best_of_n_weighted`, also for errors.
    """
    first = (best_of_n_weighted(answers, scores) > 0).argmax(-1)[..., None]
    weights = np.where(answers == NO_ANSWER, 0.0, np.maximum(scores, 0.0))
    winners = answers == np.take_along_axis(answers, first, -1)
    won = (weights * winners).sum(-1)
    return np.stack([won / np.maximum(weights.sum(-1), 1e-300), won / winners.sum(-1)], -1)


def walks(
    records: Sequence[Record], *, aggregation: str = "last", orders: int = 8, seed: int = 0
) -> Walks:
    """Returns every pool, in the order of its samples and in `orders` - 1 random ones.

    Samples are independent, so that in any order they are what might have come; more orders make
    the same pools tell more.

    Args:
      records: independent samples of one strategy, the same questions for every seed.
      aggregation: step scores to answer score, see `answer_score`.
      seed: of the orders.

    Raises:
      UserError: no records, chains of revisions, pools without scores, or of several sizes or
        strategies, or seeds that lack questions.
    """
    if len({record.strategy for record in records}) != 1:
        raise UserError("allocation: needs the samples of one strategy, such as best_of_n")
    if any(record.sequential > 1 for record in records):
        raise UserError("allocation: answers of a chain are not independent; use best_of_n")
    if not any(candidate.step_scores for record in records for candidate in record.candidates):
        raise UserError("allocation: samples have no scores; name a verifier")
    if len(sizes := {len(record.candidates) for record in records}) != 1:
        raise UserError(f"allocation: pools must be of one size, not {sorted(sizes)}")
    questions = tuple(sorted({record.question for record in records}))
    seeds = sorted({record.seed for record in records})
    if len(records) != len(questions) * len(seeds):
        raise UserError("allocation: some seeds lack questions; run the sweep to its end")
    grid = budget_grid(sizes.pop())
    states = np.empty((len(questions), len(seeds), orders, len(grid), 2))
    right = np.empty(states.shape[:-1])
    for record in records:
        at = questions.index(record.question), seeds.index(record.seed)
        states[at], right[at] = _walk(record, grid, aggregation, orders, seed)
    return Walks(questions, grid, states, right)


def _walk(
    record: Record, grid: Sequence[int], aggregation: str, orders: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """[orders, n, 2] and [orders, n] states, and chances to be right, of one pool."""
    pool = as_pool(record, aggregation, seed)
    order = np.tile(np.arange(grid[-1]), (orders, 1))
    order[1:] = np.random.default_rng(pool.seed).permuted(order[1:], axis=1)
    answers, scores, correct = pool.answers[order], pool.scores[order], pool.correct[order]
    states = [look(answers[:, :n], scores[:, :n]) for n in grid]
    right = [
        (best_of_n_weighted(answers[:, :n], scores[:, :n]) * correct[:, :n]).sum(1) for n in grid
    ]
    return np.stack(states, 1), np.stack(right, 1)
