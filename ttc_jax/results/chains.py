"""Along chains of revisions: accuracy by position, and answers that flip (paper section 6.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ttc_jax.errors import UserError
from ttc_jax.results.curves import Estimate, bootstrap, bootstrap_of
from ttc_jax.results.store import Record

FLIPS: Final = ("right_to_wrong", "wrong_to_right")
AFRESH: Final = "wrong_to_right_afresh"


def pass_at_1_by_position(records: Sequence[Record], seed: int = 0) -> list[Estimate]:
    """Accuracy of the first, second, … answer of a chain, over chains and questions.

    Args:
        records: of chains equally long.
        seed: of the bootstrap over questions.

    Raises:
        UserError: no record, or chains of different lengths.
    """
    by_question = [chains.mean(0) for chains in _correct(records).values()]
    return bootstrap(np.array(by_question), seed)


def flips(records: Sequence[Record], seed: int = 0) -> dict[str, Estimate | None]:
    """How often a revision makes a right answer wrong, and a wrong one right.

    Returns:
        Shares of the pairs of consecutive answers whose first is right, and wrong; None where there
        is no such pair. `AFRESH` is what revising is to be compared with: behind the same wrong
        answers, how often another chain's first answer to the question is right.

    Raises:
        UserError: as `pass_at_1_by_position`.
    """
    questions = _correct(records).values()
    pairs = [(x[:, :-1].ravel(), x[:, 1:].ravel()) for x in questions]
    found: dict[str, Estimate | None] = {}
    for name, was in zip(FLIPS, (1, 0), strict=True):
        counts = [((a == was).sum(), ((a == was) & (b != was)).sum()) for a, b in pairs]
        found[name] = _ratio(np.array(counts, np.float64), seed)
    found[AFRESH] = _ratio(np.array([_afresh(x) for x in questions]), seed)
    return found


def summarise_chains(records: Sequence[Record], seed: int = 0) -> dict[str, Any]:
    """Both, as plain data for summary.json. Raises as they do."""
    return {
        "pass_at_1_by_position": [x.rounded() for x in pass_at_1_by_position(records, seed)],
        "flips": {name: x and x.rounded() for name, x in flips(records, seed).items()},
    }


def _afresh(right: NDArray[np.float64]) -> tuple[float, float]:
    """Wrong answers that were revised, and how many of them another chain's first would mend.

    Args:
        right: [chains, s].
    """
    if len(right) == 1:
        return 0.0, 0.0  # there is no other chain
    wrong, first = (1 - right[:, :-1]).sum(1), right[:, 0]
    others = (first.sum() - first) / (len(right) - 1)
    return float(wrong.sum()), float((wrong * others).sum())


def _correct(records: Sequence[Record]) -> dict[str, NDArray[np.float64]]:
    """Question -> [chains, s], 1.0 where an answer is right; seeds together."""
    if len(lengths := {record.sequential for record in records}) != 1:
        raise UserError(f"results: chains must be of one length, not {sorted(lengths) or 'none'}")
    [s] = lengths
    found: dict[str, list[NDArray[np.float64]]] = {}
    for record in sorted(records, key=lambda record: record.key):
        right = np.array([candidate.correct for candidate in record.candidates], np.float64)
        found.setdefault(record.question, []).append(right.reshape(-1, s))
    return {question: np.concatenate(chains) for question, chains in found.items()}


def _ratio(counts: NDArray[np.float64], seed: int) -> Estimate | None:
    """Sum of the second column over the sum of the first, with questions resampled."""

    def ratio(totals: NDArray[np.float64]) -> NDArray[np.float64]:
        pairs = np.where(totals[..., :1] > 0, totals[..., :1], np.nan)
        return totals[..., 1:] / pairs

    [estimate] = bootstrap_of(counts, ratio, seed)
    return estimate
