"""Scoring: the verifier reads what rows have written since it last read."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from ttc_jax.models.delimiters import Delimiter
from ttc_jax.models.indexing import take_along
from ttc_jax.sampling.decode import DecodeState
from ttc_jax.search import lookahead
from ttc_jax.search.layout import Layout
from ttc_jax.search.shown import Text
from ttc_jax.search.state import Scores, SearchState
from ttc_jax.verifiers.verifier import Verifier


def score(
    layout: Layout,
    verifier: Verifier,
    delimiter: Delimiter,
    state: SearchState,
    ahead: DecodeState,
    steps: Bool[Array, "B N T"],
) -> tuple[SearchState, Int[Array, "B N"], Int[Array, "B N"]]:
    """Shows the verifier what it has not seen, and puts its scores where steps end.

    Args:
      ahead: rows at the end of their lookahead, if there is one.
      steps: where steps end that are not scored yet.

    Returns:
      The state, and how many tokens the verifier read of each row's step, and of its lookahead.
    """
    plan = layout.plan
    decode, before, question = state.decode, state.scores, state.question
    at = jnp.arange(plan.max_new_tokens)[None, None]
    text = Text(layout, delimiter, state, ahead.tokens)
    end = decode.cache.length + 1
    shown, _ = text.step(end, steps)
    scores, behind = verifier.score_steps(shown.tokens, shown.real, state.verifier, decode)
    index = jnp.clip(at + 1 - before.shown[..., None], 0, plan.step)  # of token i in the chunk
    where = jnp.clip(take_along(shown.read, index, -1), 0, scores.shape[-1] - 1)
    found = take_along(scores, where, -1)
    last = at == jnp.where(steps, at, -1).max(-1, keepdims=True)  # none, where no step ends now
    tokens, lookahead_tokens = shown.real, jnp.zeros_like(shown.real)
    if plan.lookahead:
        later, went_on, lookahead_tokens = lookahead.score_end(verifier, text, behind, ahead, end)
        found = jnp.where(last & went_on[..., None], later, found)
    if not verifier.spec.every_step:
        steps = steps & last
    if not verifier.spec.reads_tokens:
        tokens, lookahead_tokens = jnp.zeros_like(tokens), jnp.zeros_like(lookahead_tokens)
    ends_here = steps & last
    now = jnp.where(ends_here, found, 0.0).sum(-1)
    state = dataclasses.replace(
        state,
        verifier=behind,
        # All rows of the first round begin with the prompt's last token.
        question=dataclasses.replace(
            question, score=jnp.where(state.progress.round == 0, scores[:, 0, 0], question.score)
        ),
        scores=Scores(
            shown=jnp.where(state.rows.done, before.shown, end),
            last=jnp.where(ends_here.any(-1), now, before.last),
            steps=jnp.where(steps, found, before.steps),
            scored=before.scored | steps,
        ),
    )
    return state, tokens, lookahead_tokens
