"""The scheduler: which question comes into which slot, and when."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from ttc_jax.sampling.programs import shards
from ttc_jax.search.deadline import Pace
from ttc_jax.search.engine import UNLIMITED, Drafts, Engine, Found, PromptBuckets, Request
from ttc_jax.search.execution import Execution
from ttc_jax.search.result import Failed
from ttc_jax.search.state import NONE, SearchState, Status


@dataclasses.dataclass
class Work:
    """How well the decode loop was filled, in row-steps: one row in one iteration."""

    useful: int = 0  # of active rows
    total: int = 0

    @property
    def useful_share(self) -> float:
        """The useful share of all row-steps decoded."""
        return self.useful / max(self.total, 1)


@dataclasses.dataclass(frozen=True)
class Done:
    """A question that has left its slot."""

    index: int
    found: Found
    cut: bool  # whether the deadline ended it


@dataclasses.dataclass(frozen=True)
class Written:
    """A question whose rows have written on."""

    index: int
    drafts: Drafts  # of its slot, without B


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
    deadline: float = math.inf
    drafts: bool = False

    def run(self, requests: Sequence[Request]) -> Iterator[Done | Written]:
        """Searches for answers to all questions, those of one size together.

        Yields:
          What was found for a question, in the order in which they are done.

        Raises:
          Failed: a question's score is NaN.
        """
        groups: dict[PromptBuckets, list[int]] = {}
        for index, request in enumerate(requests):
            groups.setdefault(self.engine.buckets(request), []).append(index)
        pace = Pace(self.deadline)
        for buckets, group in sorted(groups.items()):
            if not pace.is_over:
                yield from self._run_group(buckets, group, requests, pace)

    def _run_group(
        self, buckets: PromptBuckets, group: list[int], requests: Sequence[Request], pace: Pace
    ) -> Iterator[Done | Written]:
        engine, parts = self.engine, shards(self.engine.mesh)
        prefix, is_watched = engine.prefill(buckets), self.drafts or math.isfinite(self.deadline)
        waiting = list(reversed(group))
        slots = np.full((parts, engine.batch // parts), NONE)  # the question in each
        state = engine.empty(buckets)
        while True:
            if self.execution.refill or (slots == NONE).all():
                for wave, new in _assign(slots, waiting):
                    admitted = engine.admit(
                        buckets, [requests[i] if i != NONE else None for i in new], prefix
                    )
                    state = engine.insert(state, admitted, wave)
            if (slots == NONE).all():
                return
            # Without a question that waits for a slot, there is nothing to come back early for.
            patience = self.execution.segment if waiting and self.execution.refill else UNLIMITED
            asked = [requests[i] if i != NONE else None for i in slots.ravel().tolist()]
            most = pace.begin() if is_watched else UNLIMITED
            state, active, work = engine.segment(state, patience, asked, most=most)
            pace.end()
            self.work.useful += int(work[:, 0].sum())
            self.work.total += int(work[:, 1].sum())
            done = ~active.reshape(slots.shape)
            if self.drafts:
                yield from _written(engine.drafts(state), slots, done)
            yield from self._collect(state, slots, done)
            if pace.is_over:
                if (slots != NONE).any():
                    state = engine.cut(state, asked)
                    yield from self._collect(state, slots, np.ones_like(done), cut=True)
                return

    def _collect(
        self, state: SearchState, slots: np.ndarray, done: np.ndarray, *, cut: bool = False
    ) -> Iterator[Done]:
        """Takes questions that are `done` out of their slots, and yields what was found."""
        for wave in _waves((slots != NONE) & done):
            found = self.engine.harvest(state, wave)
            for shard, slot in enumerate(wave):
                if slot == NONE:
                    continue
                index, slots[shard, slot] = int(slots[shard, slot]), NONE
                if found[shard].status == Status.FAILED:
                    raise Failed(index)
                yield Done(index, found[shard], cut)


def _written(drafts: Drafts, slots: np.ndarray, done: np.ndarray) -> Iterator[Written]:
    """Yields what was written for questions that are not done."""
    for slot in np.flatnonzero((slots != NONE) & ~done).tolist():
        of = jax.tree.map(lambda x, i=slot: x[i], drafts)
        yield Written(int(slots.ravel()[slot]), of)


def _assign(
    slots: np.ndarray, waiting: list[int]
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Gives free slots to questions that wait, one a shard at a time.

    Yields:
      A slot of each shard and the question that is now in it, or `NONE` for both.
    """
    for wave in _waves(slots == NONE):
        if not waiting:
            return
        new = [waiting.pop() if slot != NONE and waiting else NONE for slot in wave]
        wave = [slot if i != NONE else NONE for slot, i in zip(wave, new, strict=True)]
        for shard, slot in enumerate(wave):
            if slot != NONE:
                slots[shard, slot] = new[shard]
        yield tuple(wave), tuple(new)


def _waves(wanted: np.ndarray) -> Iterator[tuple[int, ...]]:
    """Returns the slots that are `wanted`, [data, B / data], one a shard at a time, or `NONE`."""
    slots = (np.flatnonzero(row).tolist() for row in wanted)
    return itertools.zip_longest(*slots, fillvalue=NONE)
