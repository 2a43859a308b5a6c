"""The KV cache of B questions with N candidates each: prompts are stored once a question.

Worked example, P = 4 and S = 3, one question with two candidates. The prompt is "a b c d"; its
last token is left out of the prompt part, since it is the first token every candidate is fed:

    prompt part   a b c .        prompt_length = 3       (. is padding)
    suffix part   d x .          candidate 0 drew x y:   length = 2, y is pending
                  d . .          candidate 1 drew z:     length = 1, z is pending

The key at suffix slot s stands at position prompt_length + s. A pending token has been drawn but
not been fed; feeding it writes slot `length`. What lies at or behind `length` is never seen.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Protocol, Self

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ttc_jax.models.attention import Scoring, causal_attention, forked_attention

BLOCK = 64  # suffix slots that attention reads at a time


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
    """Keys and values of every layer, and how much of them is real."""

    prompt_k: tuple[Float[Array, "B K h P"], ...]
    prompt_v: tuple[Float[Array, "B K P h"], ...]
    suffix_k: tuple[Float[Array, "B N K h S"], ...]
    suffix_v: tuple[Float[Array, "B N K S h"], ...]
    prompt_length: Int[Array, " B"]
    length: Int[Array, "B N"]
    live: Bool[Array, "B N"]  # rows whose next tokens matter; the others cost no attention

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

        def empty(x: Float[Array, "B P K h"], keys: bool) -> Array:
            K, h = x.shape[2:]
            return jnp.zeros((*rows, K, h, slots) if keys else (*rows, K, slots, h), x.dtype)

        return cls(
            prompt_k=tuple(k.transpose(0, 2, 3, 1) for k in prompt.k),
            prompt_v=tuple(v.transpose(0, 2, 1, 3) for v in prompt.v),
            suffix_k=tuple(empty(k, True) for k in prompt.k),
            suffix_v=tuple(empty(v, False) for v in prompt.v),
            prompt_length=prompt_length,
            length=jnp.zeros(rows, jnp.int32),
            live=jnp.ones(rows, bool),
        )

    def positions(self, tokens: int) -> Int[Array, "B N T"]:
        """Behind the prompt and what is stored of each suffix."""
        start = self.prompt_length[:, None] + self.length
        return start[..., None] + jnp.arange(tokens)[None, None]

    def span(self, tokens: int) -> int:
        """What is allocated."""
        return self.prompt_k[0].shape[3] + self.suffix_k[0].shape[4]

    def write(self, layer: int, k: Array, v: Array) -> Self:
        """Puts T tokens' keys and values, [B, N, T, K, h], behind each row's length.

        The caller sees to it that length + T fits: a slice that does not would be shifted back.
        """

        def put(stored: Array, new: Array, axis: int) -> Array:
            row = partial(lax.dynamic_update_slice_in_dim, axis=axis)
            return jax.vmap(jax.vmap(row))(stored, new.astype(stored.dtype), self.length)

        return dataclasses.replace(
            self,
            suffix_k=_replace(
                self.suffix_k, layer, put(self.suffix_k[layer], k.transpose(0, 1, 3, 4, 2), 2)
            ),
            suffix_v=_replace(self.suffix_v, layer, put(self.suffix_v[layer], v.swapaxes(2, 3), 1)),
        )

    def attend(
        self, layer: int, q: Float[Array, "B N T K G h"], scoring: Scoring
    ) -> Float[Array, "B N T K G h"]:
        """Attention of T tokens just written over everything before them."""
        reach = jnp.where(self.live, self.length, 0).max() + q.shape[2]
        return forked_attention(
            q,
            self.prompt_k[layer],
            self.prompt_v[layer],
            self.suffix_k[layer],
            self.suffix_v[layer],
            self.prompt_length,
            self.length,
            reach,
            scoring,
            BLOCK,
        )

    def gather(self, parents: Int[Array, "B N"]) -> Self:
        """Every row becomes a copy of its parent, a row of the same question."""

        def rows(x: Array) -> Array:
            return jnp.take_along_axis(x, jnp.expand_dims(parents, tuple(range(2, x.ndim))), 1)

        return dataclasses.replace(
            self,
            suffix_k=tuple(map(rows, self.suffix_k)),
            suffix_v=tuple(map(rows, self.suffix_v)),
            length=rows(self.length),
        )

    def advance(self, tokens: Int[Array, "B N"]) -> Self:
        """Makes the first `tokens` of what was written last count."""
        return dataclasses.replace(self, length=self.length + tokens)


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


def _replace(items: tuple[Array, ...], index: int, item: Array) -> tuple[Array, ...]:
    return (*items[:index], item, *items[index + 1 :])
