"""Numbers in int8: weights with one scale an output, keys and values with one a token and head.

    x ≈ values · scale,    |x - values · scale| ≤ scale / 2

Products take the values as they are, so that no more than these is read, and what comes out is
scaled. Scales have the dtype in which the model computes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int8

from ttc_jax.errors import UserError

INT8 = "int8"
KINDS = ("", INT8)  # of weights and caches, as configs name them; "": as `dtype` says
M = TypeVar("M", bound=nnx.Module)
_MOST = 127
# Name of a matrix -> axes that a product sums over. All else is small, and stays as it is.
_INPUTS: tuple[tuple[str, tuple[int, ...]], ...] = (
    (r"(.*\.)?embedding", (1,)),
    (r"(.*\.)?head", (0,)),
    (r".*\.attention\.qkv", (0,)),
    (r".*\.attention\.out", (0, 1, 2)),
    (r".*\.ffn\.gate_up", (0,)),
    (r".*\.ffn\.down", (0,)),
)


def wanted(kind: str) -> bool:
    """Whether the word for how weights or a cache are kept says int8.

    Raises:
      UserError: it is none of `KINDS`.
    """
    if kind not in KINDS:
        raise UserError(f"weights and caches are kept in int8 or, by '', as dtype says, not {kind}")
    return kind == INT8


def quantise(
    x: Float[Array, "*B"], axes: tuple[int, ...], dtype: jax.typing.DTypeLike | None = None
) -> tuple[Int8[Array, "*B"], Float[Array, "*B"]]:
    """Values of the shape of `x`, and their scales, whose `axes` are 1 long.

    Args:
      axes: numbers along these share a scale.
      dtype: of the scales; that of `x`, if None.
    """
    wide = x.astype(jnp.float32)
    scale = (jnp.abs(wide).max(axes, keepdims=True) / _MOST).astype(dtype or x.dtype)
    unit = scale.astype(jnp.float32)  # as it is rounded
    values = jnp.round(wide / jnp.where(unit == 0, 1.0, unit))
    return jnp.clip(values, -_MOST, _MOST).astype(jnp.int8), scale


def is_matrix(name: str) -> bool:
    """Whether int8 weights have the parameter called `name` in int8."""
    return bool(_inputs(name))


def split(name: str, x: Array, dtype: jax.typing.DTypeLike) -> dict[str, Array]:
    """A parameter as int8 weights have it: of a matrix its values, and its scales as "…_scale"."""
    if not (axes := _inputs(name)):
        return {name: x}
    values, scale = _quantise(x, axes, jnp.dtype(dtype))
    return {name: values, f"{name}_scale": scale.squeeze(axes)}


def quantised(module: M) -> M:
    """The module, changed in place, with int8 weights."""
    for path, node in list(nnx.iter_modules(module)):
        for field, matrix in list(vars(node).items()):
            name = ".".join(map(str, (*path, field)))
            if isinstance(matrix, nnx.Param) and is_matrix(name):
                x = matrix[...]
                for whole, array in split(name, x, x.dtype).items():
                    part = whole.rpartition(".")[2]
                    setattr(node, part, nnx.data(nnx.Param(array)))
    return module


def _inputs(name: str) -> tuple[int, ...]:
    return next((axes for pattern, axes in _INPUTS if re.fullmatch(pattern, name)), ())


_quantise = jax.jit(quantise, static_argnums=(1, 2))


class Stored(NamedTuple):
    """Keys or values as a cache holds them: as they came, or in int8."""

    values: Array
    # Slots are its last axis, along which a TPU keeps arrays in tiles of 128.
    scale: Array | None = None

    @classmethod
    def of(cls, x: Float[Array, "*B S h"], *, int8: bool) -> Stored:
        """Vectors of S slots; of int8 the scales are [*B, 1, S]."""
        if not int8:
            return cls(x)
        values, scale = quantise(x, (-1,))
        return cls(values, scale.swapaxes(-1, -2))

    def each(self, f: Callable[..., Array], *others: Stored) -> Stored:
        """`f(arrays, axis=…)` of a suffix's values, then of its scales: `axis` is that of slots."""
        values = f(self.values, *(x.values for x in others), axis=3)
        if self.scale is None:
            return Stored(values)
        return Stored(values, f(self.scale, *(x.scale for x in others), axis=4))
