"""Iterators that a model fills: one item at a time, from any thread, before a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, TypeVar, cast

from ttc_jax.llm.arguments import naming_arguments

T = TypeVar("T")
_END: Any = object()


def clock_of(seconds: float | None) -> float:
    """Returns the time of `time.monotonic` when so many seconds have passed; None: never."""
    return math.inf if seconds is None else time.monotonic() + seconds


class Turns:
    """Lets one caller at a time use a model."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def take(self) -> Iterator[None]:
        """Waits for a turn, and names arguments in what is refused in it."""
        with self._lock, naming_arguments():
            yield


def in_turns(items: Iterator[T], turns: Turns) -> Iterator[T]:
    """Yields items, each of which is made in a turn of its own."""
    while True:
        with turns.take():
            item = next(items, _END)
        if item is _END:
            return
        yield item


async def in_threads(items: Iterator[T]) -> AsyncIterator[T]:
    """Yields items, each of which is made in a thread, so that an event loop goes on meanwhile."""
    while (item := await asyncio.to_thread(next, items, _END)) is not _END:
        yield cast(T, item)
