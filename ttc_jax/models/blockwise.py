"""Causal attention over long sequences, block by block: no T × S scores at any time.

Queries are taken a block at a time, and meet the blocks of keys that any of them sees, one after
the other, with an online softmax; of the others nothing is computed. The backward pass makes the
scores of a block anew from the log-sum-exp of each query, so that what is kept for it grows with T,
not with T × S.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ttc_jax.models.scoring import HIDDEN, Part, Scoring

BLOCK = 512  # queries, and keys, whose scores are held at a time


class Padded(NamedTuple):
    """Queries, keys and values padded on the right to whole blocks."""

    q: Float[Array, "B T K G h"]
    k: Float[Array, "B S K h"]
    v: Float[Array, "B S K h"]
    ahead: int  # keys before the first query's own

    @classmethod
    def of(cls, q: Array, k: Array, v: Array, block: int) -> Padded:
        """Padding that no real query sees, and behind which every query has a key of its own."""
        ahead = k.shape[1] - q.shape[1]
        queries = -(-q.shape[1] // block) * block
        keys = -(-(ahead + queries) // block) * block
        return cls(_pad(q, queries), _pad(k, keys), _pad(v, keys), ahead)


def blockwise_attention(
    q: Float[Array, "B T K G h"],
    k: Float[Array, "B S K h"],
    v: Float[Array, "B S K h"],
    scoring: Scoring,
    block: int = BLOCK,
) -> Float[Array, "B T K G h"]:
    """Returns what `causal_attention` does, with memory for a block's scores alone."""
    padded = Padded.of(q, k, v, block)
    blocks = _Blocks(scoring, padded.ahead, block)
    out: Array = _attention(padded.q, padded.k, padded.v, blocks)
    return out[:, : q.shape[1]]


class _Blocks(NamedTuple):
    """The blocks that see each other, and their scores."""

    scoring: Scoring
    ahead: int
    size: int

    def seen_by(self, i: Array) -> tuple[Array, Array]:
        """Blocks of keys, from the first up to the last and one, that queries of block `i` see."""
        first = self.ahead + i * self.size  # position of the block's first query
        last = first + self.size - 1
        window = self.scoring.window
        begin = jnp.int32(0) if window is None else jnp.maximum(first - window + 1, 0) // self.size
        return begin, last // self.size + 1

    def seeing(self, j: Array, blocks: int) -> tuple[Array, Array]:
        """Blocks of queries, of so many, that see keys of block `j`: first, last and one."""
        begin = jnp.maximum(j * self.size - self.ahead, 0) // self.size
        if (window := self.scoring.window) is None:
            return begin, jnp.int32(blocks)
        last = (j + 1) * self.size - 1 + window - 1 - self.ahead  # the last query's number
        return begin, jnp.minimum(last // self.size + 1, blocks)

    def distance(self, i: Array, j: Array) -> Int[Array, "s t"]:
        """Position of each query of block `i` minus that of each key of block `j`."""
        at = jnp.arange(self.size)
        return self.ahead + (i - j) * self.size + at[:, None] - at[None, :]

    def take(self, x: Array, i: Array, axis: int = 1) -> Array:
        """Block `i` of `x`."""
        return lax.dynamic_slice_in_dim(x, i * self.size, self.size, axis)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _attention(q: Array, k: Array, v: Array, blocks: _Blocks) -> Array:
    return _forward(q, k, v, blocks)[0]


def _forward(q: Array, k: Array, v: Array, blocks: _Blocks) -> tuple[Array, tuple[Array, ...]]:
    """Returns the output, and what the backward pass needs."""

    def of_queries(i: Array) -> tuple[Float[Array, "B s K G h"], Float[Array, "B K G s"]]:
        own = blocks.take(q, i)

        def add(j: Array, part: Part) -> Part:
            values = blocks.take(v, j)
            scores = blocks.scoring(_dots(own, blocks.take(k, j)), blocks.distance(i, j))
            return part.merge(Part.of(scores, lambda w: _mix(w.astype(v.dtype), values)))

        B, _, K, G, h = own.shape
        rows = (B, K, G, blocks.size)
        nothing = Part(jnp.full((*rows, 1), HIDDEN), jnp.zeros((*rows, 1)), jnp.zeros((*rows, h)))
        part = lax.fori_loop(*blocks.seen_by(i), add, nothing)
        mixed = (part.mixed / part.mass).astype(v.dtype).transpose(0, 3, 1, 2, 4)
        return mixed, (part.top + jnp.log(part.mass))[..., 0]

    out, total = lax.map(of_queries, jnp.arange(q.shape[1] // blocks.size))
    out = _join(out, 1)
    return out, (q, k, v, out, _join(total, 3))


def _backward(
    blocks: _Blocks, kept: tuple[Array, ...], change: Array
) -> tuple[Array, Array, Array]:
    """Returns the gradients of queries, keys and values, each summed in float32."""
    q, k, v, out, total = kept
    count = q.shape[1] // blocks.size
    wide = jnp.float32
    # Sum over a query's weights times their gradients: the same as output times its gradient.
    mean = jnp.einsum("btkgh,btkgh->bkgt", out.astype(wide), change.astype(wide))

    def of_keys(dq: Array, j: Array) -> tuple[Array, tuple[Array, Array]]:
        keys, values = blocks.take(k, j), blocks.take(v, j)

        def add(i: Array, sums: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            dq, dk, dv = sums
            own, moved = blocks.take(q, i), blocks.take(change, i)
            distance = blocks.distance(i, j)
            scores, back = jax.vjp(lambda x: blocks.scoring(x, distance), _dots(own, keys))
            weights = jnp.exp(scores - blocks.take(total, i, 3)[..., None])
            moves = _dots(moved, values) - blocks.take(mean, i, 3)[..., None]
            dots = back(weights * moves)[0].astype(q.dtype)
            mine = blocks.take(dq, i) + _mix(dots, keys).transpose(0, 3, 1, 2, 4)
            dq = lax.dynamic_update_slice_in_dim(dq, mine, i * blocks.size, 1)
            return dq, dk + _gather(dots, own), dv + _gather(weights.astype(v.dtype), moved)

        nothing = jnp.zeros(keys.shape, wide)
        dq, dk, dv = lax.fori_loop(*blocks.seeing(j, count), add, (dq, nothing, nothing))
        return dq, (dk.astype(k.dtype), dv.astype(v.dtype))

    start = jnp.zeros(q.shape, wide)
    dq, (dk, dv) = lax.scan(of_keys, start, jnp.arange(k.shape[1] // blocks.size))
    return dq.astype(q.dtype), _join(dk, 1), _join(dv, 1)


_attention.defvjp(_forward, _backward)


def _dots(q: Array, k: Array) -> Float[Array, "B K G t s"]:
    return jnp.einsum("btkgh,bskh->bkgts", q, k, preferred_element_type=jnp.float32)


def _mix(weights: Array, v: Array) -> Float[Array, "B K G t h"]:
    return jnp.einsum("bkgts,bskh->bkgth", weights, v, preferred_element_type=jnp.float32)


def _gather(weights: Array, q: Array) -> Float[Array, "B s K h"]:
    return jnp.einsum("bkgts,btkgh->bskh", weights, q, preferred_element_type=jnp.float32)


def _join(x: Array, axis: int) -> Array:
    """[blocks, ...] -> [...], the blocks one after the other along `axis`."""
    x = jnp.moveaxis(x, 0, axis)
    return x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])


def _pad(x: Array, size: int) -> Array:
    return jnp.pad(x, ((0, 0), (0, size - x.shape[1]), *((0, 0),) * (x.ndim - 2)))
