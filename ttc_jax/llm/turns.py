"""Iterators that a model fills: one item at a time, from any thread, before a deadline."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, TypeVar, cast

from ttc_jax.errors import UserError

T = TypeVar("T")
_END: Any = object()


def clock_of(seconds: float | None) -> float:
    """Returns the time of `time.monotonic` when so many seconds have passed; None: never.

    Raises:
      UserError: no number above 0.
    """
    if seconds is None:
        return math.inf
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not seconds > 0:
        raise UserError(f"deadline is {seconds!r:.80}; it must be a number of seconds above 0")
    return time.monotonic() + seconds


def in_turns(items: Iterator[T], turn: threading.Lock) -> Iterator[T]:
    """Yields items, each of which is made while the lock is held; between them it is free."""
    while True:
        with turn:
            item = next(items, _END)
        if item is _END:
            return
        yield item


async def in_threads(items: Iterator[T]) -> AsyncIterator[T]:
    """Yields items, each of which is made in a thread, so that an event loop goes on meanwhile."""
    while (item := await asyncio.to_thread(next, items, _END)) is not _END:
        yield cast(T, item)
