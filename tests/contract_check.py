"""The run-time checker that `tests.contracts` puts on every function."""

from collections.abc import Callable
from typing import Any

from beartype import beartype
from beartype.roar import BeartypeDecorHintException

UNCHECKED: list[str] = []  # functions whose annotations, all but shapes, beartype does not know


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its annotations checked at every call."""
    try:
        return beartype(function)
    except BeartypeDecorHintException:
        UNCHECKED.append(f"{function.__module__}.{function.__qualname__}")
        return function
