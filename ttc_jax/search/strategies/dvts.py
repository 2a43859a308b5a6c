"""Diverse verifier tree search: N / M trees that do not compete, the best step of each kept."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ttc_jax.search.strategies.beam import check_width, continuations
from ttc_jax.search.strategies.strategy import Strategy


@dataclasses.dataclass(frozen=True)
class DVTS(Strategy):
    """Beam search within groups of M rows, one row selected in each (Beeching et al., 2024).

    Attributes:
      width: M, rows of a tree; 0 means √N.
    """

    width: int = 4

    def select(
        self, scores: Float[Array, " N"], active: Bool[Array, " N"], key: jax.Array
    ) -> Int[Array, " N"]:
        """Lets the active rows of each tree go on from its best one; of equal ones, the first."""
        del key
        N, M = len(scores), continuations(self.width, len(scores))
        best = jnp.where(active, scores, -jnp.inf).reshape(N // M, M).argmax(-1)
        return jnp.repeat(best + jnp.arange(N // M) * M, M)

    def survivors(self, candidates: int) -> int:
        """Returns N / M."""
        return candidates // continuations(self.width, candidates)

    def check(self, candidates: int) -> None:
        """Refuses an N that M does not divide."""
        check_width(self.width, candidates)
