"""Particle filtering: rows are redrawn in proportion to their odds of success."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ttc_jax.errors import UserError
from ttc_jax.search.strategies.strategy import Strategy


@dataclasses.dataclass(frozen=True)
class ParticleFilter(Strategy):
    """Resampling by softmax(logit(score) / τ) (Puri et al., 2025), with replacement.

    Attributes:
      temperature: τ; 1 draws in proportion to the odds.
    """

    temperature: float = 1.0

    def select(
        self, scores: Float[Array, " N"], active: Bool[Array, " N"], key: jax.Array
    ) -> Int[Array, " N"]:
        """Draws once for each row, by the inverse of the cumulative distribution."""
        chance = jnp.clip(scores, 1e-6, 1 - 1e-6)
        odds = (jnp.log(chance) - jnp.log1p(-chance)) / self.temperature
        total = jnp.cumsum(jax.nn.softmax(jnp.where(active, odds, -jnp.inf)))
        drawn = jnp.searchsorted(total, jax.random.uniform(key, scores.shape) * total[-1], "right")
        last = jnp.where(active, jnp.arange(len(scores)), 0).max()  # rounding cannot pass it
        return jnp.minimum(drawn, last)

    def check(self, candidates: int) -> None:
        """Refuses a τ that is not positive."""
        del candidates
        if not self.temperature > 0:
            raise UserError(
                f"search.options.temperature is {self.temperature}; it must be more than 0"
            )
