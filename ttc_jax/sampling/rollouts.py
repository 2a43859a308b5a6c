"""Ends from the middle of answers: caches are forked there, so that no prefix is read again."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from ttc_jax.errors import UserError
from ttc_jax.models.transformer import Transformer
from ttc_jax.sampling.sampler import DecodeState, Sampler, fork

# Between segments prompts lie with the sampled answers alone, so that the rows can be donated.
_WITHOUT_PROMPT: dict[str, Any] = dict.fromkeys(("prompt_k", "prompt_v", "prompt_length"), ())


class Prefix(NamedTuple):
    """The first tokens of a sampled answer."""

    candidate: int
    length: int  # tokens, at least 1


class Finished(NamedTuple):
    """Answers of a question that go on from J prefixes, K from each, on the host."""

    tokens: np.ndarray  # [J, K, T] int32, the prefix included; 0 behind the end
    lengths: np.ndarray  # [J, K] tokens, the end token included


class Rollouts(Sampler):
    """A sampler that also rolls out: it finishes answers anew, from any of their tokens.

    Rows take prefixes as they come free: each segment of decoding forks the resting rows from the
    sampled answers' caches, and ends when enough rows rest that could go on elsewhere.

    Args:
      rows: W, rows of a question that are rolled out together. It changes no result.
      sampling: as `Sampler`'s.

    Raises:
      UserError: W below 1, or as `Sampler`.
    """

    def __init__(self, model: Transformer, *, rows: int, **sampling: Any):
        super().__init__(model, **sampling)
        if rows < 1:
            raise UserError(f"rollouts.rows is {rows}; it must be at least 1")
        self.rows = rows
        self.useful_steps, self.row_steps = 0, 0  # rows that drew a token, and all that might have
        self._rest = jax.jit(self._run_rest)
        self._segment = jax.jit(self._run_segment, donate_argnums=2)

    def finish(
        self, state: DecodeState, prefixes: Sequence[Sequence[Prefix]], ends: int
    ) -> list[Finished]:
        """K = `ends` answers from each prefix of each question, up to `max_new_tokens` in all.

        Args:
          state: what `write` left of these questions; it stays as it is.
          prefixes: of each question.
        """
        B, W, T = self.batch, self.rows, self.max_new_tokens
        shapes = [(len(places), ends) for places in prefixes]
        found = [Finished(np.zeros((*x, T), np.int32), np.zeros(x, np.int32)) for x in shapes]
        queues = [_queue(places, ends) for places in prefixes]
        rows, lengths = self._rest(state), np.zeros((B, W), np.int32)
        held: dict[tuple[int, int], tuple[int, int]] = {}  # (question, row): task
        while True:
            tasks = np.zeros((4, B, W), np.int32)
            for i, queue in enumerate(queues):
                for w in range(W):
                    if queue and (i, w) not in held:
                        held[i, w] = j, k = queue.pop()
                        tasks[:, i, w] = 1, *prefixes[i][j], k
            if not held:
                return found
            waiting = np.zeros((B,), np.int32)
            waiting[: len(queues)] = [len(queue) for queue in queues]
            before = np.where(tasks[0], tasks[2], lengths)
            rows = self._segment(self._parameters, state, rows, *jax.device_put((tasks, waiting)))
            live, tokens, lengths = jax.device_get(
                (rows.cache.live, rows.tokens, rows.cache.length)
            )
            drawn = lengths - before
            self.useful_steps += int(drawn.sum())
            self.row_steps += int(drawn.max()) * drawn.size  # some row was there all along
            for (i, w), task in [*held.items()]:
                if not live[i, w]:
                    del held[i, w]
                    found[i].tokens[task], found[i].lengths[task] = tokens[i, w], lengths[i, w]

    def _run_rest(self, source: DecodeState) -> DecodeState:
        """W rows a question that rest."""
        nowhere = jnp.zeros((self.batch, self.rows), jnp.int32)
        rows = fork(source, nowhere, nowhere, nowhere)
        return _with(rows, live=nowhere > 0, **_WITHOUT_PROMPT)

    def _run_segment(
        self,
        parameters: Any,
        source: DecodeState,
        rows: DecodeState,
        tasks: Int[Array, "4 B W"],
        waiting: Int[Array, " B"],
    ) -> DecodeState:
        """Forks the rows that have a new task, and decodes all that have one.

        Args:
          source: the sampled answers.
          rows: of the rollouts.
          tasks: whether a row has a new one, and then `fork`'s arguments for it.
          waiting: tasks that no row has yet.
        """
        new, parents, lengths, numbers = tasks
        prompt = {name: getattr(source.cache, name) for name in _WITHOUT_PROMPT}
        rows = _mix(new > 0, fork(source, parents, lengths, numbers), _with(rows, **prompt))
        limit = jnp.full((self.batch,), self.max_new_tokens, jnp.int32)
        live, ends, pauses = rows.cache.live, self._ends, self._pauses
        rows = self._run_decode(parameters, rows, live, ends, pauses, limit, waiting=waiting)
        return _with(rows, **_WITHOUT_PROMPT)


def _queue(prefixes: Sequence[Prefix], ends: int) -> list[tuple[int, int]]:
    """All (prefix, number); the last is the first to be taken.

    Rows should come to rest together at the end, so what has most before it is taken first.
    """
    tasks = itertools.product(range(len(prefixes)), range(ends))
    return sorted(tasks, key=lambda task: prefixes[task[0]].length, reverse=True)


def _with(rows: DecodeState, **fields: Any) -> DecodeState:
    """Rows with other fields of their cache."""
    return dataclasses.replace(rows, cache=dataclasses.replace(rows.cache, **fields))


def _mix(new: Bool[Array, "B W"], forked: DecodeState, rows: DecodeState) -> DecodeState:
    """The forked rows where they are new; the prompt is the same in both."""

    def pick(forked: Array, old: Array) -> Array:
        if forked is old:
            return old
        return jnp.where(jnp.expand_dims(new, tuple(range(2, old.ndim))), forked, old)

    return jax.tree.map(pick, forked, rows)
