"""Attention: plain causal over a sequence, and over [shared prompt] + [a candidate's own suffix].

Scores and softmax are float32 whatever the dtype of the weights and caches. Where all scores of a
head at once would be too many, `is_long`, they are made block by block.
"""

from __future__ import annotations

import functools
import os

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ttc_jax.errors import UserError
from ttc_jax.models import splash
from ttc_jax.models.blockwise import blockwise_attention
from ttc_jax.models.indexing import take_rows
from ttc_jax.models.int8 import Stored
from ttc_jax.models.scoring import HIDDEN, Part, Scoring

MOST_SCORES = 2048 * 2048  # queries × keys of a head, which take 16 MiB
HISTORY = "history"  # scope of attention over what rows share
PROMPT_BLOCK = 512  # tokens of a long prompt that candidates read at a time


def is_long(queries: int, keys: int) -> bool:
    """Whether a head's scores are made block by block: the one rule, of shapes alone."""
    return queries * keys > MOST_SCORES and _chosen() != "plain"


def _chosen() -> str:
    """Returns the implementation that the environment asks for at long contexts, "" for none."""
    chosen = os.environ.get("TTC_ATTENTION", "")
    if chosen not in ("", "plain", "blockwise"):
        raise UserError(f"TTC_ATTENTION={chosen}: must be plain or blockwise, or not set")
    return chosen


def causal_attention(
    q: Float[Array, "B T K G h"],
    k: Float[Array, "B S K h"],
    v: Float[Array, "B S K h"],
    scoring: Scoring,
) -> Float[Array, "B T K G h"]:
    """Each token over itself and the tokens before it.

    Keys may begin earlier than queries do; they end with them. Padding belongs on the right, where
    no real token looks. Long sequences are read block by block: on a TPU by a kernel, where it
    takes such heads, elsewhere by `blockwise_attention`.
    """
    if is_long(q.shape[1], k.shape[1]):
        blockwise = functools.partial(blockwise_attention, scoring=scoring)
        if _chosen() == "blockwise" or not splash.supports(q):
            return blockwise(q, k, v)
        kernel = functools.partial(splash.splash_attention, scoring=scoring)
        return lax.platform_dependent(q, k, v, tpu=kernel, default=blockwise)
    at = jnp.arange(k.shape[1])
    dots = jnp.einsum("btkgh,bskh->bkgts", q, k, preferred_element_type=jnp.float32)
    scores = scoring(dots, (at[-q.shape[1] :, None] - at[None, :])[None, None, None])
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("bkgts,bskh->btkgh", weights, v)


def forked_attention(
    q: Float[Array, "B N T K G h"],
    prompt_k: Stored,
    prompt_v: Stored,
    suffix: Stored,
    prompt_length: Int[Array, " B"],
    length: Int[Array, "B N"],
    own: Int[Array, "B N"],
    reach: Int[Array, ""],
    scoring: Scoring,
    block: int,
    slots: Int[Array, " B"] | None = None,
    between: Part | None = None,
) -> Float[Array, "B N T K G h"]:
    """T new tokens of every candidate over its question's prompt and its own suffix.

    The N candidates of a question read one copy of the prompt's keys and values, as one matrix
    product; keys lie feature-major there, as that product reads them. The suffix is read in blocks
    with an online softmax: the first one always, and of the others just as many as the
    longest active row needs. Cost follows what is stored, not what is allocated.

    Of int8 the products are scaled: those of keys, and the weights that values are summed with. So
    no float copy of what is stored is made.

    Args:
      prompt_k, prompt_v: [B, K, h, P] and [B, K, P, h], with scales [B, K, 1, P].
      suffix: key and value of each slot, side by side, [B, N, K, S, 2·h], with scales
        [B, N, K, 2, S].
      prompt_length: prompt tokens stored; the rest of P is padding.
      length: tokens of a row stored before the T new ones, behind the prompt.
      own: how many of them its suffix holds, so that the new ones lie from slot `own` on.
      reach: suffix slots that any active row needs, max(own) + T.
      block: slots read at a time; divides S.
      slots: where the B questions lie in the suffix array, if that is of more questions.
      between: attention over what is stored of rows between prompt and suffix, [B, N, K, T, G].
    """
    T, P, S = q.shape[2], prompt_k.values.shape[3], suffix.values.shape[3]
    product = functools.partial(_product, q.dtype)

    def new(before: Array) -> Int[Array, "B N 1 T 1 1"]:  # the axes are B N K T G and keys
        return jnp.expand_dims(before[..., None] + jnp.arange(T)[None, None], (2, 4, 5))

    place, slot = new(length), new(own)
    stored = jnp.expand_dims(prompt_length, (1, 2, 3, 4, 5))

    def keys(start: Array | int, count: int) -> Int[Array, "1 1 1 1 1 count"]:
        return jnp.expand_dims(start + jnp.arange(count), (0, 1, 2, 3, 4))

    def read_prompt(k: Stored, v: Stored, start: Array | int = 0, new: Array | int = 0) -> Part:
        """Attention over the prompt's tokens from `start` on, but for those before `new`."""
        at = keys(start, k.values.shape[3])
        dots = product("bntkgh,bkhp->bkntgp", q, k.values)
        dots = _scaled(dots, k.scale, (2, 3))
        scores = scoring(dots, (stored + place).swapaxes(1, 2) - at, (at < stored) & (at >= new))

        def mix(weights: Array) -> Array:
            weights = _scaled(weights, v.scale, (2, 3))
            return product("bkntgp,bkph->bkntgh", weights, v.values)

        part = Part.of(scores, mix)
        return Part(*(x.swapaxes(1, 2) for x in part))  # to [B, N, K, T, G, ·], as the suffix

    def read_prompt_block(i: Array | int) -> Part:
        new, size = i * PROMPT_BLOCK, min(PROMPT_BLOCK, P)
        start = jnp.minimum(new, P - size)  # the last block lies inside, and has some tokens twice

        def cut(x: Stored, axis: int) -> Stored:
            values = lax.dynamic_slice_in_dim(x.values, start, size, axis)
            if x.scale is None:
                return Stored(values)
            return Stored(values, lax.dynamic_slice_in_dim(x.scale, start, size, 3))

        return read_prompt(cut(prompt_k, 3), cut(prompt_v, 2), start, new)

    def read_whole_prompt() -> Part:
        if not is_long(q.shape[1] * T, P):
            return read_prompt(prompt_k, prompt_v)
        blocks = (prompt_length.max() + PROMPT_BLOCK - 1) // PROMPT_BLOCK
        return lax.fori_loop(
            1, blocks, lambda i, part: part.merge(read_prompt_block(i)), read_prompt_block(0)
        )

    def read_suffix(i: Array | int) -> Part:
        (k, k_scale), (v, v_scale) = _read_halves(suffix, i * block, block, slots)
        dots = _scaled(product("bntkgh,bnksh->bnktgs", q, k), k_scale, (3,))
        scores = scoring(dots, slot - keys(i * block, block))
        return Part.of(
            scores, lambda w: product("bnktgs,bnksh->bnktgh", _scaled(w, v_scale, (3,)), v)
        )

    total = read_whole_prompt().merge(read_suffix(0))
    if between is not None:
        total = total.merge(between)
    if block < S:
        blocks = (reach + block - 1) // block
        total = lax.fori_loop(1, blocks, lambda i, part: part.merge(read_suffix(i)), total)
    return (total.mixed / total.mass).astype(q.dtype).transpose(0, 1, 3, 2, 4, 5)


@jax.named_scope(HISTORY)
def history_attention(
    q: Float[Array, "B N T K G h"],
    history: Stored,
    length: Int[Array, "B N"],
    begun: Int[Array, "B N"],
    seat: Int[Array, "B N"],
    reach: Int[Array, ""],
    scoring: Scoring,
    block: int,
    slots: Int[Array, " B"] | None = None,
) -> Part:
    """The part that `forked_attention` calls `between`, over histories that rows share.

    The N / Q rows of a history read one copy of it, as one matrix product.

    Args:
      history: key and value of each slot, side by side, [B, Q, K, S, 2·h], with scales
        [B, Q, K, 2, S].
      length, block, slots: as those of `forked_attention`.
      begun: slots of its history that a row sees.
      seat: of each row, counted through [Q, N / Q].
      reach: slots that any active row needs, max(begun).
    """
    (B, N, T, K, G, h), Q = q.shape, history.values.shape[1]
    rows = jnp.argsort(seat, 1)  # in each seat
    product = functools.partial(_product, q.dtype)

    def seated(x: Array) -> Array:  # [B, N, ...] -> [B, Q, N / Q, ...]
        return take_rows(x, rows).reshape(B, Q, N // Q, *x.shape[2:])

    # The axes are B Q K N/Q T G and keys.
    queries = seated(q)
    place = jnp.expand_dims(seated(length[..., None] + jnp.arange(T)[None, None]), (2, 5, 6))
    seen = jnp.expand_dims(seated(begun), (2, 4, 5, 6))

    def read(i: Array, part: Part) -> Part:
        (k, k_scale), (v, v_scale) = _read_halves(history, i * block, block, slots)
        at = jnp.expand_dims(i * block + jnp.arange(block), (0, 1, 2, 3, 4, 5))
        dots = _scaled(product("bqntkgh,bqksh->bqkntgs", queries, k), k_scale, (3, 4))
        scores = scoring(dots, place - at, at < seen)

        def mix(weights: Array) -> Array:
            return product("bqkntgs,bqksh->bqkntgh", _scaled(weights, v_scale, (3, 4)), v)

        return part.merge(Part.of(scores, mix))

    shape = (B, Q, K, N // Q, T, G)
    nothing = Part(*(jnp.full((*shape, n), x) for n, x in ((1, HIDDEN), (1, 0.0), (h, 0.0))))
    part = lax.fori_loop(0, (reach + block - 1) // block, read, nothing)
    return Part(*(take_rows(x.swapaxes(2, 3).reshape(B, N, K, T, G, -1), seat) for x in part))


def _product(dtype: jnp.dtype, pattern: str, x: Array, stored: Array) -> Array:
    args = x.astype(dtype), stored.astype(dtype)
    return jnp.einsum(pattern, *args, preferred_element_type=jnp.float32)


def _scaled(x: Array, scale: Array | None, axes: tuple[int, ...]) -> Array:
    return x if scale is None else x * jnp.expand_dims(scale, axes).astype(x.dtype)


def _read_halves(
    pairs: Stored, start: Array | int, size: int, slots: Int[Array, " G"] | None
) -> tuple[tuple[Array, Array | None], tuple[Array, Array | None]]:
    """The keys and the values that lie side by side in a block, each with scales where it has any.

    With a barrier, lest a TPU reads the block twice, for keys and for values.
    """
    both = lax.optimization_barrier(read_block(pairs, start, size, slots))
    h = both.values.shape[-1] // 2
    k_scale, v_scale = (None, None) if both.scale is None else jnp.split(both.scale, 2, 3)
    return (both.values[..., :h], k_scale), (both.values[..., h:], v_scale)


def read_block(
    suffix: Stored, start: Array | int, size: int, slots: Int[Array, " G"] | None = None
) -> Stored:
    """`size` slots of a suffix from `start` on, of the questions in `slots`, or of all."""

    def read(x: Array, *, axis: int) -> Array:
        if slots is None:
            return lax.dynamic_slice_in_dim(x, start, size, axis)
        at, sizes = at_slot(start, axis), (1, *x.shape[1:axis], size, *x.shape[axis + 1 :])
        if slots.shape[0] == 1:
            return lax.dynamic_slice(x, (slots[0], 0, *at), sizes)
        return jax.vmap(lambda slot: lax.dynamic_slice(x, (slot, 0, *at), sizes)[0])(slots)

    return suffix.each(read)


def at_slot(start: Array | int, axis: int) -> tuple[Array | int, ...]:
    """Where a slice of a suffix begins, behind B and N: `axis` is that of slots."""
    return (0, start, 0) if axis == 3 else (0, 0, start)
