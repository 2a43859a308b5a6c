"""Texts that are given: the generator reads them as if it had drawn them."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ttc_jax.models.indexing import take_along
from ttc_jax.models.transformer import Transformer
from ttc_jax.sampling.decode import DecodeState
from ttc_jax.sampling.draw import Drawn, log_prob_of, token_confidence


def give(
    model: Transformer, state: DecodeState, tokens: Int[Array, "B N T"], count: Int[Array, "B N"]
) -> DecodeState:
    """Returns rows that have written further tokens, of each its first `count`.

    They stand where they would had they drawn these tokens, with the same log-probabilities and
    hidden states. The cache needs room for T tokens behind what a row holds.
    """
    B, N, T = tokens.shape
    at = jnp.arange(T)[None, None]
    real = at < count[..., None]
    length, last = state.cache.length, jnp.maximum(count - 1, 0)[..., None]
    fed = jnp.concatenate([state.pending[..., None], tokens[..., :-1]], -1)
    cache = dataclasses.replace(state.cache, active=count > 0)
    hidden, cache = model.extend(fed, cache)

    def signs(row: tuple[Float[Array, "T D"], Int[Array, " T"]]) -> tuple[Array, ...]:
        logits = model.logits(row[0])
        drawn = Drawn(row[1], logits.max(-1, keepdims=True), None)
        return log_prob_of(logits, drawn), *token_confidence(logits)

    # One row at a time: scores over the vocabulary take more room than all else.
    found = lax.map(signs, (hidden.reshape(B * N, T, -1), tokens.reshape(B * N, T)))
    log_prob, entropy, certainty = (jnp.where(real, x.reshape(B, N, T), 0.0).sum(-1) for x in found)
    behind = count > 0
    where = jnp.where(real, length[..., None] + at, state.tokens.shape[-1])
    return dataclasses.replace(
        state,
        cache=cache.advance(count),
        tokens=jnp.put_along_axis(state.tokens, where, tokens, -1, inplace=False, mode="drop"),
        pending=jnp.where(behind, take_along(tokens, last, -1)[..., 0], state.pending),
        hidden=jnp.where(
            behind[..., None], take_along(hidden, last[..., None], 2)[..., 0, :], state.hidden
        ),
        log_prob=state.log_prob + log_prob,
        entropy=state.entropy + entropy,
        certainty=state.certainty + certainty,
    )
