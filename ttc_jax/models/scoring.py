"""Scores of keys, and their softmax over a part of the keys at a time.

Both are float32 whatever the dtype of the weights and caches.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

# Keys a query must not see score this. Finite, so that a block without any visible key is harmless:
# what it adds is multiplied by exp(HIDDEN - visible) = 0 once the token's own key comes in.
HIDDEN = -1e30


@dataclasses.dataclass(frozen=True)
class Scoring:
    """How a layer turns q·k into a score."""

    scale: float
    softcap: float | None
    window: int | None

    def __call__(self, dots: Array, distance: Array, exists: Array | bool = True) -> Array:
        """Scores of `dots`, hidden where a key lies ahead, is too far back, or does not exist.

        Args:
          dots: q·k, any shape.
          distance: position of the query minus position of the key, broadcastable to `dots`.
          exists: whether the key is there at all, broadcastable to `dots`.
        """
        scores = dots * self.scale
        if self.softcap is not None:
            scores = self.softcap * jnp.tanh(scores / self.softcap)
        visible = (distance >= 0) & exists
        if self.window is not None:
            visible &= distance < self.window
        return jnp.where(visible, scores, HIDDEN)


class Part(NamedTuple):
    """Attention over some of the keys: values summed with the weights exp(score - top)."""

    top: Float[Array, "*B 1"]  # highest score
    mass: Float[Array, "*B 1"]  # sum of the weights
    mixed: Float[Array, "*B h"]

    @classmethod
    def of(cls, scores: Float[Array, "*B s"], mix: Callable[[Array], Array]) -> Part:
        """Softmax of `scores`, not yet divided by its sum; `mix` sums the values."""
        top = scores.max(axis=-1, keepdims=True)
        weights = jnp.exp(scores - top)
        return cls(top, weights.sum(axis=-1, keepdims=True), mix(weights))

    def merge(self, other: Part) -> Part:
        """Attention over the keys of both."""
        top = jnp.maximum(self.top, other.top)
        mine, theirs = jnp.exp(self.top - top), jnp.exp(other.top - top)
        mass = self.mass * mine + other.mass * theirs
        return Part(top, mass, self.mixed * mine + other.mixed * theirs)
