"""Sequential Monte Carlo: rows are redrawn only once their weights have become uneven."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ttc_jax.errors import UserError
from ttc_jax.search.strategies.particles import ParticleFilter, drawn, log_odds
from ttc_jax.search.strategies.strategy import places
from ttc_jax.search.strategies.view import View


@dataclasses.dataclass(frozen=True)
class SMC(ParticleFilter):
    """Particle filtering with an effective sample size and systematic draws (Doucet et al., 2001).

    A row's weight is the product of its odds ** (1 / τ) since rows were last redrawn.

    Attributes:
      threshold: rows are redrawn where the effective sample size, 1 / Σ weight², is less than
        this share of the active rows.
    """

    threshold: float = 0.5

    def init(self, candidates: int) -> Float[Array, " N"]:
        """Returns the logarithms of equal weights."""
        return jnp.zeros(candidates)

    def update(
        self, view: View, state: Float[Array, " N"], key: jax.Array
    ) -> tuple[Int[Array, " N"], Float[Array, " N"]]:
        """Draws with one random number, so that a row's share is rounded up or down."""
        active, rows = view.active, view.active.sum().astype(jnp.float32)
        state += log_odds(view.scores) / self.temperature
        weights = jax.nn.softmax(jnp.where(active, state, -jnp.inf))
        uneven = 1 / jnp.square(weights).sum() < self.threshold * rows
        at = (places(active).astype(jnp.float32) + jax.random.uniform(key)) / rows
        parents = jnp.where(uneven, drawn(weights, active, at), jnp.arange(len(active)))
        return parents, jnp.where(uneven, 0.0, state)

    def check(self, candidates: int) -> None:
        """Refuses a τ that is not positive, and a threshold that is no share."""
        super().check(candidates)
        if not 0 <= self.threshold <= 1:
            raise UserError(
                f"search.options.threshold is {self.threshold}; it must lie in 0 to 1, a share of "
                "the candidates"
            )
