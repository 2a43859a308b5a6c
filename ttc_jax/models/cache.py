"""The KV cache of B questions with N candidates each: prompts are stored once a question.

Worked example, P = 4 and S = 3, one question with two candidates. The prompt is "a b c d"; its
last token is left out of the prompt part, since it is the first token every candidate is fed:

    prompt part   a b c .        prompt_length = 3       (. is padding)
    suffix part   d x .          candidate 0 drew x y:   length = 2, y is pending
                  d . .          candidate 1 drew z:     length = 1, z is pending

The key at suffix slot s stands at position prompt_length + s. A pending token has been drawn but
not been fed; feeding it writes slot `length`. What lies at or behind `length` is never seen.

A row may hold text of its own before its answer, such as the earlier answers that it revises. That
is its context: `context` slots of it come first, and `length` counts what lies behind them.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol, Self

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ttc_jax.models.attention import Scoring, causal_attention, forked_attention
from ttc_jax.parallel.mesh import split_heads

BLOCK = 64  # suffix slots that attention reads at a time
Layers = tuple[Array, ...]  # one entry a layer
_SMALL = ("prompt_length", "context", "length", "live")  # fields of a `KVCache` that a view slices


class Cache(Protocol):
    """What a layer puts its keys and values into, and attends over."""

    def positions(self, tokens: int) -> Int[Array, "*B T"]:
        """Positions of the next `tokens` tokens of every row."""
        ...

    def span(self, tokens: int) -> int:
        """Positions lie below this, whatever the rows hold: known when traced."""
        ...

    def write(self, layer: int, k: Float[Array, "*B T K h"], v: Float[Array, "*B T K h"]) -> Self:
        """Takes in a layer's keys and values of the next tokens."""
        ...

    def attend(
        self, layer: int, q: Float[Array, "*B T K G h"], scoring: Scoring
    ) -> Float[Array, "*B T K G h"]:
        """Attention of those tokens over all that lies before them, and themselves."""
        ...


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PromptCache:
    """Keys and values of whole sequences, padded on the right, as one pass reads them."""

    k: tuple[Float[Array, "B P K h"], ...] = ()  # one entry a layer, as they are written
    v: tuple[Float[Array, "B P K h"], ...] = ()

    def positions(self, tokens: int) -> Int[Array, "1 P"]:
        """0, 1, …, the same for every row."""
        return jnp.arange(tokens)[None]

    def span(self, tokens: int) -> int:
        """As many as there are tokens."""
        return tokens

    def write(self, layer: int, k: Array, v: Array) -> Self:
        """Adds the next layer."""
        assert layer == len(self.k), "layers write in their order"
        return dataclasses.replace(self, k=(*self.k, k), v=(*self.v, v))

    def attend(self, layer: int, q: Array, scoring: Scoring) -> Array:
        """Causal attention."""
        return causal_attention(q, self.k[layer], self.v[layer], scoring)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KVCache:
    """Keys and values of every layer, and how much of them is real.

    Key and value of a suffix slot lie side by side: so a TPU, which keeps arrays in tiles of 128
    along their last axis, neither pads heads of 64 nor turns the cache round to write one token.

    A cache with a `slot` is a view of that one question: B is 1 for lengths and tokens; keys and
    values are read and written in place, in the arrays of all questions.
    """

    prompt_k: tuple[Float[Array, "B K h P"], ...]
    prompt_v: tuple[Float[Array, "B K P h"], ...]
    suffix: tuple[Float[Array, "B N K S kv"], ...]  # kv is 2·h
    prompt_length: Int[Array, " B"]
    context: Int[Array, "B N"]
    length: Int[Array, "B N"]
    live: Bool[Array, "B N"]  # rows whose next tokens matter; the others cost no attention
    slot: Int[Array, ""] | None = None

    @classmethod
    def fork(
        cls,
        prompt: PromptCache,
        prompt_length: Int[Array, " B"],
        candidates: int,
        capacity: int,
    ) -> KVCache:
        """An empty suffix of `capacity` slots for each of N candidates over prefilled prompts."""
        slots = -(-capacity // BLOCK) * BLOCK
        rows = (prompt_length.shape[0], candidates)

        def empty(x: Float[Array, "B P K h"]) -> Array:
            K, h = x.shape[2:]
            return split_heads(jnp.zeros((*rows, K, slots, 2 * h), x.dtype))

        return cls(
            prompt_k=tuple(split_heads(k.transpose(0, 2, 3, 1)) for k in prompt.k),
            prompt_v=tuple(split_heads(v.transpose(0, 2, 1, 3)) for v in prompt.v),
            suffix=tuple(map(empty, prompt.k)),
            prompt_length=prompt_length,
            context=jnp.zeros(rows, jnp.int32),
            length=jnp.zeros(rows, jnp.int32),
            live=jnp.ones(rows, bool),
        )

    @property
    def stored(self) -> Int[Array, "B N"]:
        """Suffix slots of each row that hold something."""
        return self.context + self.length

    def positions(self, tokens: int) -> Int[Array, "B N T"]:
        """Behind the prompt and what is stored of each suffix."""
        start = self.prompt_length[:, None] + self.stored
        return start[..., None] + jnp.arange(tokens)[None, None]

    def span(self, tokens: int) -> int:
        """What is allocated."""
        return self.prompt_k[0].shape[3] + self.suffix[0].shape[3]

    def write(self, layer: int, k: Array, v: Array) -> Self:
        """Puts T tokens' keys and values, [B, N, T, K, h], behind what each row holds.

        The caller sees to it that they fit: a slice that does not would be shifted back.
        """
        new = jnp.concatenate([k, v], -1).swapaxes(2, 3).astype(self.suffix[layer].dtype)
        N, size = new.shape[1], (1, 1, *new.shape[2:])

        # Row by row: of a scatter a TPU would turn the whole cache round, there and back.
        def put(i: Array, suffix: Array) -> Array:
            question, row = i // N, i % N
            text = lax.dynamic_slice(new, (question, row, 0, 0, 0), size)
            start = (self._first + question, row, 0, self.stored[question, row], 0)
            return lax.dynamic_update_slice(suffix, text, start)

        suffix = lax.fori_loop(0, self.stored.size, put, self.suffix[layer])
        return dataclasses.replace(self, suffix=_replace(self.suffix, layer, suffix))

    def attend(
        self, layer: int, q: Float[Array, "B N T K G h"], scoring: Scoring
    ) -> Float[Array, "B N T K G h"]:
        """Attention of T tokens just written over everything before them."""
        reach = jnp.where(self.live, self.stored, 0).max() + q.shape[2]
        return forked_attention(
            q,
            self._of_slot(self.prompt_k[layer]),
            self._of_slot(self.prompt_v[layer]),
            self.suffix[layer],
            self.prompt_length,
            self.stored,
            reach,
            scoring,
            BLOCK,
            self._first,
        )

    def gather(self, parents: Int[Array, "B W"]) -> Self:
        """W rows a question, each a copy of its parent, a row of the same question.

        Where W is N, what is moved is what any row holds, not what is allocated.
        """

        def rows(x: Array) -> Array:
            return jnp.take_along_axis(x, jnp.expand_dims(parents, tuple(range(2, x.ndim))), 1)

        def move(i: Array, suffix: Layers) -> Layers:
            return tuple(move_block(x, i * BLOCK) for x in suffix)

        def move_block(x: Array, at: Array) -> Array:
            start = (self._first, 0, 0, at, 0)
            size = (parents.shape[0], *x.shape[1:3], BLOCK, x.shape[4])
            return lax.dynamic_update_slice(x, rows(lax.dynamic_slice(x, start, size)), start)

        if parents.shape[1] == self.live.shape[1]:
            blocks = (self.stored.max() + BLOCK - 1) // BLOCK
            suffix = lax.fori_loop(0, blocks, move, self.suffix)
        else:
            suffix = tuple(map(rows, self.suffix))
        return dataclasses.replace(
            self,
            suffix=suffix,
            context=rows(self.context),
            length=rows(self.length),
        )

    def view(self, slot: Int[Array, ""]) -> Self:
        """The cache of one question, in place."""
        assert self.slot is None
        small = {name: _slice(getattr(self, name), slot) for name in _SMALL}
        return dataclasses.replace(self, **small, slot=slot)

    def merge(self, view: Self) -> Self:
        """The cache of all questions, after one was changed in a view."""
        assert view.slot is not None
        small = {
            name: lax.dynamic_update_slice_in_dim(
                getattr(self, name), getattr(view, name), view.slot, 0
            )
            for name in _SMALL
        }
        return dataclasses.replace(view, **small, slot=None)

    @property
    def _first(self) -> Int[Array, ""] | int:
        return 0 if self.slot is None else self.slot

    def _of_slot(self, x: Array) -> Array:
        return x if self.slot is None else _slice(x, self.slot)

    def advance(self, tokens: Int[Array, "B N"]) -> Self:
        """Makes the first `tokens` of what was written last count."""
        return dataclasses.replace(self, length=self.length + tokens)

    def clear(self) -> Self:
        """Rows that hold nothing but their prompt."""
        nothing = jnp.zeros_like(self.length)
        return dataclasses.replace(self, context=nothing, length=nothing)

    def settle(self) -> Self:
        """Makes all that rows hold the context of answers that begin now."""
        nothing = jnp.zeros_like(self.length)
        return dataclasses.replace(self, context=self.stored, length=nothing)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LaneCache:
    """W rows of a `KVCache`, whichever they are: lanes of a decode step.

    Products with weights are computed for lanes alone; keys and values stay where their rows are,
    and attention is that of all rows. So rows that rest cost no product, and leave their lanes to
    others.
    """

    cache: KVCache
    rows: Int[Array, " W"]  # of each lane, counted through [B, N]; B·N for a lane that is empty

    @classmethod
    def of(cls, cache: KVCache, need: Int[Array, " BN"], lanes: int) -> LaneCache:
        """The `lanes` rows with the greatest need, where that is above 0; of equals the first."""
        rows = jnp.argsort(need, descending=True)[:lanes].astype(jnp.int32)
        return cls(cache, jnp.where(need[rows] > 0, rows, need.size))

    def over(self, cache: KVCache) -> LaneCache:
        """The same rows of another cache."""
        return LaneCache(cache, self.rows)

    def take(self, x: Array) -> Array:
        """[B, N, ...] -> [W, ...]; an empty lane shows the last row."""
        rows = x.reshape(-1, *x.shape[2:])
        return rows[jnp.minimum(self.rows, rows.shape[0] - 1)]

    def spread(self, x: Array) -> Array:
        """[W, ...] -> [B, N, ...]; 0 in rows without a lane."""
        B, N = self.cache.live.shape
        rows = jnp.zeros((B * N, *x.shape[1:]), x.dtype).at[self.rows].set(x, mode="drop")
        return rows.reshape(B, N, *x.shape[1:])

    def positions(self, tokens: int) -> Int[Array, "W T"]:
        """As the rows'."""
        return self.take(self.cache.positions(tokens))

    def span(self, tokens: int) -> int:
        """As the rows'."""
        return self.cache.span(tokens)

    def write(self, layer: int, k: Float[Array, "W T K h"], v: Float[Array, "W T K h"]) -> Self:
        """Puts them behind their rows; rows without a lane get zeros there, which nothing sees."""
        cache = self.cache.write(layer, self.spread(k), self.spread(v))
        return dataclasses.replace(self, cache=cache)

    def attend(
        self, layer: int, q: Float[Array, "W T K G h"], scoring: Scoring
    ) -> Float[Array, "W T K G h"]:
        """Attention of the lanes' tokens."""
        return self.take(self.cache.attend(layer, self.spread(q), scoring))


def _slice(x: Array, slot: Int[Array, ""]) -> Array:
    return lax.dynamic_slice_in_dim(x, slot, 1, 0)


def _replace(items: tuple[Array, ...], index: int, item: Array) -> tuple[Array, ...]:
    return (*items[:index], item, *items[index + 1 :])
