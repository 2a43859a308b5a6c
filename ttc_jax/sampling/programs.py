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
    """Compiles `run(shared, *rows)`: every shard runs it on its own part of `rows`.

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
    """Returns the number of shards of a mesh's `data`."""
    return mesh.shape["data"] if mesh is not None else 1


def places(tree: Any, mesh: Mesh) -> Any:
    """Returns the shardings of arrays of B questions: B over `data`, of caches K over `model`."""

    def place(x: Any) -> Any:
        specs = CACHES if isinstance(x, KVCache) else {}
        return jax.tree.map(lambda array: NamedSharding(mesh, specs.get(array.ndim, ROWS)), x)

    return jax.tree.map(place, tree, is_leaf=lambda x: isinstance(x, KVCache))


def laid(tree: T, mesh: Mesh | None) -> T:
    """Puts arrays of B questions, inside a program, where `places` says."""
    return tree if mesh is None else lax.with_sharding_constraint(tree, places(tree, mesh))


def put(tree: Any, mesh: Mesh | None, spec: PartitionSpec = WHOLE) -> Any:
    """Puts arrays of the host on the devices."""
    return jax.device_put(tree, None if mesh is None else NamedSharding(mesh, spec))


def abstract(
    shape: Sequence[int], dtype: Any, mesh: Mesh | None, spec: PartitionSpec = WHOLE
) -> jax.ShapeDtypeStruct:
    """Returns what `put` gives, as a shape with its sharding."""
    target = None if mesh is None else NamedSharding(mesh, spec)
    return jax.ShapeDtypeStruct(shape, dtype, sharding=target)


def result_shapes(run: Callable[..., Any], mesh: Mesh | None, *arguments: Any) -> Any:
    """Returns what a program makes of B questions as shapes with shardings, without running it."""
    shapes = jax.eval_shape(run, *arguments)
    if mesh is None:
        return shapes
    return jax.tree.map(
        lambda x, target: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=target),
        shapes,
        places(shapes, mesh),
    )
