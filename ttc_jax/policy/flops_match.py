"""More compute at test time, or a larger model? Both at the same FLOPs (paper section 7).

A model of P parameters costs X = 6·P·D_pre FLOPs to train on D_pre tokens, and Y = 2·P·D_inf to
infer D_inf tokens, or twice that where a verifier of its size reads every token. A model M times
larger that answers greedily costs as much as the small one with its inference multiplied by

    M + 3 · (D_pre / D_inf) · (M − 1)      without the verifier (arXiv)
    M + 3/2 · (D_pre / D_inf) · (M − 1)    with it (ICLR)

which is the number of generations that the small model may spend on a question.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from ttc_jax.errors import UserError
from ttc_jax.policy.difficulty import Binning
from ttc_jax.policy.policy import estimates, resamples
from ttc_jax.results.accuracy_table import AccuracyTable
from ttc_jax.results.curves import Estimate

Formula = Literal["arxiv", "iclr"]
PER_TOKEN: Final[dict[Formula, float]] = {"arxiv": 3.0, "iclr": 1.5}  # of pretraining, 6 / (Y/P)


def generations(scale: float, ratio: float, formula: Formula = "arxiv") -> float:
    """Returns the small model's generations that cost as much as a greedy answer of the large one.

    Args:
      scale: M, the large model's parameters over the small one's.
      ratio: R = D_inf / D_pre, tokens inferred over tokens trained on.
      formula: whether the verifier is charged; see above.

    Raises:
      UserError: M below 1, or R not above 0.
    """
    if scale < 1 or not 0 < ratio < math.inf:
        raise UserError(f"flops_match: M={scale:g} must be at least 1 and R={ratio:g} positive")
    return scale + PER_TOKEN[formula] / ratio * (scale - 1)


@dataclasses.dataclass(frozen=True)
class Match:
    """Both sides at the same FLOPs, in one difficulty bin or over all questions.

    Attributes:
      small: accuracy of the small model with the compute-optimal policy.
      large: of the large model's greedy answers.
      difference: small − large.
      relative: (small − large) / large; None where the large model is never right.
    """

    small: Estimate
    large: Estimate
    difference: Estimate
    relative: Estimate | None


def match(
    table: AccuracyTable,
    binning: Binning,
    large: Mapping[str, float],
    spent: Sequence[float],
    *,
    seed: int = 0,
    count: int = 1000,
) -> list[list[Match]]:
    """Returns for each of `spent` the comparison over all questions, then by bin, easiest first.

    Between two budgets the policy's accuracy is read by log2 N; beyond the largest it is that of
    the largest, which favours the large model.

    Args:
      table: of the small model.
      binning, seed, count: see `policy.resamples`.
      large: question -> accuracy of the large model's greedy answer.
      spent: generations of the small model, such as cost as much: see `generations`.

    Raises:
      UserError: a question that the large model did not answer, and as `policy.resamples`.
    """
    if missing := [question for question in table.questions if question not in large]:
        raise UserError(f"flops_match: the large model did not answer {missing[0]!r}")
    greedy = np.array([large[question] for question in table.questions])
    drawn = list(resamples(table, binning, seed=seed, count=count))
    sizes = np.array([x.inside.sum(1) for x in drawn])
    with np.errstate(invalid="ignore"):
        theirs = np.array([x.inside @ greedy for x in drawn]) / sizes
    return [
        _matches(
            np.array([[at_budget(row, table.budgets, n) for row in x.by_bin] for x in drawn]),
            theirs,
            sizes / sizes.sum(1, keepdims=True),
        )
        for n in spent
    ]


def _matches(
    small: NDArray[np.float64], theirs: NDArray[np.float64], shares: NDArray[np.float64]
) -> list[Match]:
    """From the accuracies of both in every draw and bin, and the bins' shares, [draws, bins]."""
    small, theirs = (
        np.concatenate([(np.nan_to_num(x) * shares).sum(1, keepdims=True), x], 1)
        for x in (small, theirs)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(theirs > 0, (small - theirs) / theirs, np.nan)
    columns = zip(estimates(small), estimates(theirs), estimates(small - theirs), strict=True)
    return [
        Match(*column, None if np.isnan(x).any() else estimates(x[:, None])[0])
        for column, x in zip(columns, relative.T, strict=True)
    ]


def at_budget(accuracy: Sequence[float], budgets: Sequence[int], spent: float) -> float:
    """A curve between its budgets, by log2 N; its ends beyond them."""
    spent = min(max(spent, budgets[0]), budgets[-1])
    return float(np.interp(math.log2(spent), np.log2(budgets), accuracy))
