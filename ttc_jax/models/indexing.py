"""Rows and slots by their numbers, which are never negative.

So they are neither wrapped around nor masked, as NumPy's rules would have it: those were a quarter
of a search's operations, and as much of the time it takes to compile.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Int


def take_along(x: Array, index: Int[Array, ...], axis: int = -1) -> Array:
    """`jnp.take_along_axis`, with every index in 0 … size of the axis - 1."""
    return jnp.take_along_axis(x, index, axis, mode="promise_in_bounds")


def take_rows(x: Array, rows: Int[Array, "B W"]) -> Array:
    """[B, N, ...] -> [B, W, ...]: of each question these rows."""
    return take_along(x, jnp.expand_dims(rows, tuple(range(2, x.ndim))), 1)


def take_slots(x: Array, slots: Int[Array, " G"]) -> Array:
    """[B, ...] -> [G, ...]; a slot beyond B shows the last one."""
    return x.at[slots].get(mode="clip", wrap_negative_indices=False)


def put_slots(x: Array, new: Array, slots: Int[Array, " G"]) -> Array:
    """`x` with what `take_slots` took replaced, the slots rising; those beyond B are dropped."""
    return x.at[slots].set(
        new,
        mode="drop",
        indices_are_sorted=True,
        unique_indices=True,
        wrap_negative_indices=False,
    )
