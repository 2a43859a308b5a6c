"""Decoding: rows of prefilled prompts, and the loop that draws their tokens one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ttc_jax.models.cache import KVCache, LaneCache, PromptCache
from ttc_jax.models.delimiters import Delimiter
from ttc_jax.models.indexing import take_along
from ttc_jax.models.transformer import Transformer
from ttc_jax.sampling.draw import (
    RowSampling,
    SamplingParams,
    draw,
    log_prob_of,
    token_confidence,
)
from ttc_jax.sampling.keys import rollout_keys, uniforms
from ttc_jax.sampling.thinking import Thinking
from ttc_jax.sampling.thoughts import Thoughts, advance, force, has_answer, may_end


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DecodeState:
    """N candidates of each of B questions in the middle of being written.

    The row's `cache.length` counts its generated tokens: the cache holds the last prompt token and
    all generated ones but the pending one.
    """

    cache: KVCache
    tokens: Int[Array, "B N T"]  # generated so far; 0 behind the end
    pending: Int[Array, "B N"]  # drawn (or last of the prompt), not yet fed
    hidden: Float[Array, "B N D"]  # what the pending token was drawn from
    log_prob: Float[Array, "B N"]  # sum over the generated tokens, nats
    entropy: Float[Array, "B N"]  # the same of `draw.token_confidence`, where asked for
    certainty: Float[Array, "B N"]
    ended: Bool[Array, "B N"]  # drew an end token
    keys: jax.Array  # [B, N], one a candidate
    thought: Thoughts = ()  # of a model that thinks


def start(
    model: Transformer,
    prompts: Int[Array, "B P"],
    lengths: Int[Array, " B"],
    keys: jax.Array,
    max_new_tokens: int,
    context: int = 0,
    prefix: PromptCache | None = None,
    thought: Thoughts = (),
) -> DecodeState:
    """Prefills prompts, padded on the right, and forks each into N candidates.

    Every candidate is fed the prompt's last token first, so the prompt part holds one token less.
    `context` tokens of a row's own find room before its answer. `prefix`
    stands before all prompts.
    """
    B, N = keys.shape
    hidden, prompt = model.prefill(prompts[:, :-1], prefix)
    stored = lengths - 1 + (prefix.tokens if prefix else 0)
    last = take_along(prompts, lengths[:, None] - 1, 1)
    return begin(
        KVCache.fork(prompt, stored, N, context + max_new_tokens),
        tokens=jnp.zeros((B, N, max_new_tokens), jnp.int32),
        pending=jnp.broadcast_to(last, (B, N)),
        hidden=hidden,
        keys=keys,
        thought=thought,
    )


def fork(
    state: DecodeState,
    parents: Int[Array, "B W"],
    lengths: Int[Array, "B W"],
    numbers: Int[Array, "B W"],
) -> DecodeState:
    """Forks W rows of each question from the first `lengths` tokens of candidates `parents`.

    They get copies of the keys and values that the candidates left behind, so that nothing is read
    again. Sums such as `log_prob` are those of the tokens that a row draws itself.

    Args:
      lengths: from 1 to what the candidate holds; 0: a row of no use.
      numbers: tell rows apart that go on from the same place. A row's draws depend on the place and
        its number, not on W or on which of the rows it is.
    """
    question = jnp.arange(len(parents))[:, None]
    T = state.tokens.shape[2]
    inside = jnp.arange(T)[None, None] < lengths[..., None]
    tokens = jnp.where(inside, state.tokens[question, parents], 0)
    keys = rollout_keys(state.keys[question, parents], T, lengths, numbers)
    active = jnp.ones(parents.shape, bool)
    return begin(
        dataclasses.replace(state.cache.gather(parents), length=lengths, active=active),
        tokens=tokens,
        pending=take_along(tokens, jnp.maximum(lengths[..., None] - 1, 0), -1)[..., 0],
        hidden=state.hidden,
        keys=keys,
    )


def begin(
    cache: KVCache,
    *,
    tokens: Array,
    pending: Array,
    hidden: Array,
    keys: jax.Array,
    thought: Thoughts = (),
) -> DecodeState:
    """Returns rows that have drawn nothing yet; `hidden` has the width and dtype of theirs."""
    zero = jnp.zeros(pending.shape, jnp.float32)
    return DecodeState(
        cache=cache,
        tokens=tokens,
        pending=pending,
        hidden=jnp.zeros((*pending.shape, hidden.shape[-1]), hidden.dtype),
        log_prob=zero,
        entropy=zero,
        certainty=zero,
        ended=jnp.zeros(pending.shape, bool),
        keys=keys,
        thought=thought,
    )


def decode(
    model: Transformer,
    state: DecodeState,
    active: Bool[Array, "B N"],
    ends: Bool[Array, " V"],
    pauses: Delimiter | None,
    limit: Int[Array, " B"],
    sampling: SamplingParams,
    until: Callable[[Bool[Array, "B N"]], Bool[Array, ""]] | None = None,
    thinking: Thinking | None = None,
) -> DecodeState:
    """Decodes active rows until each draws an end token or ends a step, or holds `limit` tokens.

    One loop serves "to the end of the answer" (no pauses) and "to the end of the step" (pauses at
    step delimiters). It ends with the last row; rows that stopped neither advance nor draw.

    Args:
      pauses: ends steps; None: rows go on to the ends of their answers.
      until: ends the loop earlier, if it holds for the rows that are active.
      thinking: budgets of thoughts.
    """
    limit = jnp.broadcast_to(limit[:, None], active.shape)

    def goes_on(state: DecodeState) -> Array:
        active = state.cache.active
        return active.any() if until is None else active.any() & ~until(active)

    return lax.while_loop(
        goes_on,
        lambda state: decode_token(model, state, ends, pauses, limit, sampling, thinking=thinking),
        resume(state, active, limit),
    )


def resume(state: DecodeState, active: Bool[Array, "B N"], limit: Int[Array, "B N"]) -> DecodeState:
    """Makes rows active, but for those that ended or hold `limit` tokens."""
    active = active & ~state.ended & (state.cache.length < limit)
    return dataclasses.replace(state, cache=dataclasses.replace(state.cache, active=active))


@jax.named_scope("decode_token")
def decode_token(
    model: Transformer,
    state: DecodeState,
    ends: Bool[Array, " V"],
    pauses: Delimiter | None,
    limit: Int[Array, "B N"],
    sampling: SamplingParams | RowSampling,
    *,
    greedy: Bool[Array, "B N"] | None = None,
    confidence_stats: bool = False,
    lanes: int = 0,
    thinking: Thinking | None = None,
) -> DecodeState:
    """Decodes one more token of active rows, which stay active unless it stops them.

    Args:
      pauses: stops rows where it ends a step, see `_pause`; None: it stops none.
      greedy: rows that take the likeliest token whatever `sampling` says.
      confidence_stats: whether to sum entropy and self-certainty, for verifiers that read them.
      lanes: W, rows that are computed: the first W active ones; 0: all rows.
      thinking: forces what ends a thought at its maximum, and what goes on before its minimum.
    """
    if lanes:
        active = state.cache.active.reshape(-1)
        window = LaneCache.of(state.cache, active.astype(jnp.int32), lanes)
        take, spread = window.take, window.spread
        hidden, window = model.extend(take(state.pending)[..., None], window)
        cache, active = window.cache, spread(jnp.ones((lanes,), bool))
    else:
        hidden, cache = model.extend(state.pending[..., None], state.cache)
        take = spread = _same
        active = cache.active
    hidden, length = hidden[..., 0, :], cache.length
    logits = model.logits(hidden)
    uniform = uniforms(take(state.keys), take(length))
    greedy, thought, sampling = _taken(take, (greedy, state.thought, sampling))
    chosen, log_prob, places = _draw(logits, uniform, sampling, greedy, thinking, thought)
    drawn = spread(chosen.astype(jnp.int32))
    here = (jnp.arange(state.tokens.shape[2])[None, None] == length[..., None]) & active[..., None]
    ended = active & ends[drawn]
    tokens = jnp.where(here, drawn[..., None], state.tokens)
    cache = cache.advance(active.astype(jnp.int32))
    sums = {"log_prob": spread(log_prob)}
    if thinking is not None and places is not None:
        ended &= may_end(thinking, state.thought, drawn)
        thought = advance(thinking, state.thought, active, drawn, spread(places), cache.length)
        state = dataclasses.replace(state, thought=thought)
    pause = _pause(pauses, thinking, state.thought, tokens, length)
    going = active & ~ended & (cache.length < limit) & ~pause
    if confidence_stats:
        sums["entropy"], sums["certainty"] = map(spread, token_confidence(logits))
    return dataclasses.replace(
        state,
        cache=dataclasses.replace(cache, active=jnp.where(active, going, cache.active)),
        tokens=tokens,
        pending=jnp.where(active, drawn, state.pending),
        hidden=jnp.where(active[..., None], spread(hidden), state.hidden),
        ended=state.ended | ended,
        **{name: getattr(state, name) + jnp.where(active, x, 0.0) for name, x in sums.items()},
    )


def _pause(
    pauses: Delimiter | None,
    thinking: Thinking | None,
    thought: Thoughts,
    tokens: Int[Array, "B N T"],
    last: Int[Array, "B N"],
) -> Bool[Array, "B N"]:
    """Returns which rows end a step with their token `last`, of a thought if it has steps."""
    if pauses is None:
        return jnp.zeros(last.shape, bool)
    ends = pauses.ends_at(tokens, last)
    if thinking is None or thinking.steps:
        return ends
    return ends & has_answer(thinking, thought, tokens, last + 1)


def _draw(
    logits: Float[Array, "*B V"],
    uniform: Float[Array, "*B"],
    sampling: SamplingParams | RowSampling,
    greedy: Bool[Array, "*B"] | None,
    thinking: Thinking | None,
    thought: Thoughts,
) -> tuple[Array, Array, Array | None]:
    """Returns tokens, their log-probabilities, and of rows that think what `Thinking.force` says.

    A forced token has the log-probability that the model itself gives it.
    """
    drawn, places = draw(logits, uniform, sampling, greedy), None
    if thinking is not None:
        tokens, places = force(thinking, thought, drawn.tokens)
        drawn = drawn._replace(tokens=tokens)
    return drawn.tokens, log_prob_of(logits, drawn), places


def _taken(take: Callable[[Array], Array], trees: Any) -> Any:
    """Returns trees with the rows that are computed in place of all; what is no array stays."""
    return jax.tree.map(lambda x: take(x) if isinstance(x, jax.Array) else x, trees)


def _same(x: Array) -> Array:
    return x
