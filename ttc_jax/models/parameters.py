"""The parameters of an NNX module by name, "layers.blocks.0.attention.qkv".

This is the form in which they are loaded, saved and laid out over a mesh.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from flax import nnx

from ttc_jax.errors import UserError
from ttc_jax.models import limits

M = TypeVar("M", bound=nnx.Module)
NAMED_AT_MOST = 10  # problems spelt out in one line


def outline(build: Callable[[], M]) -> M:
    """The module that `build` makes, its arrays shapes and dtypes only: nothing is allocated."""
    return nnx.eval_shape(build)


def named(module: nnx.Module | nnx.State) -> dict[str, Any]:
    """Every parameter by its name, in a fixed order; of an outline, `jax.ShapeDtypeStruct`s."""
    state = module if isinstance(module, nnx.State) else nnx.state(module, nnx.Param)
    return {
        ".".join(map(str, path)): variable.get_value()
        for path, variable in nnx.to_flat_state(state)
    }


def as_state(arrays: Mapping[str, Any], like: nnx.State) -> nnx.State:
    """`like` with `arrays`, under the names that `named` gives, as its values."""
    return nnx.from_flat_state(
        (path, variable.replace(arrays[".".join(map(str, path))]))
        for path, variable in nnx.to_flat_state(like)
    )


def filled(module: M, arrays: Mapping[str, Any]) -> M:
    """`module`, whose every variable is a parameter, with `arrays` as their values."""
    graph, state = nnx.split(module)
    return nnx.merge(graph, as_state(arrays, state))


def mismatches(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Names and shapes by which the arrays `found` are not those `wanted`."""
    shapes = {name: list(array.shape) for name, array in found.items()}
    problems = [f"missing {name}" for name in wanted if name not in shapes]
    problems += [f"extra {name}" for name in shapes if name not in wanted]
    problems += [
        f"{name} is {shapes[name]}, not {list(like.shape)}"
        for name, like in wanted.items()
        if name in shapes and shapes[name] != list(like.shape)
    ]
    return problems


def refuse(where: str, problems: Sequence[str], advice: str) -> None:
    """Raises one UserError that names the problems, if any: the first ten, and how many more."""
    if not problems:
        return
    shown = [limits.printable(problem) for problem in problems[:NAMED_AT_MOST]]
    if len(problems) > NAMED_AT_MOST:
        shown.append(f"and {len(problems) - NAMED_AT_MOST} more")
    raise UserError(f"{where}: {'; '.join(shown)} ({advice})")
