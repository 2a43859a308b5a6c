"""Lookahead: rolls out k greedy steps before a step is scored, and then forgets them.

It needs no fork of the generator's cache: what lies behind a row's length is never seen, so that a
row is put back by its length alone.

    rows pause ──► k greedy steps in place ──► the verifier scores their end ──► rows are put back
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ttc_jax.models.indexing import take_along
from ttc_jax.sampling.decode import DecodeState
from ttc_jax.search.plan import Plan
from ttc_jax.search.shown import Text
from ttc_jax.search.state import CURSOR, SearchState
from ttc_jax.verifiers.verifier import Verifier


def saved(plan: Plan, decode: DecodeState) -> dict[str, Any]:
    """Returns what a state keeps of rows in order to put them back; nothing without lookahead."""
    return cursors(decode) if plan.lookahead else {}


def cursors(decode: DecodeState) -> dict[str, Any]:
    """Returns what `rewind` puts back."""
    found = {name: getattr(decode, name) for name in CURSOR} | {"length": decode.cache.length}
    return found | ({"thought": decode.thought} if decode.thought else {})


def rewind(decode: DecodeState, saved: dict[str, Any]) -> DecodeState:
    """Returns rows as they were when `saved` was; what they wrote since is cut off."""
    if not saved:
        return decode
    length = saved["length"]
    written = jnp.arange(decode.tokens.shape[2])[None, None] < length[..., None]
    return dataclasses.replace(
        decode,
        cache=dataclasses.replace(decode.cache, length=length),
        tokens=jnp.where(written, decode.tokens, 0),
        **{name: x for name, x in saved.items() if name != "length"},
    )


def greedy_rows(plan: Plan, state: SearchState) -> Bool[Array, "B N"] | None:
    """Returns which rows roll out lookahead, and so take the likeliest tokens."""
    if not plan.lookahead:
        return None
    return jnp.broadcast_to(state.progress.lookahead_steps[:, None] > 0, state.rows.done.shape)


def go_on(
    plan: Plan, state: SearchState, paused: Bool[Array, " B"]
) -> tuple[SearchState, Bool[Array, " B"]]:
    """Lets rows of questions whose rows have all paused begin the next lookahead step.

    Rows at the end of their own step are saved first.

    Returns:
      The state, and which questions go on so.
    """
    cache, begun = state.decode.cache, state.progress.lookahead_steps
    at_step_end = (paused & (begun == 0))[:, None]
    saved = {}

    def keep(x: Array, old: Array) -> Array:
        return jnp.where(jnp.expand_dims(at_step_end, tuple(range(2, x.ndim))), x, old)

    for name, x in cursors(state.decode).items():
        saved[name] = jax.tree.map(keep, x, state.saved[name])
    longest = state.question.longest(plan)
    can = ~state.rows.done & ~state.decode.ended & (cache.length < longest)
    rolls_out = (paused & (begun < plan.lookahead))[:, None] & can
    limit = jnp.minimum(cache.length + plan.max_step_tokens, longest)
    limit = jnp.where(rolls_out, limit, state.rows.limit)
    more = rolls_out.any(-1)
    active = jnp.where(more[:, None], rolls_out, cache.active)
    state = dataclasses.replace(
        state,
        decode=dataclasses.replace(state.decode, cache=dataclasses.replace(cache, active=active)),
        progress=dataclasses.replace(
            state.progress, lookahead_steps=begun + more.astype(jnp.int32)
        ),
        rows=dataclasses.replace(state.rows, limit=limit),
        saved=saved,
    )
    return state, more


def score_end(
    verifier: Verifier, text: Text, behind: Any, ahead: DecodeState, first: Int[Array, "B N"]
) -> tuple[Float[Array, "B N 1"], Bool[Array, "B N"], Int[Array, "B N"]]:
    """Scores where lookahead stopped; the verifier's state is then forgotten.

    Args:
      behind: the verifier's state at the step's end.
      ahead: rows at the end of their lookahead.
      first: where lookahead began, as the verifier counts.

    Returns:
      The scores, which rows went on at all, and how many tokens of each the verifier read.
    """
    chunk, real = text.lookahead(first, ahead.cache.length + 1)
    scores, _ = verifier.score_steps(chunk.tokens, chunk.real, behind, ahead)
    where = take_along(chunk.read, jnp.maximum(real - 1, 0)[..., None], -1)
    scores = take_along(scores, jnp.clip(where, 0, scores.shape[-1] - 1), -1)
    return scores, real > 0, chunk.real
