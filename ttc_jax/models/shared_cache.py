"""A KV cache in which rows that go on from one parent share what it held, stored once.

A search that selects lets its N rows go on from Q parents at most, and from each N / Q rows at
most. What a parent held is the *history* of its rows. It is stored once, and one matrix product
reads it for all of them, as for a prompt. A row's suffix is what it has written since: a step.

Worked example, N = 4 and Q = 2. Rows 0 and 1 sit at history 0, rows 2 and 3 at history 1, and both
histories are "a". The rows have written b, c, d and e, and go on from rows 3, 1, 1 and 3:

    history 0   a c     rows 1 and 2     row 1 sat there: its step comes behind the history
    history 1   a e     rows 0 and 3     row 3 sat there

Had they gone on from rows 0 and 1, which sit at one history, then the first of them would keep it,
and the second would get a copy in the place of the other history, from which nobody went on. So no
more is copied than parents that have a history in common, and nothing where each has its own.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ttc_jax.models.attention import at_slot, history_attention
from ttc_jax.models.cache import BLOCK, KVCache, Layers
from ttc_jax.models.indexing import take_along
from ttc_jax.models.int8 import Stored
from ttc_jax.models.scoring import Part, Scoring
from ttc_jax.sharding.mesh import split_heads


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedCache(KVCache):
    """A `KVCache` whose suffixes hold what rows have written since the last selection step."""

    history: Layers  # [B, Q, K, S, 2·h], and scales [B, Q, K, 2, S] where values are int8
    begun: Int[Array, "B N"]  # slots of its history that a row sees: its suffix comes behind them
    seat: Int[Array, "B N"]  # of each row: one of N / Q at its history, counted through [Q, N / Q]
    small: ClassVar[tuple[str, ...]] = (*KVCache.small, "begun", "seat")

    @classmethod
    def of(cls, cache: KVCache, histories: int, capacity: int) -> SharedCache:
        """The same prompts, as yet without an answer, with as much room for one.

        Args:
          cache: as it was forked.
          histories: Q, which divides N.
          capacity: slots of a row's own, for all that it holds between two selection steps.
        """
        slots = -(-capacity // BLOCK) * BLOCK

        def empty(x: Stored, rows: int, slots: int | None = None) -> Stored:
            def zeros(x: Array, *, axis: int) -> Array:
                shape = [x.shape[0], rows, *x.shape[2:]]
                shape[axis] = slots or shape[axis]
                return jnp.zeros(shape, x.dtype)

            return jax.tree.map(split_heads, x.each(zeros))

        rows = cache.active.shape
        fields = {field.name: getattr(cache, field.name) for field in dataclasses.fields(cache)}
        fields["suffix"] = tuple(empty(x, rows[1], slots) for x in cache.suffix)
        return cls(
            **fields,
            history=tuple(empty(x, histories) for x in cache.suffix),
            begun=jnp.zeros(rows, jnp.int32),
            seat=jnp.broadcast_to(jnp.arange(rows[1], dtype=jnp.int32), rows),
        )

    @property
    def own(self) -> Int[Array, "B N"]:
        """Suffix slots of each row that hold something."""
        return self.stored - self.begun

    def span(self, tokens: int) -> int:
        """Returns the slots that are allocated, of the prompt, histories and suffixes."""
        return super().span(tokens) + self.history[0].values.shape[3]

    def _between(self, layer: int, q: Float[Array, "B N T K G h"], scoring: Scoring) -> Part:
        return history_attention(
            q,
            self.history[layer],
            self.stored,
            self.begun,
            self.seat,
            jnp.where(self.active, self.begun, 0).max(),
            scoring,
            BLOCK,
            self.slots,
        )

    def gather(self, parents: Int[Array, "B N"], live: Bool[Array, "B N"] | None = None) -> Self:
        """Every live row a copy of its parent; what no live row goes on from is given up.

        What rows hold is not moved: a parent's step goes behind its history.
        """
        assert live is not None
        assert parents.shape == live.shape
        find = functools.partial(assign, histories=self.history[0].values.shape[1])
        seat, parent = jax.vmap(find)(parents, live, self.seat)
        context, length = (take_along(x, parents) for x in (self.context, self.length))
        return dataclasses.replace(
            self,
            history=self._moved(parent),
            begun=context + length,
            seat=seat,
            context=context,
            length=length,
        )

    def clear(self) -> Self:
        """Refuses: a context is longer than a step."""
        raise NotImplementedError("a SharedCache has no room for contexts")

    def _moved(self, parent: Int[Array, "B Q"]) -> Layers:
        """The histories that parents give, in place; `parent` is N where there is none."""
        (questions, Q), N, S = parent.shape, self.seat.shape[1], self.history[0].values.shape[3]
        home = self.seat // (N // Q)
        blocks = (-(-self.begun // BLOCK), -(-self.own // BLOCK))

        def fill(i: Array, history: Layers) -> Layers:
            g, place = i // Q, i % Q
            row, there = jnp.minimum(parent[g, place], N - 1), parent[g, place] < N
            question = g if self.slots is None else self.slots[g]

            def copy(j: Array, history: Layers) -> Layers:
                at = j * BLOCK
                moved = (_block(x, question, home[g, row], at) for x in history)
                return tuple(
                    _put_block(x, new, question, place, at)
                    for x, new in zip(history, moved, strict=True)
                )

            def append(j: Array, history: Layers) -> Layers:
                wanted = self.begun[g, row] + j * BLOCK
                at = jnp.minimum(wanted, S - BLOCK)  # the last block lies inside
                old = (_block(x, question, place, at) for x in history)
                new = (_block(x, question, row, j * BLOCK) for x in self.suffix)
                return tuple(
                    _put_block(x, _behind(wanted - at, *both), question, place, at)
                    for x, *both in zip(history, old, new, strict=True)
                )

            copies = jnp.where(there & (home[g, row] != place), blocks[0][g, row], 0)
            history = lax.fori_loop(0, copies, copy, history)
            return lax.fori_loop(0, jnp.where(there, blocks[1][g, row], 0), append, history)

        return lax.fori_loop(0, questions * Q, fill, self.history)


def assign(
    parents: Int[Array, " N"], live: Bool[Array, " N"], seat: Int[Array, " N"], histories: int
) -> tuple[Int[Array, " N"], Int[Array, " Q"]]:
    """Returns the seats of rows that go on from `parents`, and whose history each place holds then.

    A history stays in its place for the first of its rows that is a parent. Others are put into
    places that no parent sits at. Rows that are not live take the seats that are left.

    Args:
      seat: where the rows sit now.
      histories: Q. Live rows have no more parents than that, and N / Q at most have the same.
    """
    N, Q = len(parents), histories
    rows = jnp.arange(N, dtype=jnp.int32)
    home = seat // (N // Q)
    earlier = rows[None] < rows[:, None]
    siblings = (parents[:, None] == parents[None]) & live[None]
    chosen = (live[None] & (parents[None] == rows[:, None])).any(1)
    stays = chosen & ~((home[:, None] == home[None]) & earlier & chosen[None]).any(1)
    taken = jnp.zeros(Q, bool).at[jnp.where(stays, home, Q)].set(True, mode="drop")
    vacant = jnp.argsort(taken, stable=True)
    moves = chosen & ~stays
    place = jnp.where(stays, home, vacant[jnp.clip(jnp.cumsum(moves) - 1, 0, Q - 1)])
    parent = jnp.full(Q, N).at[jnp.where(chosen, place, Q)].set(rows, mode="drop")

    sits = place[parents] * (N // Q) + (siblings & earlier).sum(1, dtype=jnp.int32)
    sits = jnp.where(live, sits, N)
    left = jnp.argsort(jnp.zeros(N, bool).at[sits].set(True, mode="drop"), stable=True)
    sits = jnp.where(live, sits, left[jnp.clip(jnp.cumsum(~live) - 1, 0, N - 1)])
    return sits.astype(jnp.int32), parent.astype(jnp.int32)


def _block(x: Stored, question: Array, row: Array, start: Array) -> Stored:
    """`BLOCK` slots of one row or history, from `start` on."""

    def read(x: Array, *, axis: int) -> Array:
        size = [1, 1, *x.shape[2:]]
        size[axis] = BLOCK
        return lax.dynamic_slice(x, (question, row, *at_slot(start, axis)), size)

    return x.each(read)


def _put_block(x: Stored, new: Stored, question: Array, row: Array, start: Array) -> Stored:
    def put(x: Array, new: Array, *, axis: int) -> Array:
        return lax.dynamic_update_slice(x, new, (question, row, *at_slot(start, axis)))

    return x.each(put, new)


def _behind(count: Array, old: Stored, new: Stored) -> Stored:
    """A block of the first `count` slots of `old` and what fits of `new`."""

    def join(old: Array, new: Array, *, axis: int) -> Array:
        other = tuple(i for i in range(old.ndim) if i != axis)
        is_new = jnp.expand_dims(jnp.arange(BLOCK) >= count, other)
        return jnp.where(is_new, jnp.roll(new, count, axis), old)

    return old.each(join, new)
