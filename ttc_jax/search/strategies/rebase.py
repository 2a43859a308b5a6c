"""REBASE: continuations in proportion to how good the verifier finds each candidate."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ttc_jax.errors import UserError
from ttc_jax.search.strategies.strategy import Strategy, places


@dataclasses.dataclass(frozen=True)
class Rebase(Strategy):
    """Reward-balanced search (Wu et al., 2024): counts in proportion to softmax(score / τ).

    Attributes:
      temperature: τ; the lower, the more the best candidate gets.
    """

    temperature: float = 0.2

    def select(
        self, scores: Float[Array, " N"], active: Bool[Array, " N"], key: jax.Array
    ) -> Int[Array, " N"]:
        """Shares out whole counts by the largest remainder; of equal ones, the first row's."""
        del key
        weights = jax.nn.softmax(jnp.where(active, scores / self.temperature, -jnp.inf))
        rows = active.sum()
        fair = weights * rows.astype(weights.dtype)
        counts = jnp.floor(fair).astype(jnp.int32)
        left = rows - counts.sum()
        remainder = jnp.where(active, fair - counts.astype(fair.dtype), -1.0)
        order = jnp.argsort(-remainder, stable=True)
        counts = counts.at[order].add((jnp.arange(len(scores)) < left).astype(jnp.int32))
        return jnp.searchsorted(jnp.cumsum(counts), places(active), side="right")

    def check(self, candidates: int) -> None:
        """Refuses a τ that is not positive."""
        del candidates
        if not self.temperature > 0:
            raise UserError(
                f"search.options.temperature is {self.temperature}; it must be more than 0"
            )
