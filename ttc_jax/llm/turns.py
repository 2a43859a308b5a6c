"""Calls of one model: one at a time, from any thread, until a deadline or until they are left."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, TypeVar, cast

from ttc_jax.llm.arguments import naming_arguments
from ttc_jax.search.deadline import Deadline

T = TypeVar("T")
_END: Any = object()
_INNER: ContextVar[Mapping[Turns, threading.Lock]] = ContextVar("inner")  # turns held -> see `take`


def deadline_in(seconds: float | None, left: threading.Event | None) -> Deadline:
    """Returns the deadline of a call that may take so many seconds; None: any time.

    Args:
      left: is set where the caller waits no longer.
    """
    return Deadline(math.inf if seconds is None else time.monotonic() + seconds, left)


class Turns:
    """Lets one caller at a time use a model.

    What runs within a turn, as a reward does, may use the model too: its calls do not wait for that
    turn, but for each other. A thread counts as part of a turn if it has its context, as those of
    `asyncio.to_thread` have.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @property
    def is_within(self) -> bool:
        """Whether the caller runs within a turn."""
        return self in _INNER.get({})

    @contextlib.contextmanager
    def take(self) -> Iterator[None]:
        """Waits for a turn, and names arguments in what is refused in it."""
        inner = _INNER.get({})
        with inner.get(self, self._lock), naming_arguments():
            token = _INNER.set({**inner, self: threading.Lock()})
            try:
                yield
            finally:
                _INNER.reset(token)


def in_turns(items: Iterator[T], turns: Turns) -> Iterator[T]:
    """Yields items, each of which is made in a turn of its own."""
    while True:
        with turns.take():
            item = next(items, _END)
        if item is _END:
            return
        yield item


async def in_thread(call: Callable[[threading.Event], T]) -> T:
    """Returns what a call in a thread gives, so that an event loop goes on meanwhile.

    Args:
      call: is given an event, which is set once nobody waits for it.
    """
    left = threading.Event()
    try:
        return await asyncio.to_thread(call, left)
    finally:
        left.set()


async def in_threads(items: Iterator[T], left: threading.Event) -> AsyncIterator[T]:
    """Yields items, each of which is made in a thread, so that an event loop goes on meanwhile.

    Args:
      left: is set once nobody waits for more.
    """
    try:
        while (item := await asyncio.to_thread(next, items, _END)) is not _END:
            yield cast(T, item)
    finally:
        left.set()
