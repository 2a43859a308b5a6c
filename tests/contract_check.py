"""The run-time checker that `tests.contracts` puts on every function and dataclass."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintException

_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float
UNCHECKED: list[str] = []  # functions with an annotation, none of a shape, that beartype lacks


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its annotations checked at every call."""
    hints = getattr(function, "__annotations__", {})  # beartype knows Self in whole classes alone
    function.__annotations__ = {name: x for name, x in hints.items() if "Self" not in str(x)}
    try:
        checked = _beartype(function)
    except BeartypeDecorHintException:
        UNCHECKED.append(f"{function.__module__}.{function.__qualname__}")
        return function
    if function.__name__ != "__init__":
        return checked

    @functools.wraps(function)
    def init(*arguments: Any, **fields: Any) -> Any:
        # JAX rebuilds dataclasses of arrays with shapes and other marks in their places, too.
        leaves = jax.tree.leaves((arguments[1:], fields))
        whole = all(isinstance(x, jax.Array | float | int | str) for x in leaves)
        return (checked if whole else function)(*arguments, **fields)

    return init
