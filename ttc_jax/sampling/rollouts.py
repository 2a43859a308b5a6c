"""Rollouts: answers that go on from prefixes of others, whose caches are forked there.

Q questions are sampled ──► a slot takes one ──► its rows fork from its answers ──► decode ──┐
                                 ▲                    ▲      a row pauses: its next prefix ◄─┤
                                 └────────────────────┴── all of a slot's: the next question ◄┘
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int

from ttc_jax.errors import UserError
from ttc_jax.models.transformer import Transformer
from ttc_jax.sampling.decode import DecodeState, fork
from ttc_jax.sampling.programs import ROWS, laid, program, put, shards
from ttc_jax.sampling.sampler import Sampler, Samples, bucket

IDLE = 16  # once one row in so many pauses that need not, the host is asked for its next task
# Between segments prompts lie with the sampled answers alone, so that the rows can be donated.
_WITHOUT_PROMPT: dict[str, Any] = dict.fromkeys(("prompt_k", "prompt_v", "prompt_length"), ())


class Prefix(NamedTuple):
    """The first tokens of a sampled answer."""

    candidate: int
    length: int  # tokens, at least 1


class Finished(NamedTuple):
    """The rollouts of a question, K from each of J prefixes, on the host."""

    tokens: np.ndarray  # [J, K, T] int32, the prefix included; 0 behind the end
    lengths: np.ndarray  # [J, K] tokens, the end token included


Choose = Callable[[int, Samples], Sequence[Prefix]]


class Rollouts(Sampler):
    """A sampler that also rolls out: it finishes its answers anew, from any of their tokens.

    Args:
      ends: K, rollouts from each prefix.
      slots: B, questions that are rolled out together.
      rows: W, rows of each of them. Neither changes a result but by rounding (see `Search`).
      sampling: as `Sampler`'s; `batch` is Q, questions whose answers are sampled together.

    Raises:
      UserError: K, B or W below 1, B that the mesh does not divide, or as `Sampler`.
    """

    def __init__(self, model: Transformer, *, ends: int, slots: int, rows: int, **sampling: Any):
        super().__init__(model, **sampling)
        if self.thinking is not None:
            raise UserError("thinking: rollouts do not go on from within a thought; leave it out")
        for name, value in (("ends", ends), ("slots", slots), ("rows_per_question", rows)):
            if value < 1:
                raise UserError(f"rollouts.{name} is {value}; it must be at least 1")
        parts = shards(self.mesh)
        if slots % parts:
            raise UserError(
                f"rollouts.slots is {slots}; execution.mesh.data={parts} must divide it"
            )
        self.ends, self.slots, self.rows = ends, slots, rows
        self.useful_steps, self.row_steps = 0, 0  # of rows that drew a token, and of all
        self._paused = program(self._run_paused, self.mesh)
        # A question may have been sampled by another shard.
        self._take = jax.jit(lambda *x: laid(_take(*x), self.mesh), donate_argnums=0)
        self._segment = program(self._run_segment, self.mesh, donate_argnums=2)

    def run(
        self, prompts: Sequence[Sequence[int]], numbers: Sequence[int], choose: Choose
    ) -> Iterator[tuple[int, Samples, Finished]]:
        """Samples N answers to each prompt, and finishes them anew from prefixes of theirs.

        Args:
          prompts: token ids, of different lengths; those of one bucket share their batches.
          numbers: each question's own number (uint32), which its draws are keyed by.
          choose: the prefixes to go on from, given a prompt's index and its samples ([N, T], [N]).

        Yields:
          A prompt's index, its samples and its rollouts, in the order in which they are done.

        Raises:
          UserError: as `check`.
        """
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        for _, group in itertools.groupby(order, key=lambda index: bucket(len(prompts[index]))):
            indices = list(group)
            yield from self._roll(self._jobs(indices, prompts, numbers, choose), len(indices))

    def _jobs(
        self,
        indices: list[int],
        prompts: Sequence[Sequence[int]],
        numbers: Sequence[int],
        choose: Choose,
    ) -> Iterator[_Job]:
        """Yields the questions; Q more are sampled whenever none of those sampled is left."""
        for first in range(0, len(indices), self.batch):
            batch = indices[first : first + self.batch]
            drawn, state = self.write([prompts[i] for i in batch], [numbers[i] for i in batch])
            for place, index in enumerate(batch):
                samples = Samples(*(x[place] for x in drawn))
                yield _Job(index, samples, choose(index, samples), self.ends, state, place)

    def _roll(self, jobs: Iterator[_Job], left: int) -> Iterator[tuple[int, Samples, Finished]]:
        slots: list[_Job | None] = [None] * self.slots
        source = rows = None
        lengths = np.zeros((self.slots, self.rows), np.int32)
        while True:
            tasks = np.zeros((self.slots, 4, self.rows), np.int32)
            for slot, job in enumerate(slots):
                if job:
                    job.hand_out(slot, tasks[slot])
            for slot in [slot for slot, job in enumerate(slots) if not job]:
                job = None
                while left and not job:
                    job, left = next(jobs), left - 1
                    if job.done:  # nothing was chosen
                        yield job.outcome
                        job = None
                job = job or max(filter(None, slots), key=lambda job: len(job.queue), default=None)
                if job and job.queue:
                    slots[slot] = job
                    if source is None:
                        source, rows = self._paused((), job.state)
                    place = put((np.int32(slot), np.int32(job.place)), self.mesh)
                    source = self._take(source, job.state, *place)
                    job.hand_out(slot, tasks[slot])
            if not any(slots):
                return
            waiting = np.array([len(job.queue) if job else 0 for job in slots], np.int32)
            shares = sum(len(job.queue) for job in set(filter(None, slots))) // self.rows
            before = np.where(tasks[:, 0], tasks[:, 2], lengths)
            given = put((tasks, waiting), self.mesh, ROWS)
            shared = (self._parameters, self._table, put(np.int32(left or shares), self.mesh))
            rows = self._segment(shared, source, rows, *given)
            active, tokens, lengths = jax.device_get(
                (rows.cache.active, rows.tokens, rows.cache.length)
            )
            drawn = lengths - before
            self.useful_steps += int(drawn.sum())
            self.row_steps += int(drawn.max()) * drawn.size  # some row drew in every step
            for slot, job in enumerate(slots):
                if job:
                    job.collect(slot, active[slot], tokens[slot], lengths[slot])
            for job in dict.fromkeys(filter(None, slots)):
                if job.done:
                    yield job.outcome
            slots = [job if job and job.busy(slot) else None for slot, job in enumerate(slots)]

    def _run_paused(self, _: Any, state: DecodeState) -> tuple[DecodeState, DecodeState]:
        """Returns samples for B slots, of any question, and W paused rows a slot."""
        slots = self.slots // shards(self.mesh)
        source = jax.tree.map(lambda x: x[jnp.zeros((slots,), jnp.int32)], state)
        nowhere = jnp.zeros((slots, self.rows), jnp.int32)
        rows = fork(source, nowhere, nowhere, nowhere)
        return source, _with(rows, active=nowhere > 0, **_WITHOUT_PROMPT)

    def _run_segment(
        self,
        shared: tuple[Any, Bool[Array, " V"], Int[Array, ""]],
        source: DecodeState,
        rows: DecodeState,
        tasks: Int[Array, "B 4 W"],
        waiting: Int[Array, " B"],
    ) -> DecodeState:
        """Forks the rows that have a new task, and decodes until enough others could have one.

        Args:
          shared: parameters, which tokens end an answer, and how many free slots could be given a
            question.
          source: the sampled answers of each slot's question.
          rows: of the rollouts.
          tasks: whether a row has a new one, and then `fork`'s arguments for it.
          waiting: tasks of each slot's question that no row has yet.
        """
        parameters, ends, left = shared
        new, parents, lengths, numbers = jnp.moveaxis(tasks, 1, 0)
        prompt = {name: getattr(source.cache, name) for name in _WITHOUT_PROMPT}
        rows = _mix(new > 0, fork(source, parents, lengths, numbers), _with(rows, **prompt))

        def enough(active: Bool[Array, "B W"]) -> Bool[Array, ""]:
            paused = (~active).sum(-1, dtype=jnp.int32)
            free = ((paused == self.rows) & (waiting == 0)).sum(dtype=jnp.int32)
            idle = jnp.minimum(paused, waiting).sum() + self.rows * jnp.minimum(free, left)
            return IDLE * idle >= active.size

        limit = jnp.full(waiting.shape, self.max_new_tokens, jnp.int32)
        rows = self._run_decode((parameters, ends), rows, rows.cache.active, limit, until=enough)
        return _with(rows, **_WITHOUT_PROMPT)


class _Job:
    """A question whose answers are rolled out, and its rollouts so far.

    Attributes:
      state, place: where its answers are.
      queue: (prefix, number) of rollouts that no row has yet.
      held: the same of those that a row has, by slot and row.
    """

    def __init__(
        self,
        index: int,
        samples: Samples,
        prefixes: Sequence[Prefix],
        ends: int,
        state: DecodeState,
        place: int,
    ):
        shape = (len(prefixes), ends)
        tokens = np.zeros((*shape, samples.tokens.shape[-1]), np.int32)
        self.finished = Finished(tokens, np.zeros(shape, np.int32))
        self.outcome = (index, samples, self.finished)
        self.prefixes, self.state, self.place = prefixes, state, place
        # Rows should pause together: what has most before it is taken first, from the end.
        ahead = [int(samples.lengths[prefix.candidate]) - prefix.length for prefix in prefixes]
        self.queue = sorted(np.ndindex(shape), key=lambda task: ahead[task[0]])
        self.held: dict[tuple[int, int], tuple[int, ...]] = {}

    @property
    def done(self) -> bool:
        return not self.queue and not self.held

    def hand_out(self, slot: int, tasks: Int[np.ndarray, "4 W"]) -> None:
        """Gives a slot's paused rows their next tasks."""
        for row in range(tasks.shape[1]):
            if self.queue and (slot, row) not in self.held:
                self.held[slot, row] = prefix, number = self.queue.pop()
                tasks[:, row] = 1, *self.prefixes[prefix], number

    def collect(
        self, slot: int, active: np.ndarray, tokens: np.ndarray, lengths: np.ndarray
    ) -> None:
        """Stores what a slot's paused rows have written: [W], [W, T], [W]."""
        for row in [row for at, row in self.held if at == slot and not active[row]]:
            task = self.held.pop((slot, row))
            self.finished.tokens[task], self.finished.lengths[task] = tokens[row], lengths[row]

    def busy(self, slot: int) -> bool:
        """Returns whether there is something left for a slot to do."""
        return bool(self.queue) or any(at == slot for at, _ in self.held)


def _take(source: DecodeState, state: DecodeState, slot: Array, place: Array) -> DecodeState:
    """Puts the question at another state's `place` into a slot."""

    def put(x: Array, new: Array) -> Array:
        question = new[place[None]]  # over a mesh that costs one question's exchange
        return lax.dynamic_update_slice_in_dim(x, question, slot, 0)

    return jax.tree.map(put, source, state)


def _with(rows: DecodeState, **fields: Any) -> DecodeState:
    """Returns rows with other fields of their cache."""
    return dataclasses.replace(rows, cache=dataclasses.replace(rows.cache, **fields))


def _mix(new: Bool[Array, "B W"], forked: DecodeState, rows: DecodeState) -> DecodeState:
    """Returns the forked rows where they are new; the prompt is the same in both."""

    def pick(forked: Array, old: Array) -> Array:
        if forked is old:
            return old
        return jnp.where(jnp.expand_dims(new, tuple(range(2, old.ndim))), forked, old)

    return jax.tree.map(pick, forked, rows)
