"""How hard questions are for a generator (paper §3.2)."""

from __future__ import annotations

from collections.abc import Mapping

BINS = 5


def quantile_bins(values: Mapping[str, float], bins: int = BINS) -> dict[str, int]:
    """Questions in groups of equal size, 0 the easiest.

    Args:
      values: a question's pass@1, or another number that is the higher the easier it is. Questions
        of equal value are told apart by their ids, so that bins stay equal in size.
      bins: number of groups.
    """
    order = sorted(values, key=lambda question: (-values[question], question))
    return {question: place * bins // len(order) for place, question in enumerate(order)}
