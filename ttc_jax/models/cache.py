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
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ttc_jax.models.attention import (
    at_slot,
    causal_attention,
    forked_attention,
    read_block,
)
from ttc_jax.models.indexing import put_slots, take_rows, take_slots
from ttc_jax.models.int8 import Stored
from ttc_jax.models.scoring import Part, Scoring
from ttc_jax.sharding.mesh import split_heads

BLOCK = 64  # suffix slots that attention reads at a time
Layers = tuple[Stored, ...]  # one entry a layer


@runtime_checkable
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
    """Keys and values of whole sequences, padded on the right, as one pass reads them.

    Or of what follows `prefix`, of one sequence, which stands before all B.
    """

    k: tuple[Float[Array, "B P K h"], ...] = ()  # one entry a layer, as they are written
    v: tuple[Float[Array, "B P K h"], ...] = ()
    # Whether a `KVCache` over them holds int8.
    int8: bool = dataclasses.field(default=False, metadata={"static": True})
    prefix: PromptCache | None = None

    @property
    def tokens(self) -> int:
        """P, of a cache that is written."""
        return self.k[0].shape[1]

    def positions(self, tokens: int) -> Int[Array, "1 T"]:
        """Behind the prefix, the same for every row."""
        return jnp.arange(self.span(tokens))[None, -tokens:]

    def span(self, tokens: int) -> int:
        """As many as there are tokens."""
        return tokens + (self.prefix.tokens if self.prefix else 0)

    def write(self, layer: int, k: Array, v: Array) -> Self:
        """Adds the next layer."""
        assert layer == len(self.k), "layers write in their order"
        if self.prefix is not None:
            k, v = _behind(self.prefix.k[layer], k), _behind(self.prefix.v[layer], v)
        return dataclasses.replace(self, k=(*self.k, k), v=(*self.v, v))

    def attend(self, layer: int, q: Array, scoring: Scoring) -> Array:
        """Causal attention."""
        return causal_attention(q, self.k[layer], self.v[layer], scoring)


def _behind(prefix: Float[Array, "1 F K h"], x: Float[Array, "B P K h"]) -> Array:
    """[B, F + P, K, h]: each of `x` behind the same `prefix`."""
    return jnp.concatenate([jnp.broadcast_to(prefix, (len(x), *prefix.shape[1:])), x], 1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KVCache:
    """Keys and values of every layer, and how much of them is real.

    Key and value of a suffix slot lie side by side: so a TPU, which keeps arrays in tiles of 128
    along their last axis, neither pads heads of 64 nor turns the cache round to write one token.

    A cache with `slots` is a view of those questions, which are the B of its lengths and tokens;
    keys and values are read and written in place, in the arrays of all questions. A slot beyond
    these holds nothing: what is written there is dropped.

    In int8 they have a scale for each slot of each head, and are never turned back into floats:
    products with them are scaled.
    """

    prompt_k: Layers  # [B, K, h, P], and scales [B, K, 1, P] where values are int8
    prompt_v: Layers  # [B, K, P, h], and scales [B, K, 1, P]
    suffix: Layers  # [B, N, K, S, 2·h], and scales [B, N, K, 2, S]
    prompt_length: Int[Array, " B"]
    context: Int[Array, "B N"]
    length: Int[Array, "B N"]
    active: Bool[Array, "B N"]  # rows whose next tokens matter; the others cost no attention
    slots: Int[Array, " B"] | None = None  # rising
    # Fields that a view slices.
    small: ClassVar[tuple[str, ...]] = ("prompt_length", "context", "length", "active")

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

        def stored(x: Float[Array, "B P K h"]) -> Stored:
            return Stored.of(x.transpose(0, 2, 1, 3), int8=prompt.int8)

        def keys(k: Float[Array, "B P K h"]) -> Stored:
            values, scale = stored(k)
            return Stored(values.swapaxes(2, 3), scale)

        def empty(x: Float[Array, "B P K h"]) -> Stored:
            K, h = x.shape[2:]
            if not prompt.int8:
                return Stored(jnp.zeros((*rows, K, slots, 2 * h), x.dtype))
            values = jnp.zeros((*rows, K, slots, 2 * h), jnp.int8)
            return Stored(values, jnp.zeros((*rows, K, 2, slots), x.dtype))

        def over_layers(make: Callable[[Array], Stored], layers: tuple[Array, ...]) -> Layers:
            return jax.tree.map(split_heads, tuple(map(make, layers)))

        return cls(
            prompt_k=over_layers(keys, prompt.k),
            prompt_v=over_layers(stored, prompt.v),
            suffix=over_layers(empty, prompt.k),
            prompt_length=prompt_length,
            context=jnp.zeros(rows, jnp.int32),
            length=jnp.zeros(rows, jnp.int32),
            active=jnp.ones(rows, bool),
        )

    @property
    def stored(self) -> Int[Array, "B N"]:
        """Tokens stored of each row, behind the prompt."""
        return self.context + self.length

    @property
    def own(self) -> Int[Array, "B N"]:
        """Suffix slots of each row that hold something."""
        return self.stored

    def positions(self, tokens: int) -> Int[Array, "B N T"]:
        """Behind the prompt and what is stored of each suffix."""
        start = self.prompt_length[:, None] + self.stored
        return start[..., None] + jnp.arange(tokens)[None, None]

    def span(self, tokens: int) -> int:
        """What is allocated."""
        return self.prompt_k[0].values.shape[3] + self.suffix[0].values.shape[3]

    def write(self, layer: int, k: Array, v: Array) -> Self:
        """Puts T tokens' keys and values, [B, N, T, K, h], behind what each row holds.

        The caller sees to it that they fit: a slice that does not would be shifted back.
        """
        old = self.suffix[layer]
        keys, values = (Stored.of(x.swapaxes(2, 3), int8=old.scale is not None) for x in (k, v))
        new = keys.each(lambda k, v, *, axis: jnp.concatenate([k, v], 7 - axis), values)
        new = jax.tree.map(lambda x, like: x.astype(like.dtype), new, old)
        suffix = _put(old, new, self.own, self.slots)
        return dataclasses.replace(self, suffix=_replace(self.suffix, layer, suffix))

    def attend(
        self, layer: int, q: Float[Array, "B N T K G h"], scoring: Scoring
    ) -> Float[Array, "B N T K G h"]:
        """Attention of T tokens just written over everything before them."""
        reach = jnp.where(self.active, self.own, 0).max() + q.shape[2]
        return forked_attention(
            q,
            self._of_slots(self.prompt_k[layer]),
            self._of_slots(self.prompt_v[layer]),
            self.suffix[layer],
            self.prompt_length,
            self.stored,
            self.own,
            reach,
            scoring,
            BLOCK,
            self.slots,
            self._between(layer, q, scoring),
        )

    def _between(self, layer: int, q: Array, scoring: Scoring) -> Part | None:
        """Attention over what is stored of rows between their prompt and their suffix."""
        del layer, q, scoring

    def gather(self, parents: Int[Array, "B W"], live: Bool[Array, "B W"] | None = None) -> Self:
        """W rows a question, each a copy of its parent, a row of the same question.

        Where W is N, what is moved is what any row holds, not what is allocated.

        Args:
          live: rows that go on; what others hold need not be kept. None: all do.
        """
        del live

        def of_parents(tree: Any) -> Any:
            return jax.tree.map(lambda x: take_rows(x, parents), tree)

        def move(i: Array, suffix: Layers) -> Layers:
            return tuple(move_block(x, i * BLOCK) for x in suffix)

        def move_block(x: Stored, at: Array) -> Stored:
            block = of_parents(read_block(x, at, BLOCK, self.slots))
            if self.slots is not None:
                return _put(x, block, jnp.broadcast_to(at, (len(self.slots), 1)), self.slots)
            update = lax.dynamic_update_slice_in_dim
            return x.each(lambda x, block, *, axis: update(x, block, at, axis), block)

        if parents.shape[1] == self.active.shape[1]:
            blocks = (self.stored.max() + BLOCK - 1) // BLOCK
            suffix = lax.fori_loop(0, blocks, move, self.suffix)
        else:
            suffix = of_parents(self.suffix)
        return dataclasses.replace(
            self,
            suffix=suffix,
            context=of_parents(self.context),
            length=of_parents(self.length),
        )

    def view(self, slots: Int[Array, " B"]) -> Self:
        """The cache of these questions, in place."""
        assert self.slots is None
        small = {name: take_slots(getattr(self, name), slots) for name in self.small}
        return dataclasses.replace(self, **small, slots=slots)

    def merge(self, view: Self) -> Self:
        """The cache of all questions, after some were changed in a view."""
        assert view.slots is not None
        small = {
            name: put_slots(getattr(self, name), getattr(view, name), view.slots)
            for name in self.small
        }
        return dataclasses.replace(view, **small, slots=None)

    def _of_slots(self, x: Stored) -> Stored:
        slots = self.slots
        return x if slots is None else jax.tree.map(lambda array: take_slots(array, slots), x)

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
        return take_slots(x.reshape(-1, *x.shape[2:]), self.rows)

    def spread(self, x: Array) -> Array:
        """[W, ...] -> [B, N, ...]; 0 in rows without a lane."""
        B, N = self.cache.active.shape
        rows = jnp.zeros((B * N, *x.shape[1:]), x.dtype)
        rows = rows.at[self.rows].set(x, mode="drop", wrap_negative_indices=False)
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


def _put(
    suffix: Stored, new: Stored, start: Int[Array, "G W"], slots: Int[Array, " G"] | None
) -> Stored:
    """The suffix with `new` from slot `start` on, in place.

    Args:
      start: of each row, W = N; or of all rows of a question together, W = 1.
      slots: the questions, rising; those beyond B are dropped. None: all of them.
    """
    W = start.shape[1]
    rows = new.values.shape[1] // W

    def at_once(suffix: Stored) -> Stored:
        return suffix.each(scatter, new)

    def scatter(x: Array, new: Array, *, axis: int) -> Array:
        question = jnp.arange(x.shape[0]) if slots is None else slots
        row = jnp.arange(W) * rows
        where = jnp.broadcast_arrays(question[:, None], row[None], start)
        dimensions = lax.ScatterDimensionNumbers(
            update_window_dims=(1, 2, 3, 4, 5),
            inserted_window_dims=(),
            scatter_dims_to_operand_dims=(0, 1, axis),
        )
        # In bfloat16 a CPU would make a float32 copy of the whole cache, and turn it back.
        bits = jnp.uint16 if x.dtype == jnp.bfloat16 else x.dtype
        scattered = lax.scatter(
            lax.bitcast_convert_type(x, bits),
            jnp.stack(where, -1).reshape(-1, 3),
            lax.bitcast_convert_type(new, bits).reshape(-1, 1, rows, *new.shape[2:]),
            dimensions,
            indices_are_sorted=True,
            unique_indices=True,
            mode="drop",
        )
        return lax.bitcast_convert_type(scattered, x.dtype)

    def one_by_one(suffix: Stored) -> Stored:
        def put(i: Array, suffix: Stored) -> Stored:
            g, w = i // W, i % W

            def put_row(x: Array, new: Array, *, axis: int) -> Array:
                size = (1, rows, *new.shape[2:])
                window = lax.dynamic_slice(new, (g, w * rows, 0, 0, 0), size)
                at = (g if slots is None else slots[g], w * rows, *at_slot(start[g, w], axis))
                if slots is not None:
                    there = slots[g] < x.shape[0]
                    window = jnp.where(there, window, lax.dynamic_slice(x, at, size))
                return lax.dynamic_update_slice(x, window, at)

            return suffix.each(put_row, new)

        return lax.fori_loop(0, start.size, put, suffix)

    # For a scatter a TPU would turn the whole cache round, there and back.
    return lax.platform_dependent(suffix, tpu=one_by_one, default=at_once)


def _replace(items: Layers, index: int, item: Stored) -> Layers:
    return (*items[:index], item, *items[index + 1 :])
