"""Answers that may differ from the gold ones by a tolerance, as some questions say."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from fractions import Fraction

from ttc_jax.tasks.numerals import number
from ttc_jax.tasks.spelling import respell, strip

_SLACK = Fraction(1, 10**9)  # of a tolerance, which is itself a rounded decimal
_COMMA = re.compile(r",(?!\d{3}(?!\d))\s*|\s*\b(?:and|or)\b\s*")


def within(gold: str, answer: str, tolerances: Sequence[float]) -> bool:
    """Returns whether numerals differ from the gold ones by no more than a tolerance each.

    Lists match in any order; what is no numeral is not within anything.

    Args:
        tolerances: absolute, of each gold numeral, or one for all.
    """
    golds, found = _numerals(gold), _numerals(answer)
    if None in golds or None in found or not len(golds) == len(found) == len({*golds}):
        return False
    if len(tolerances) not in (1, len(golds)):
        return False
    every = list(tolerances) * (len(golds) if len(tolerances) == 1 else 1)
    left = [value for value in found if value is not None]
    for value, tolerance in sorted(zip(golds, every, strict=True), key=lambda pair: pair[1]):
        near = [x for x in left if value is not None and _near(value, x, tolerance)]
        if not near:
            return False
        left.remove(near[0])
    return True


def read_tolerances(text: str) -> tuple[float, ...]:
    """Returns the tolerances in a text like `0.01` or `0.1,,1e-2`; ValueError for another one."""
    found = tuple(float(part) if part.strip() else 0.0 for part in text.split(","))
    if not all(math.isfinite(tolerance) and tolerance >= 0 for tolerance in found):
        raise ValueError(f"no tolerance: {text}")
    return found


def _numerals(text: str) -> list[Fraction | None]:
    return [number(respell(strip(part))) for part in _COMMA.split(text)]


def _near(value: Fraction, other: Fraction, tolerance: float) -> bool:
    return abs(value - other) <= Fraction(tolerance) * (1 + _SLACK)
