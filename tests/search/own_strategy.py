"""A strategy of a user's own, as the README would have it."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ttc_jax.search.strategies import Strategy


@dataclasses.dataclass(frozen=True)
class KeepFirst(Strategy):
    """All rows go on from the first one that is `above` a score, else from the first."""

    above: float = 0.0

    def select(
        self, scores: Float[Array, " N"], active: Bool[Array, " N"], key: jax.Array
    ) -> Int[Array, " N"]:
        del key
        good = active & (scores > self.above)
        return jnp.full(scores.shape, jnp.where(good.any(), good.argmax(), active.argmax()))


@dataclasses.dataclass(frozen=True)
class Returns(KeepFirst):
    """What is taken for row numbers by mistake."""

    what: str = "one row"

    def select(
        self, scores: Float[Array, " N"], active: Bool[Array, " N"], key: jax.Array
    ) -> Array:
        rows = super().select(scores, active, key)
        return {"one row": rows[0], "mask": scores > 0, "scores": scores, "fewer": rows[1:]}[
            self.what
        ]


@dataclasses.dataclass
class Thawed(Strategy):
    """No key of a compiled program."""

    def select(
        self, scores: Float[Array, " N"], active: Bool[Array, " N"], key: jax.Array
    ) -> Int[Array, " N"]:
        del active, key
        return jnp.arange(len(scores))
