"""The slots of an engine: questions come in and leave while others are searched."""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from collections.abc import Collection, Iterator

import jax
import numpy as np

from ttc_jax.sampling.programs import shards
from ttc_jax.search.engine import UNLIMITED, Drafts, Engine, Found
from ttc_jax.search.request import PromptBuckets, Request
from ttc_jax.search.state import NONE


@dataclasses.dataclass
class Work:
    """How well the decode loop was filled, in row-steps: one row in one iteration."""

    useful: int = 0  # of active rows
    total: int = 0

    @property
    def useful_share(self) -> float:
        """The useful share of all row-steps decoded."""
        return self.useful / max(self.total, 1)

    def add(self, work: np.ndarray) -> None:
        """Adds what `Engine.segment` says of the shards, [data, 2]."""
        self.useful += int(work[:, 0].sum())
        self.total += int(work[:, 1].sum())


@dataclasses.dataclass(frozen=True)
class Waiting:
    """A question that waits for a slot, under a number that tells it apart."""

    index: int
    request: Request


@dataclasses.dataclass(frozen=True)
class Done:
    """A question that has left its slot."""

    index: int
    found: Found
    cut: bool  # whether it was ended before its time


@dataclasses.dataclass(frozen=True)
class Written:
    """A question whose rows have written on."""

    index: int
    drafts: Drafts  # of its slot, without B


class Slots:
    """B slots for questions of one size, some of them taken.

    Args:
      buckets: the size.
    """

    def __init__(self, engine: Engine, buckets: PromptBuckets):
        parts = shards(engine.mesh)
        self._engine, self._buckets = engine, buckets
        self._prefix, self._state = engine.prefill(buckets), engine.empty(buckets)
        self._held = np.full((parts, engine.batch // parts), NONE)  # the question in each
        self._ended = np.zeros(self._held.shape, bool)  # whether it can leave
        self._cut: set[int] = set()
        self._requests: dict[int, Request] = {}

    @property
    def held(self) -> frozenset[int]:
        """The questions in the slots."""
        return frozenset(self._requests)

    @property
    def free(self) -> int:
        """How many slots hold no question."""
        return int((self._held == NONE).sum())

    def compile(self) -> None:
        """Compiles all programs, so that the first questions need not wait for that."""
        engine, nothing = self._engine, [None] * len(self._held)
        admitted = engine.admit(self._buckets, nothing, self._prefix)
        state = engine.insert(self._state, admitted, [NONE] * len(nothing))
        state, _, _ = engine.segment(state, 1, self._asked(), most=0)
        self._state = engine.cut(state, self._asked(), np.zeros(self._held.size, bool))
        engine.harvest(self._state, [NONE] * len(nothing))

    def admit(self, waiting: deque[Waiting]) -> None:
        """Gives free slots to the first questions that wait, one a shard at a time."""
        for wave in _waves(self._held == NONE):
            if not waiting:
                return
            new = [waiting.popleft() if slot != NONE and waiting else None for slot in wave]
            admitted = self._engine.admit(
                self._buckets, [one.request if one else None for one in new], self._prefix
            )
            slots = [slot if one else NONE for slot, one in zip(wave, new, strict=True)]
            self._state = self._engine.insert(self._state, admitted, slots)
            for shard, one in enumerate(new):
                if one is not None:
                    self._held[shard, wave[shard]] = one.index
                    self._ended[shard, wave[shard]] = False
                    self._requests[one.index] = one.request

    def advance(self, tokens: int, most: int = UNLIMITED) -> np.ndarray:
        """Searches on, and returns the row-steps of each shard; see `Engine.segment`."""
        self._state, active, work = self._engine.segment(
            self._state, tokens, self._asked(), most=most
        )
        self._ended = ~active.reshape(self._held.shape)
        return work

    def cut(self, chosen: Collection[int] | None = None) -> None:
        """Ends the search of chosen questions where it is, so that they can leave; None: of all."""
        taken = (self._held != NONE) & ~self._ended
        if chosen is not None:
            taken &= np.isin(self._held, [*chosen])
        if not taken.any():
            return
        self._state = self._engine.cut(self._state, self._asked(), taken.reshape(-1))
        self._cut |= set(self._held[taken].tolist())
        self._ended |= taken

    def written(self) -> Iterator[Written]:
        """Yields what was written so far for each question that is searched."""
        drafts = self._engine.drafts(self._state)
        for slot in np.flatnonzero((self._held != NONE) & ~self._ended).tolist():
            of = jax.tree.map(lambda x, i=slot: x[i], drafts)
            yield Written(int(self._held.ravel()[slot]), of)

    def leave(self) -> Iterator[Done]:
        """Takes questions that are done out of their slots, and yields what was found."""
        for wave in _waves((self._held != NONE) & self._ended):
            found = self._engine.harvest(self._state, wave)
            for shard, slot in enumerate(wave):
                if slot == NONE:
                    continue
                index, self._held[shard, slot] = int(self._held[shard, slot]), NONE
                del self._requests[index]
                cut = index in self._cut
                self._cut.discard(index)
                yield Done(index, found[shard], cut)

    def _asked(self) -> list[Request | None]:
        """Returns the question in each slot, [B]."""
        return [self._requests.get(index) for index in self._held.ravel().tolist()]


def _waves(wanted: np.ndarray) -> Iterator[tuple[int, ...]]:
    """Returns the slots that are `wanted`, [data, B / data], one a shard at a time, or `NONE`."""
    slots = (np.flatnonzero(row).tolist() for row in wanted)
    return itertools.zip_longest(*slots, fillvalue=NONE)
