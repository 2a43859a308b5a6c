"""A question on its way through the worker, as the event loop sees it."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator

from ttc_jax.search.engine import Drafts
from ttc_jax.search.request import Request
from ttc_jax.search.search import Search, SearchResult


@dataclasses.dataclass(eq=False)
class Asked:
    """A question that was asked of the worker.

    The worker writes from its thread, the event loop reads. Of drafts only the latest are kept: a
    client that reads slowly costs no memory.

    Attributes:
      deadline: on the clock of `time.monotonic`; what is written then is the answer.
      wants_drafts: whether anybody reads what is written meanwhile.
      left: whether nobody waits for the answer any more.
    """

    search: Search
    request: Request
    deadline: float
    wants_drafts: bool = False
    left: bool = False

    def __post_init__(self) -> None:
        self._loop, self._changed = asyncio.get_running_loop(), asyncio.Event()
        self._drafts: Drafts | None = None
        self._found: SearchResult | None = None
        self._error: BaseException | None = None
        self._done = False

    def is_over(self) -> bool:
        """Whether it has no time left, or nobody waits for it."""
        return self.left or time.monotonic() >= self.deadline

    def show(self, drafts: Drafts) -> None:
        """Takes what is written so far; called by the worker."""
        self._drafts = drafts
        self._wake()

    def answer(self, found: SearchResult | None, error: BaseException | None = None) -> None:
        """Takes the result, or the error in its place; None: it was never begun."""
        self._found, self._error, self._done = found, error, True
        self._wake()

    async def result(self) -> SearchResult | None:
        """Returns the result; None where the deadline came before the search began.

        Raises:
          BaseException: what went wrong in the search.
        """
        async for _ in self.drafts():
            pass
        return self._found

    async def drafts(self) -> AsyncIterator[Drafts]:
        """Yields what is written, until there is the result."""
        try:
            while not self._done:
                await self._changed.wait()
                self._changed.clear()
                drafts, self._drafts = self._drafts, None
                if drafts is not None and not self._done:
                    yield drafts
        finally:
            self.left = not self._done  # cancelled: its slot is wanted by others
        if self._error is not None:
            raise self._error

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._changed.set)
        except RuntimeError:  # the loop is closed: there is nobody to tell
            self.left = True
