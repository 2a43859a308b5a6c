"""Beam search against the verifier: keep the best N / M candidates, continue each M times."""

from __future__ import annotations

import dataclasses
import math

import jax
from jaxtyping import Array, Bool, Float, Int

from ttc_jax.errors import UserError
from ttc_jax.search.strategies.strategy import Strategy, places, ranked


@dataclasses.dataclass(frozen=True)
class Beam(Strategy):
    """Beam search (paper §5.1).

    Attributes:
      width: M, continuations of each candidate that is kept; 0 means √N, the paper's other choice.
    """

    width: int = 4

    def select(
        self, scores: Float[Array, " N"], active: Bool[Array, " N"], key: jax.Array
    ) -> Int[Array, " N"]:
        """Shares the active rows out, M to each of the best."""
        del key
        return ranked(scores, active)[places(active) // continuations(self.width, len(scores))]

    def survivors(self, candidates: int) -> int:
        """Returns N / M."""
        return candidates // continuations(self.width, candidates)

    def check(self, candidates: int) -> None:
        """Refuses an N that M does not divide."""
        check_width(self.width, candidates)


def continuations(width: int, candidates: int) -> int:
    """Returns M: `width`, or √N where it is 0."""
    return width or math.isqrt(candidates)


def check_width(width: int, candidates: int) -> None:
    """Refuses an M below 0, above N, or that does not divide N; and √N where N is no square."""
    if width == 0 and math.isqrt(candidates) ** 2 != candidates:
        raise UserError(
            f"search.options.width=0 means √N, but sampling.n={candidates} is no square; "
            f"choose sampling.n={math.isqrt(candidates) ** 2}, or a width that divides {candidates}"
        )
    if width > candidates:
        raise UserError(
            f"search.options.width={width} (M) is more than sampling.n={candidates}; "
            f"choose at most {candidates}"
        )
    if width < 0 or (width and candidates % width):
        divisors = [m for m in range(1, candidates + 1) if candidates % m == 0]
        raise UserError(
            f"search.options.width={width} (M) does not divide sampling.n={candidates}; choose one "
            f"of {', '.join(map(str, divisors))}, or 0 for √N"
        )
