"""From step scores to the final answer (paper section 5.1 and appendices).

A selection rule maps the answers and answer scores of N candidates to the *share* of the choice
that each candidate holds: 1 for a single winner, equal parts where winners tie. Accuracy is then
`sum(share * correct)`: a tie earns the fraction that a fair coin would earn on average, without the
coin. Candidates without an answer do not vote and are never chosen; where no candidate has one, all
shares are 0 and the question counts as wrong.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ttc_jax.errors import UserError

NO_ANSWER: Final = -1
LOWEST_SCORE: Final = -math.inf

# Sums of the same scores in another order differ by rounding alone; they still tie.
_TIE_TOLERANCE: Final = 1e-9

SelectionRule = Callable[[NDArray[np.int64], NDArray[np.float64]], NDArray[np.float64]]

LAST: Final = "last"
AGGREGATIONS: Final[Mapping[str, Callable[[Sequence[float]], float]]] = MappingProxyType(
    {LAST: lambda scores: scores[-1], "min": min, "product": math.prod}
)


def answer_score(step_scores: Sequence[float], how: str = "last") -> float:
    """The score of a whole answer from the verifier's scores of its steps.

    Args:
        step_scores: [steps] one score a step; the paper found the `last` better than `min` and
            `product` (appendix on PRM aggregation).
        how: "last", "min" or "product".

    Returns:
        The answer score; `LOWEST_SCORE` (minus infinity) for an answer without any step, whatever
        `how` is (the empty product would otherwise be the best score of all).

    Raises:
        UserError: `how` is none of the three.
    """
    if how not in AGGREGATIONS:
        raise UserError(f"aggregation: {how!r} is unknown; choose {', '.join(AGGREGATIONS)}")
    return float(AGGREGATIONS[how](step_scores)) if step_scores else LOWEST_SCORE


def answer_ids(answers: Sequence[str | None]) -> NDArray[np.int64]:
    """[N] Numbers for answers: equal answers share one, `NO_ANSWER` stands for None."""
    ids: dict[str, int] = {}
    return np.array(
        [NO_ANSWER if answer is None else ids.setdefault(answer, len(ids)) for answer in answers],
        dtype=np.int64,
    )


def majority(answers: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """[..., N] Shares of the answer most candidates agree on; scores are not read."""
    del scores
    return _vote(answers, None)


def best_of_n(answers: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """[..., N] Shares of the single candidate with the highest answer score."""
    voters = answers != NO_ANSWER
    best = np.max(scores, axis=-1, keepdims=True, where=voters, initial=-np.inf)
    winners = voters & (scores == best)
    return winners / np.maximum(winners.sum(-1, keepdims=True), 1)


def best_of_n_weighted(
    answers: NDArray[np.int64], scores: NDArray[np.float64]
) -> NDArray[np.float64]:
    """[..., N] Shares of the answer with the highest sum of answer scores (paper section 5.1).

    An answer score of `LOWEST_SCORE` adds nothing to its answer.

    Raises:
        UserError: a score is negative: every further vote would then count against its answer.
    """
    return _vote(answers, vote_weights(scores))


def vote_weights(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """[..., N] What each candidate adds to its answer in a weighted vote.

    Raises:
        UserError: as `best_of_n_weighted`.
    """
    weights = np.where(scores == LOWEST_SCORE, 0.0, scores)
    if not (weights >= 0).all():
        raise UserError(
            "best_of_n_weighted: scores are summed, so none may be negative; bring the verifier's "
            "scores to [0, 1], or choose best_of_n"
        )
    return weights


def hierarchical(
    answers: NDArray[np.int64], scores: NDArray[np.float64], sequential: int
) -> NDArray[np.float64]:
    """[..., N] Shares where candidates are chains of revisions (paper section 6.1).

    Within each chain the answer with the highest sum of scores wins, and is stood for by its best
    candidate; of answers that tie, the one with the best candidate, of candidates that tie, the
    earlier one. Among those of all chains the same vote is held again.

    Args:
        answers, scores: chain by chain.
        sequential: s, answers of a chain; divides N.

    Raises:
        UserError: as `best_of_n_weighted`.
    """
    shape = (*answers.shape[:-1], -1, sequential)
    answers, scores = answers.reshape(shape), scores.reshape(shape)
    winning = best_of_n_weighted(answers, scores) > 0
    best = np.where(winning, np.maximum(scores, -1), -np.inf).argmax(-1)[..., None]
    # A chain without any answer sends none: its first candidate has none.
    sent_answers = np.take_along_axis(answers, best, -1)[..., 0]
    sent_scores = np.take_along_axis(scores, best, -1)[..., 0]
    shares = np.zeros(answers.shape)
    np.put_along_axis(shares, best, best_of_n_weighted(sent_answers, sent_scores)[..., None], -1)
    return shares.reshape(*answers.shape[:-2], -1)


def _vote(answers: NDArray[np.int64], weights: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """[..., N] Shares of the answer with the largest total weight, split among its candidates."""
    slots, held = tally(answers, weights)
    return held[slots].reshape(answers.shape)


def tally(
    answers: NDArray[np.int64], weights: NDArray[np.float64] | None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Counts votes, each of the S rows [..., N] of answers by itself.

    Args:
        weights: [..., N] of each vote, not negative; None: all count alike.

    Returns:
        [S·N] the ballot box of each candidate, one a row and answer; and for each box the share of
        the choice that each of its candidates holds.
    """
    slots, counts = ballot_boxes(answers)
    return slots, shares_of_boxes(winning_boxes(slots, counts, weights), counts)


def ballot_boxes(
    answers: NDArray[np.int64], groups: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """[S·N] the ballot box of each candidate, and [S, boxes] the votes in each, as `tally`.

    The first box of a row takes candidates without an answer, and counts none.

    Args:
        groups: boxes of a row; 0: as many as the answers need.
    """
    n = answers.shape[-1]
    rows = answers.reshape(-1, n)
    groups = groups or int(rows.max(initial=NO_ANSWER)) + 2
    slots = (rows + (1 + groups * np.arange(len(rows)))[:, None]).ravel()
    counts = np.bincount(slots, minlength=len(rows) * groups).reshape(-1, groups)
    counts[:, 0] = 0
    return slots, counts


def winning_boxes(
    slots: NDArray[np.int64], counts: NDArray[np.int64], weights: NDArray[np.float64] | None
) -> NDArray[np.bool_]:
    """[S, boxes] Whether a box holds the largest total of its row; several may tie.

    Args:
        slots, counts: as `ballot_boxes` returns them.
        weights: see `tally`; not negative.
    """
    if weights is None:
        best = counts.max(1, keepdims=True)
        return (counts == best) & (best > 0)
    totals = np.bincount(slots, weights.ravel(), counts.size).reshape(counts.shape)
    totals[:, 0] = 0  # of candidates without an answer
    best = totals.max(1, keepdims=True)
    winners = totals >= best * (1 - _TIE_TOLERANCE)
    if not (best > 0).all():  # a row in which nothing weighs anything: all its answers tie
        winners &= counts > 0
    return winners


def shares_of_boxes(winners: NDArray[np.bool_], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """[S·boxes] The share of the choice that each candidate of a box holds."""
    return (winners / np.maximum(winners.sum(1, keepdims=True) * counts, 1)).ravel()


RULES: Final[Mapping[str, SelectionRule]] = MappingProxyType(
    {"majority": majority, "best_of_n": best_of_n, "best_of_n_weighted": best_of_n_weighted}
)


def shares(
    rule: str, answers: NDArray[np.int64], scores: NDArray[np.float64], sequential: int = 1
) -> NDArray[np.float64]:
    """[..., N] Shares by a rule of `RULES`; where it sums scores, chains vote hierarchically.

    Args:
        sequential: s, answers of a chain, see `hierarchical`.

    Raises:
        UserError: as `best_of_n_weighted`.
    """
    if rule == "best_of_n_weighted" and sequential > 1:
        return hierarchical(answers, scores, sequential)
    return RULES[rule](answers, scores)
