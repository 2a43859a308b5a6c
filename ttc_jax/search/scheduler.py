"""The scheduler: which question comes into which slot, and when."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from ttc_jax.sampling.programs import shards
from ttc_jax.search.engine import Engine, Found, PromptBuckets, Request
from ttc_jax.search.execution import Execution
from ttc_jax.search.result import Failed
from ttc_jax.search.state import NONE, SearchState, Status

UNLIMITED = np.iinfo(np.int32).max


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
class Scheduler:
    """Runs questions through the slots of an engine.

    Attributes:
      execution: whether and how often slots are refilled.
      work: is added to.
    """

    engine: Engine
    execution: Execution
    work: Work

    def run(self, requests: Sequence[Request]) -> Iterator[tuple[int, Found]]:
        """Searches for answers to all questions, those of one size together.

        Yields:
          A question's index and what was found, in the order in which they are done.

        Raises:
          Failed: a question's score is NaN.
        """
        groups: dict[PromptBuckets, list[int]] = {}
        for index, request in enumerate(requests):
            groups.setdefault(self.engine.buckets(request), []).append(index)
        for buckets, group in sorted(groups.items()):
            yield from self._run_group(buckets, group, requests)

    def _run_group(
        self, buckets: PromptBuckets, group: list[int], requests: Sequence[Request]
    ) -> Iterator[tuple[int, Found]]:
        engine, parts = self.engine, shards(self.engine.mesh)
        prefix = engine.prefill(buckets)
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
            state, active, work = engine.segment(state, patience)
            self.work.useful += int(work[:, 0].sum())
            self.work.total += int(work[:, 1].sum())
            yield from self._collect(state, slots, ~active.reshape(slots.shape))

    def _collect(
        self, state: SearchState, slots: np.ndarray, done: np.ndarray
    ) -> Iterator[tuple[int, Found]]:
        """Takes questions that are `done` out of their slots, and yields what was found."""
        for wave in _waves((slots != NONE) & done):
            found = self.engine.harvest(state, wave)
            for shard, slot in enumerate(wave):
                if slot == NONE:
                    continue
                index, slots[shard, slot] = int(slots[shard, slot]), NONE
                if found[shard].status == Status.FAILED:
                    raise Failed(index)
                yield index, found[shard]


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
