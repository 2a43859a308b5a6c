"""Revisions: the next answer, with the latest ones in its context (paper section 6).

A context is text of a row's own between the prompt, which all rows share, and its answer. It is
read anew for every answer, as the model was taught: with the earliest answer gone, nothing that was
computed for the later ones holds any more.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from ttc_jax.models.cache import KVCache
from ttc_jax.models.indexing import take_along
from ttc_jax.models.transformer import Transformer
from ttc_jax.sampling import thoughts
from ttc_jax.sampling.decode import begin, resume
from ttc_jax.sampling.keys import answer_keys
from ttc_jax.search import lookahead
from ttc_jax.search.parents import begin_strategy
from ttc_jax.search.plan import Plan
from ttc_jax.search.state import Earlier, Rows, Scores, SearchState, Status
from ttc_jax.verifiers.verifier import CONTEXT_PIECE, Verifier


def revise(
    plan: Plan, generator: Transformer, verifier: Verifier | None, state: SearchState
) -> SearchState:
    """Begins the next answers of questions' rows, with the latest ones in their context."""
    decode, progress = state.decode, state.progress
    rows, T = state.rows.done.shape, plan.max_new_tokens
    chosen = jnp.arange(plan.candidates)[None]
    if plan.strategy.stops_at_steps:
        chosen = state.scores.last.argmax(-1)[:, None]
    chosen = jnp.broadcast_to(chosen, rows)
    answer = take_along(decode.tokens, chosen[..., None], 1)
    length = take_along(decode.cache.length - decode.ended.astype(jnp.int32), chosen, 1)
    if plan.thinking is not None:  # an earlier answer is shown without its thought
        first = take_along(thoughts.first_of_answer(decode.thought, T), chosen, 1)
        answer, length = thoughts.cut(answer, length, first)
    earlier = Earlier(
        jnp.concatenate([state.earlier.tokens[:, :, 1:], answer[:, :, None]], 2),
        jnp.concatenate([state.earlier.lengths[:, :, 1:], length[..., None]], 2),
    )
    text, real = _context(plan, state, earlier.tokens, earlier.lengths)

    cache = _read(generator, dataclasses.replace(decode.cache, active=real > 0).clear(), text, real)
    given = take_along(text, real[..., None], 2)[..., 0]
    decode = begin(
        cache.settle(),
        tokens=jnp.zeros_like(decode.tokens),
        pending=given,
        hidden=decode.hidden,
        keys=answer_keys(decode.keys, T, plan.all_rounds, progress.answer),
        thought=thoughts.again(plan.thinking, decode.thought, plan.between),
    )
    verifier_state = state.verifier
    if verifier is not None:
        verifier_state = verifier.reset(text, real, verifier_state)
    begun = Rows.start(given, state.question.first_step(plan))
    status = jnp.full_like(progress.status, Status.SEARCHING)
    return dataclasses.replace(
        state,
        decode=resume(decode, jnp.ones(rows, bool), begun.limit),
        verifier=verifier_state,
        strategy=begin_strategy(plan, rows[0]),
        progress=dataclasses.replace(progress, status=status, began=progress.round),
        rows=begun,
        scores=Scores.start(decode.tokens),
        saved=lookahead.saved(plan, decode),
        earlier=earlier,
    )


def _context(
    plan: Plan, state: SearchState, earlier: Int[Array, "G N E T"], length: Int[Array, "G N E"]
) -> tuple[Int[Array, "G N C"], Int[Array, "G N"]]:
    """Returns the prompt's last token and the earlier answers behind it, as one text.

    Returns:
      The text, and how many of its tokens are read before the answer. The one behind them is left
      to be fed with the answer, as a prompt's last token is.
    """
    b, width = len(plan.between), 1 + plan.context
    last, answer = state.question.last, state.progress.answer
    text = jnp.zeros((*state.rows.done.shape, width), jnp.int32).at[..., 0].set(last[:, None])
    exists = jnp.arange(plan.earlier)[None, None] >= plan.earlier - answer[:, None, None]
    sizes = jnp.where(exists, length + b, 0)
    starts = 1 + jnp.cumsum(sizes, -1) - sizes
    at = jnp.arange(plan.max_new_tokens)[None, None]
    for i in range(plan.earlier):
        first, end = starts[..., i : i + 1], length[..., i : i + 1]
        there = exists[..., i : i + 1]
        where = jnp.where(there & (at < end), first + at, width)  # dropped beyond the answer
        text = jnp.put_along_axis(text, where, earlier[:, :, i], -1, inplace=False, mode="drop")
        if b:
            where = jnp.where(there, first + end + jnp.arange(b)[None, None], width)
            between = jnp.broadcast_to(jnp.array(plan.between, jnp.int32), where.shape)
            text = jnp.put_along_axis(text, where, between, -1, inplace=False, mode="drop")
    return text, sizes.sum(-1)


def _read(
    generator: Transformer, cache: KVCache, text: Int[Array, "G N C"], real: Int[Array, "G N"]
) -> KVCache:
    """Returns a cache that holds the first `real` tokens of each row's text, read in pieces."""
    width = min(CONTEXT_PIECE, text.shape[2])
    text = jnp.pad(text, ((0, 0), (0, 0), (0, -text.shape[2] % width)))

    def read_piece(i: Array, cache: KVCache) -> KVCache:
        piece = lax.dynamic_slice_in_dim(text, i * width, width, 2)
        _, cache = generator.extend(piece, cache)
        return cache.advance(jnp.clip(real - i * width, 0, width))

    return lax.fori_loop(0, (real.max() + width - 1) // width, read_piece, cache)
