"""The device mesh and the one table that says how parameters lie over it.

Axes: `data` splits questions, or the rows of a training batch; `model` splits heads, ffn and
vocabulary. The candidates of a question stay together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ttc_jax.errors import UserError

P = PartitionSpec

# Name of a parameter -> what of it each mesh axis splits, and the word for that. First match wins.
RULES: tuple[tuple[str, PartitionSpec, str], ...] = (
    (r"(.*\.)?embedding", P("model", None), "vocabulary entries"),
    (r"(.*\.)?head", P(None, "model"), "vocabulary entries"),
    (r".*\.attention\.qkv", P(None, "model", None, None), "key/value heads"),
    (r".*\.attention\.qkv_bias", P("model", None, None), "key/value heads"),
    (r".*\.attention\.out", P("model", None, None, None), "key/value heads"),
    (r".*\.ffn\.gate_up", P(None, None, "model"), "ffn features"),
    (r".*\.ffn\.gate_up_bias", P(None, "model"), "ffn features"),
    (r".*\.ffn\.down", P("model", None), "ffn features"),
    (r".*", P(), ""),  # norms, biases of width D, small heads: a copy on every device
)


def make_mesh(data: int, model: int, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of `data` × `model` devices, all of them unless `devices` are given.

    Raises:
      UserError: as many devices as the mesh needs are not there, or an axis is shorter than 1.
    """
    devices = jax.devices() if devices is None else devices
    if data < 1 or model < 1 or data * model != len(devices):
        raise UserError(
            f"mesh data={data} × model={model} needs {data * model} devices; "
            f"there are {len(devices)}"
        )
    return jax.make_mesh(
        (data, model), ("data", "model"), axis_types=(AxisType.Auto,) * 2, devices=devices
    )


def sharding(name: str, shape: Sequence[int], mesh: Mesh) -> NamedSharding:
    """Where the parameter called `name` lies.

    Raises:
      UserError: the mesh does not divide it.
    """
    spec, word = next((s, w) for pattern, s, w in RULES if re.fullmatch(pattern, name))
    for size, axis in zip(shape, spec, strict=False):
        if axis is not None and size % mesh.shape[axis]:
            raise UserError(
                f"mesh {axis}={mesh.shape[axis]} does not divide the {size} {word} of the model "
                f"({name}); choose a divisor of {size}"
            )
    return NamedSharding(mesh, spec)


def shardings(state: nnx.State, mesh: Mesh) -> nnx.State:
    """Each parameter's `NamedSharding` in its place, for `jax.jit` and the like."""
    return nnx.from_flat_state(
        (path, variable.replace(sharding(".".join(map(str, path)), variable.shape, mesh)))
        for path, variable in nnx.to_flat_state(state)
    )
