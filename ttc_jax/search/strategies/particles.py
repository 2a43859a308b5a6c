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
        odds = log_odds(scores) / self.temperature
        weights = jax.nn.softmax(jnp.where(active, odds, -jnp.inf))
        return drawn(weights, active, jax.random.uniform(key, scores.shape))

    def check(self, candidates: int) -> None:
        """Refuses a τ that is not positive."""
        del candidates
        if not self.temperature > 0:
            raise UserError(
                f"search.options.temperature is {self.temperature}; it must be more than 0"
            )


def log_odds(scores: Float[Array, " N"]) -> Float[Array, " N"]:
    """Returns logit(score); scores of 0 and 1, which have none, are moved a millionth."""
    chance = jnp.clip(scores, 1e-6, 1 - 1e-6)
    return jnp.log(chance) - jnp.log1p(-chance)


def drawn(
    weights: Float[Array, " N"], active: Bool[Array, " N"], at: Float[Array, " N"]
) -> Int[Array, " N"]:
    """Returns the active rows that stand at places, 0 to 1, of the cumulative distribution."""
    total = jnp.cumsum(weights)
    found = jnp.searchsorted(total, at * total[-1], "right")
    last = jnp.where(active, jnp.arange(len(weights)), 0).max()  # rounding cannot pass it
    return jnp.minimum(found, last)
