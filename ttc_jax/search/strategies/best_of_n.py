"""Best-of-N: N answers, each written to its end; a selection rule chooses among them afterwards."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ttc_jax.search.strategies.strategy import Strategy


@dataclasses.dataclass(frozen=True)
class BestOfN(Strategy):
    """Samples N answers without any search (paper §5.1)."""

    stops_at_steps = False

    def select(
        self, scores: Float[Array, " N"], active: Bool[Array, " N"], key: jax.Array
    ) -> Int[Array, " N"]:
        """Lets every row go on by itself."""
        del active, key
        return jnp.arange(scores.shape[0])
