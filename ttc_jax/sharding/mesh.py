"""The device mesh and the one table that says how parameters lie over it.

Axes: `data` splits questions, or the rows of a training batch; `model` splits heads, ffn and
vocabulary. The candidates of a question stay together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import jax
import numpy as np
from flax import nnx
from jax import lax
from jax.experimental.layout import Format, Layout
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ttc_jax.errors import UserError

P = PartitionSpec
M = TypeVar("M")
Part = tuple[slice, ...]  # of an array, every slice with a start and a stop

# Name of a parameter -> what of it each mesh axis splits, and the word for that. First match wins.
RULES: tuple[tuple[str, PartitionSpec, str], ...] = (
    (r"(.*\.)?embedding", P("model", None), "vocabulary entries"),
    (r"(.*\.)?head", P(None, "model"), "vocabulary entries"),
    (r"(.*\.)?(embedding|head)_scale", P("model"), "vocabulary entries"),
    (r".*\.attention\.qkv", P(None, "model", None, None), "key/value heads"),
    (r".*\.attention\.qkv_(bias|scale)", P("model", None, None), "key/value heads"),
    (r".*\.attention\.out", P("model", None, None, None), "key/value heads"),
    (r".*\.ffn\.gate_up", P(None, None, "model"), "ffn features"),
    (r".*\.ffn\.gate_up_(bias|scale)", P(None, "model"), "ffn features"),
    (r".*\.ffn\.down", P("model", None), "ffn features"),
    (r".*", P(), ""),  # norms, biases and scales of width D, small heads: a copy on every device
)
# Parameters with an axis of key/value heads, where that is, and with it what belongs to each head:
# its G queries, and perhaps its key and its value. See `copied`.
HEADS: tuple[tuple[str, int, bool], ...] = (
    (r".*\.attention\.qkv", 1, True),
    (r".*\.attention\.qkv_(bias|scale)", 0, True),
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
            f"there are {len(devices)}: set execution.mesh"
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


def copies(name: str, shape: Sequence[int], mesh: Mesh | None) -> int:
    """How many devices share each key/value head of the parameter called `name`.

    Where `model` does not divide the heads, each is copied so often that it does, and a device
    holds those that its own queries read; 1 for a parameter without such heads.

    Raises:
      UserError: the mesh does not divide the query heads either.
    """
    if mesh is None or (heads := _heads(name)) is None:
        return 1
    axis, with_kv = heads
    K, model = shape[axis], mesh.shape["model"]
    if (H := K * (shape[axis + 1] - 2 * with_kv)) % model:
        raise UserError(
            f"mesh model={model} does not divide the {H} query heads of the model ({name}); "
            f"choose a divisor of {H}"
        )
    return model // math.gcd(K, model)


def copied(name: str, x: Any, count: int) -> Any:
    """The parameter called `name`, or some of its heads, with `count` copies of each.

    Every copy keeps an equal part of the queries, so that the model computes the same. Two heads of
    four queries each, copied twice:

        k0: q0 q1 q2 q3   k1: q4 q5 q6 q7     ->   k0: q0 q1   k0: q2 q3   k1: q4 q5   k1: q6 q7

    Args:
      x: an array of NumPy or JAX.
    """
    if count == 1:
        return x
    axis, with_kv = cast(tuple[int, bool], _heads(name))
    K, G = x.shape[axis], x.shape[axis + 1] - 2 * with_kv
    head, part = np.divmod(np.arange(K * count), count)
    slots = part[:, None] * (G // count) + np.arange(G // count)
    if with_kv:
        slots = np.concatenate([slots, np.tile([G, G + 1], (K * count, 1))], 1)
    return x[(slice(None),) * axis + (head[:, None], slots)]


def part_of_copied(
    name: str, shape: Sequence[int], count: int, part: Part, read: Callable[[Part], np.ndarray]
) -> np.ndarray:
    """A part of what `copied` makes of a parameter, for which no other heads are read.

    Args:
      shape: of the parameter itself.
      part: what is wanted; of a head that is copied, all of its slots.
      read: gives a part of the parameter itself.
    """
    if count == 1:
        return read(part)
    axis, _ = cast(tuple[int, bool], _heads(name))
    wanted = part[axis]
    heads = slice(wanted.start // count, -(-wanted.stop // count))
    found = copied(name, read((*part[:axis], heads, *whole(shape[axis + 1 :]))), count)
    before = heads.start * count
    own = slice(wanted.start - before, wanted.stop - before)
    return found[(slice(None),) * axis + (own,)]


def whole(shape: Sequence[int]) -> Part:
    """All of an array."""
    return tuple(slice(0, size) for size in shape)


def _heads(name: str) -> tuple[int, bool] | None:
    return next(((axis, kv) for pattern, axis, kv in HEADS if re.fullmatch(pattern, name)), None)


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
        count = copies(name, x.shape, mesh)
        if isinstance(x, jax.ShapeDtypeStruct):
            like = jax.eval_shape(lambda x: copied(name, x, count), x)
            target = _in_memory(name, sharding(name, like.shape, mesh))
            return jax.ShapeDtypeStruct(like.shape, like.dtype, sharding=target)
        x = copied(name, x, count)
        return jax.device_put(x, _in_memory(name, sharding(name, x.shape, mesh)))

    graph, state = nnx.split(module)
    placed = nnx.from_flat_state(
        (path, variable.replace(lay(".".join(map(str, path)), variable.get_value())))
        for path, variable in nnx.to_flat_state(state)
    )
    return nnx.merge(graph, placed)


def _in_memory(name: str, target: NamedSharding) -> NamedSharding | Format:
    """Where a parameter lies, with the order of its axes in memory where that is not theirs.

    A TPU keeps arrays in tiles over their last two axes. Of [D, 2, F] it would turn tiles of 2 rows
    into those that a product wants, in a copy of the whole parameter; [2, D, F] is read as it is.
    """
    if not re.fullmatch(r".*\.ffn\.gate_up", name):
        return target
    on_tpu = next(iter(target.device_set)).platform == "tpu"
    return Format(Layout((1, 0, 2)), target) if on_tpu else target


def split_heads(x: jax.Array) -> jax.Array:
    """An array of a `KVCache`, as one shard of `data` sees it, its heads over `model`."""
    if jax.sharding.get_abstract_mesh().shape.get("model", 1) == 1:
        return x
    return lax.with_sharding_constraint(x, P(None, *CACHES[x.ndim][1:]))
