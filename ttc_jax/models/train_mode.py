"""How a model runs while it is trained: an argument of the call, so that models hold no state."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainMode:
    """Dropout and rematerialisation; a model that is called without a mode drops nothing.

    Attributes:
      key: what is dropped depends on it alone.
      dropout: chance of each feature of a residual branch to be dropped.
      remat: blocks are computed anew in the backward pass instead of being kept.
    """

    key: Key[Array, ""]
    dropout: float = dataclasses.field(default=0.0, metadata={"static": True})
    remat: bool = dataclasses.field(default=False, metadata={"static": True})

    def at(self, place: int | Array) -> TrainMode:
        """The mode of one layer or one part of a batch, with draws of its own."""
        return dataclasses.replace(self, key=jax.random.fold_in(self.key, place))

    def drop(self, x: Float[Array, "*B"], place: int) -> Float[Array, "*B"]:
        """`x` with some features 0, and the others scaled up so that its mean stays."""
        if self.dropout == 0.0:
            return x
        kept = jax.random.bernoulli(self.at(place).key, 1 - self.dropout, x.shape)
        return jnp.where(kept, x / (1 - self.dropout), 0.0)
