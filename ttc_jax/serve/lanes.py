"""A lane: the questions of one program and one size, those that wait and those in its slots."""

from __future__ import annotations

import math
from collections import deque
from concurrent.futures import Future

from ttc_jax.search.deadline import Pace
from ttc_jax.search.engine import UNLIMITED
from ttc_jax.search.request import PromptBuckets
from ttc_jax.search.result import Failed
from ttc_jax.search.search import Search, SearchResult
from ttc_jax.search.slots import Done, Slots, Waiting, Work
from ttc_jax.search.state import Status
from ttc_jax.serve.asked import Asked


class Lane:
    """The questions of one program and one size.

    Args:
      search: the program.
      buckets: the size.
      compiled: done once the program is compiled.
      work: is added to.
    """

    def __init__(self, search: Search, buckets: PromptBuckets, compiled: Future[None], work: Work):
        self._search, self._buckets, self.compiled = search, buckets, compiled
        self._asked: dict[int, Asked] = {}
        self._waiting: deque[Waiting] = deque()
        self._slots: Slots | None = None
        self._pace, self._work = Pace(), work

    @property
    def is_open(self) -> bool:
        """Whether it has slots on the devices."""
        return self._slots is not None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked of it."""
        return not self._asked

    @property
    def first_waiting(self) -> float:
        """The number of the question that has waited longest; infinite without one."""
        return self._waiting[0].index if self._waiting else math.inf

    @property
    def waiting(self) -> int:
        """How many questions wait for a slot."""
        return len(self._waiting)

    @property
    def in_slots(self) -> int:
        """How many questions are being searched."""
        return len(self._asked) - len(self._waiting)

    def add(self, number: int, asked: Asked) -> None:
        """Takes a question; numbers rise."""
        self._asked[number] = asked
        self._waiting.append(Waiting(number, asked.request))

    def turn_away(self) -> None:
        """Answers questions whose time is over before they came into a slot."""
        for one in [one for one in self._waiting if self._asked[one.index].is_over()]:
            self._waiting.remove(one)
            self._asked.pop(one.index).answer(None)

    def step(self, before: float) -> None:
        """Fills slots, searches on for a fraction of a second, and answers what is done.

        Args:
          before: only questions with lower numbers come into slots: one with this number waits
            for a lane of its own.
        """
        held = self._slots.held if self._slots is not None else frozenset[int]()
        if not held and self.first_waiting >= before:
            self._slots = None
            return
        slots = self._slots = self._slots or Slots(self._search.engine, self._buckets)
        slots.cut([i for i in held if self._asked[i].is_over()])
        self._answer(slots)
        coming: deque[Waiting] = deque()
        while len(coming) < slots.free and self.first_waiting < before:
            coming.append(self._waiting.popleft())
        slots.admit(coming)
        if slots.held:
            patience = 1 if self._waiting else UNLIMITED
            self._work.add(slots.advance(patience, self._pace.begin()))
            self._pace.end()
            self._show(slots)
            self._answer(slots)
        if not slots.held and not self._waiting:
            self._slots = None  # its memory is for others

    def fail(self, error: BaseException) -> None:
        """Answers all questions with an error, and begins anew."""
        asked, self._asked, self._slots = self._asked, {}, None
        self._waiting.clear()
        for one in asked.values():
            one.answer(None, error)

    def _show(self, slots: Slots) -> None:
        if any(self._asked[i].wants_drafts for i in slots.held):
            for written in slots.written():
                if (asked := self._asked[written.index]).wants_drafts:
                    asked.show(written.drafts)

    def _answer(self, slots: Slots) -> None:
        for done in slots.leave():
            asked = self._asked.pop(done.index)
            try:
                asked.answer(_result(done, asked))
            except Exception as error:  # a question of its own, that others have no part in
                asked.answer(None, error)


def _result(done: Done, asked: Asked) -> SearchResult:
    if done.found.status == Status.FAILED:
        raise Failed(done.index)
    return asked.search.result(done, asked.request)
