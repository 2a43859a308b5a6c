"""The worker: the one thread that has the models, and searches for what the queue holds."""

from __future__ import annotations

import itertools
import math
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future

from ttc_jax.search.request import PromptBuckets
from ttc_jax.search.search import Search
from ttc_jax.search.slots import Work
from ttc_jax.serve import logs
from ttc_jax.serve.asked import Asked
from ttc_jax.serve.lanes import Lane

_IDLE = 0.05  # seconds between two looks, while programs are being compiled


class Worker:
    """Searches for answers to the questions of many users.

    Questions of one program and one size share its slots, whoever asks: a lane. Lanes take turns of
    a fraction of a second. A question comes into a free slot while others are being searched; its
    answer depends on none of them (`Search`).

    Where more lanes have questions than may have slots at once, whoever has waited longest is next:
    lanes take no question that came later, until one of them is empty and makes room.

    Args:
      compiled: gives what is done once a program is compiled for a size.
      lanes: that have slots, and so caches on the devices, at once.

    Attributes:
      work: how well the decode loops were filled.
    """

    def __init__(self, compiled: Callable[[Search, PromptBuckets], Future[None]], lanes: int = 4):
        self.work = Work()
        self._compiled, self._most = compiled, lanes
        self._inbox: queue.SimpleQueue[Asked | None] = queue.SimpleQueue()
        self._lanes: dict[tuple[int, PromptBuckets], Lane] = {}
        self._numbers = itertools.count()
        self._ends = False
        self._thread = threading.Thread(target=self._run, name="search", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def ask(self, asked: Asked) -> None:
        """Puts a question into the queue; called from the event loop."""
        self._inbox.put(asked)

    def stop(self) -> None:
        """Ends the thread once all questions are answered."""
        self._ends = True
        self._inbox.put(None)
        self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def in_slots(self) -> int:
        """How many questions are being searched."""
        return sum(lane.in_slots for lane in [*self._lanes.values()])

    @property
    def waiting(self) -> int:
        """How many questions wait for a slot."""
        return sum(lane.waiting for lane in [*self._lanes.values()])

    def _run(self) -> None:
        while True:
            self._take()
            if self._ends and not self._lanes:
                return
            before = self._before()
            for key, lane in [*self._lanes.items()]:
                self._step(lane, before)
                if lane.is_empty:
                    del self._lanes[key]

    def _take(self) -> None:
        """Takes what the queue holds; waits for it where there is nothing else to do."""
        busy = any(lane.compiled.done() for lane in self._lanes.values())
        try:
            while True:
                wait = not busy and (bool(self._lanes) or not self._ends)
                asked = self._inbox.get(wait, _IDLE if self._lanes else None)
                busy = True
                if asked is not None:
                    try:
                        self._add(asked)
                    except Exception as error:
                        logs.broken(error)
                        asked.answer(None, error)
        except queue.Empty:
            pass

    def _add(self, asked: Asked) -> None:
        buckets = asked.search.engine.buckets(asked.request)
        key = id(asked.search), buckets
        if key not in self._lanes:
            compiled = self._compiled(asked.search, buckets)
            self._lanes[key] = Lane(asked.search, buckets, compiled, self.work)
        self._lanes[key].add(next(self._numbers), asked)

    def _before(self) -> float:
        """Returns the number of the first question whose lane has to wait for room."""
        lanes = [lane for lane in self._lanes.values() if lane.compiled.done()]
        closed = sorted(lane.first_waiting for lane in lanes if not lane.is_open)
        room = max(0, self._most - sum(lane.is_open for lane in lanes))
        return closed[room] if room < len(closed) else math.inf

    def _step(self, lane: Lane, before: float) -> None:
        lane.turn_away()
        if not lane.compiled.done():
            return
        try:
            lane.compiled.result()
            lane.step(before)
        except Exception as error:
            logs.broken(error)
            lane.fail(error)
