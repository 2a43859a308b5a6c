"""Programs over a mesh: every shard of `data` runs one by itself, on its own questions.

Nothing is exchanged over `data`, so that a shard's loops end when its own questions do, and what a
question computes has the shapes, and so the bits, that it has on one device. What `model` splits is
exchanged by the compiler. A mesh of None stands for one device throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ttc_jax.models.cache import KVCache
from ttc_jax.sharding.mesh import CACHES

T = TypeVar("T")
WHOLE, ROWS = PartitionSpec(), PartitionSpec("data")  # alike everywhere; split by the first axis


def program(run: Callable[..., Any], mesh: Mesh | None, **options: Any) -> Any:
    """`run(shared, *rows)`, compiled: every shard runs it on its own part of `rows`.

    Args:
      run: `rows` and what it returns have the questions as their first axis; `shared` is alike for
        all shards.
      options: of `jax.jit`.
    """
    if mesh is None:
        return jax.jit(run, **options)

    def split(shared: Any, *rows: Any) -> Any:
        shard = jax.shard_map(
            run,
            mesh=mesh,
            in_specs=(WHOLE, *(ROWS for _ in rows)),
            out_specs=ROWS,
            axis_names={"data"},
            check_vma=False,
        )
        return laid(shard(shared, *rows), mesh)

    split.__name__ = run.__name__
    return jax.jit(split, **options)


def shards(mesh: Mesh | None) -> int:
    """How many there are."""
    return mesh.shape["data"] if mesh is not None else 1


def places(tree: Any, mesh: Mesh) -> Any:
    """Where arrays of B questions lie: B over `data`, and of caches K over `model`."""

    def place(x: Any) -> Any:
        specs = CACHES if isinstance(x, KVCache) else {}
        return jax.tree.map(lambda array: NamedSharding(mesh, specs.get(array.ndim, ROWS)), x)

    return jax.tree.map(place, tree, is_leaf=lambda x: isinstance(x, KVCache))


def laid(tree: T, mesh: Mesh | None) -> T:
    """Arrays of B questions, inside a program, where `places` says."""
    return tree if mesh is None else lax.with_sharding_constraint(tree, places(tree, mesh))


def put(tree: Any, mesh: Mesh | None, spec: PartitionSpec = WHOLE) -> Any:
    """Arrays of the host on the devices."""
    return jax.device_put(tree, None if mesh is None else NamedSharding(mesh, spec))


def abstract(
    shape: Sequence[int], dtype: Any, mesh: Mesh | None, spec: PartitionSpec = WHOLE
) -> jax.ShapeDtypeStruct:
    """What `put` gives, as a shape with its sharding."""
    target = None if mesh is None else NamedSharding(mesh, spec)
    return jax.ShapeDtypeStruct(shape, dtype, sharding=target)


def outcome(run: Callable[..., Any], mesh: Mesh | None, *arguments: Any) -> Any:
    """What a program makes of B questions, as shapes with their shardings; nothing is computed."""
    shapes = jax.eval_shape(run, *arguments)
    if mesh is None:
        return shapes
    return jax.tree.map(
        lambda x, target: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=target),
        shapes,
        places(shapes, mesh),
    )
