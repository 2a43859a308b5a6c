"""The device mesh and the one table that says how parameters lie over it.

Axes: `data` splits questions, or the rows of a training batch; `model` splits heads, ffn and
vocabulary. The candidates of a question stay together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from flax import nnx
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ttc_jax.errors import UserError

P = PartitionSpec
M = TypeVar("M")

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
# Parameters with an axis of key/value heads, where that is, and with it what belongs to each head:
# its G queries, and perhaps its key and its value. See `copied`.
HEADS: tuple[tuple[str, int, bool], ...] = (
    (r".*\.attention\.qkv", 1, True),
    (r".*\.attention\.qkv_bias", 0, True),
    (r".*\.attention\.out", 0, False),
)
# Arrays of a `KVCache`, by their number of axes: prompts [B, K, ...], suffixes [B, N, K, ...].
CACHES = {4: P("data", "model"), 5: P("data", None, "model")}


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


def copied(name: str, x: M, mesh: Mesh | None) -> M:
    """The parameter called `name` with as many key/value heads as `model` can divide.

    Where there are fewer, every head is copied for as many devices as share its queries, so that a
    device holds the heads that its own queries read; each copy keeps an equal part of the queries.
    The model computes the same. Two key/value heads of four queries each, over model=4:

        k0: q0 q1 q2 q3   k1: q4 q5 q6 q7     ->   k0: q0 q1   k0: q2 q3   k1: q4 q5   k1: q6 q7

    Args:
      x: an array of NumPy or JAX.

    Raises:
      UserError: the mesh does not divide the query heads either.
    """
    for pattern, axis, with_kv in HEADS:
        if mesh is not None and re.fullmatch(pattern, name):
            K, G = x.shape[axis], x.shape[axis + 1] - 2 * with_kv
            if (K * G) % mesh.shape["model"]:
                raise UserError(
                    f"mesh model={mesh.shape['model']} does not divide the {K * G} query heads of "
                    f"the model ({name}); choose a divisor of {K * G}"
                )
            each = copies(K, mesh)
            if each == 1:
                return x
            head, part = np.divmod(np.arange(K * each), each)
            queries = part[:, None] * (G // each) + np.arange(G // each)
            rest = np.tile([G, G + 1] if with_kv else [], (K * each, 1)).astype(int)
            return x[(slice(None),) * axis + (head[:, None], np.concatenate([queries, rest], 1))]
    return x


def copies(kv_heads: int, mesh: Mesh | None) -> int:
    """How many devices hold each key/value head, with a part of its queries."""
    model = mesh.shape["model"] if mesh is not None else 1
    return model // math.gcd(kv_heads, model)


def place(module: M, mesh: Mesh | None) -> M:
    """The module with its parameters laid over the mesh, key/value heads `copied` where need be.

    Parameters that lie there already stay; of an outline (`parameters.outline`) it gives the
    outline with shardings, for any mesh, also of devices that are not there.

    Raises:
      UserError: the mesh does not divide it.
    """
    if mesh is None:
        return module

    def lay(name: str, x: Any) -> Any:
        if isinstance(x, jax.ShapeDtypeStruct):
            like = jax.eval_shape(lambda x: copied(name, x, mesh), x)
            target = sharding(name, like.shape, mesh)
            return jax.ShapeDtypeStruct(like.shape, like.dtype, sharding=target)
        x = copied(name, x, mesh)
        return jax.device_put(x, sharding(name, x.shape, mesh))

    graph, state = nnx.split(module)
    placed = nnx.from_flat_state(
        (path, variable.replace(lay(".".join(map(str, path)), variable.get_value())))
        for path, variable in nnx.to_flat_state(state)
    )
    return nnx.merge(graph, placed)


def split_heads(x: jax.Array) -> jax.Array:
    """An array of a `KVCache`, as one shard of `data` sees it, its heads over `model`."""
    if jax.sharding.get_abstract_mesh().shape.get("model", 1) == 1:
        return x
    return lax.with_sharding_constraint(x, P(None, *CACHES[x.ndim][1:]))
