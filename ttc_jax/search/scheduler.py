"""The scheduler: which question comes into which slot, and when."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Iterator, Sequence

from ttc_jax.search.deadline import Deadline, Pace
from ttc_jax.search.engine import UNLIMITED, Engine
from ttc_jax.search.execution import Execution
from ttc_jax.search.request import PromptBuckets, Request
from ttc_jax.search.result import Failed
from ttc_jax.search.slots import Done, Slots, Waiting, Work, Written
from ttc_jax.search.state import Status


@dataclasses.dataclass(frozen=True)
class Scheduler:
    """Runs questions through the slots of an engine.

    Attributes:
      execution: whether and how often slots are refilled.
      work: is added to.
      deadline: on the clock of `time.monotonic`. What is searched then is cut off, and what has not
        begun is left out. It is looked at between segments, which are then short.
      drafts: whether to yield what is written after each segment, which are then short too.
    """

    engine: Engine
    execution: Execution
    work: Work
    deadline: float | Deadline = math.inf
    drafts: bool = False

    def run(self, requests: Sequence[Request]) -> Iterator[Done | Written]:
        """Searches for answers to all questions, those of one size together.

        Yields:
          What was found for a question, in the order in which they are done.

        Raises:
          Failed: a question's score is NaN.
        """
        groups: dict[PromptBuckets, deque[Waiting]] = {}
        for index, request in enumerate(requests):
            group = groups.setdefault(self.engine.buckets(request), deque())
            group.append(Waiting(index, request))
        pace = Pace(self.deadline)
        for buckets, group in sorted(groups.items()):
            if not pace.is_over:
                yield from self._run_group(buckets, group, pace)

    def _run_group(
        self, buckets: PromptBuckets, waiting: deque[Waiting], pace: Pace
    ) -> Iterator[Done | Written]:
        slots, is_watched = Slots(self.engine, buckets), self.drafts or pace.deadline.may_come
        while True:
            if self.execution.refill or not slots.held:
                slots.admit(waiting)
            if not slots.held:
                return
            # Without a question that waits for a slot, there is nothing to come back early for.
            patience = self.execution.segment if waiting and self.execution.refill else UNLIMITED
            most = pace.begin() if is_watched else UNLIMITED
            self.work.add(slots.advance(patience, most))
            pace.end()
            if self.drafts:
                yield from slots.written()
            yield from _checked(slots.leave())
            if pace.is_over:
                slots.cut()
                yield from _checked(slots.leave())
                return


def _checked(leaving: Iterator[Done]) -> Iterator[Done]:
    """Yields questions that are done; refuses one that could not be scored."""
    for done in leaving:
        if done.found.status == Status.FAILED:
            raise Failed(done.index)
        yield done
