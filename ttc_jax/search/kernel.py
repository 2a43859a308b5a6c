"""The search kernel: decode a step, score it, select parents, gather; one XLA program (paper §5).

Every strategy is this loop; only its `select` differs. B questions, each with N rows, share the
decode loop, one token an iteration for all rows that go on. A question whose rows all rest takes
its *turn*: the verifier reads the new tokens, the strategy says which row each row goes on from,
and caches are gathered along N. So a question waits for its own slowest row, never for another
question's. Those whose turns fall together take them together, always in groups of one size, in
which questions that are not there change nothing: since all that a question computes has the same
shapes in whatever company, its tokens and scores are the same bits.

    rows rest ──► verifier reads ──► select ──► gather ──► rows go on        (a round, up to R)
        └─► lookahead (`search.lookahead`)

Over a bridge (`Layout.bridged`) the program returns when a question's rows rest, and takes the turn
once it is called again, with what the host told it to show the verifier.

With s > 1 a row whose answer is complete begins the next one, with the latest answers in its
context (paper §6): its own, where answers are written in one go, so that N rows are N chains; else
the question's best one by its last score, so that each revision is a search.
"""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int

from ttc_jax.models.delimiters import Delimiter
from ttc_jax.models.indexing import take_along
from ttc_jax.models.transformer import Transformer
from ttc_jax.sampling.keys import selection_keys
from ttc_jax.sampling.sampler import decode_token, wake
from ttc_jax.search import lookahead
from ttc_jax.search.layout import Layout
from ttc_jax.search.plan import Plan
from ttc_jax.search.revisions import revise
from ttc_jax.search.scoring import score
from ttc_jax.search.state import (
    Answers,
    Progress,
    SearchState,
    SearchTrace,
    Status,
    gather,
    put,
    take,
)
from ttc_jax.verifiers.steps import step_ends
from ttc_jax.verifiers.verifier import Verifier

# Rows whose steps are scored together: enough for products with weights to be worth their reading.
TURN_ROWS = 64
Carry = tuple[SearchState, Array, Array]  # with decode iterations, and row-steps that were useful


def segment(
    layout: Layout,
    generator: Transformer,
    verifier: Verifier | None,
    ends: Bool[Array, " V"],
    delimiter: Delimiter,
    state: SearchState,
    tokens: Int[Array, ""],
) -> tuple[SearchState, Int[Array, " 2"]]:
    """Searches on until every question is done, or one is and `tokens` iterations are behind.

    Over a bridge, questions whose rows rest take their turns first, and when others rest it ends.

    Args:
      ends: tokens that end an answer.
      delimiter: ends steps.
      tokens: decode iterations before the call may return for the sake of a free slot.

    Returns:
      The state, and how many row-steps were decoded for rows that went on, and in all.
    """
    plan = layout.plan
    pauses = delimiter if plan.strategy.stops_at_steps else None

    def goes_on(carry: Carry) -> Array:
        state, iteration, _ = carry
        return state.active.any() & ((iteration < tokens) | state.active.all())

    def one_token(carry: Carry) -> Carry:
        state, iteration, useful = carry
        live = state.decode.cache.live
        decode = decode_token(
            generator,
            state.decode,
            ends,
            pauses,
            state.rows.limit,
            plan.drawing,
            greedy=lookahead.greedy_rows(plan, state),
            doubt=layout.confidence_stats,
            lanes=layout.lanes,
        )
        state = _rest(plan, dataclasses.replace(state, decode=decode))
        went = jnp.minimum(live.sum(dtype=jnp.int32), layout.lanes or live.size)
        return state, iteration + 1, useful + went

    group = together(state.rows.done.shape[0], plan)

    def one_turn(state: SearchState) -> SearchState:
        slots, there = _next(state.has(Status.SELECTING), group)
        some = take(state, slots)
        done = some.rows.done | ~there[:, None]  # nothing to read
        some = dataclasses.replace(some, rows=dataclasses.replace(some.rows, done=done))
        return put(state, _turn(layout, verifier, delimiter, some), slots)

    def one_revision(state: SearchState) -> SearchState:
        slots, there = _next(state.has(Status.REVISING), group)
        some = take(state, slots)
        answer = jnp.where(there, some.progress.answer, 0)  # no context
        progress = dataclasses.replace(some.progress, answer=answer)
        some = dataclasses.replace(some, progress=progress)
        return put(state, revise(plan, generator, verifier, some), slots)

    def decoded(carry: Carry) -> Carry:
        def decodes(carry: Carry) -> Array:
            return goes_on(carry) & ~carry[0].has(Status.SELECTING).any()

        return lax.while_loop(decodes, one_token, carry)

    def turned(state: SearchState) -> SearchState:
        state = lax.while_loop(lambda s: s.has(Status.SELECTING).any(), one_turn, state)
        if plan.revisions > 1:
            state = lax.while_loop(lambda s: s.has(Status.REVISING).any(), one_revision, state)
        return state

    def body(carry: Carry) -> Carry:
        state, iterations, useful = decoded(carry)
        return turned(state), iterations, useful

    zero = jnp.zeros((), jnp.int32)
    if layout.bridged:
        state, iterations, useful = decoded((turned(state), zero, zero))
    else:
        state, iterations, useful = lax.while_loop(goes_on, body, (state, zero, zero))
    return state, jnp.stack([useful, iterations * (layout.lanes or state.rows.done.size)])


def together(questions: int, plan: Plan) -> int:
    """How many of B questions take their turns together.

    As many as make `TURN_ROWS`, but no more than are likely to rest at once, which each does once
    in up to `plan.step` iterations: a seat that stays empty costs as much as one that is taken.
    """
    return max(1, min(questions // plan.step, TURN_ROWS // plan.candidates))


def _next(waiting: Bool[Array, " B"], count: int) -> tuple[Int[Array, " G"], Bool[Array, " G"]]:
    """The first `count` slots that wait, and whether there are so many; else slots beyond B."""
    B = waiting.shape[0]
    slots = jnp.nonzero(waiting, size=count, fill_value=B)[0].astype(jnp.int32)
    there = slots < B
    return jnp.where(there, slots, B + jnp.arange(count)), there


def _rest(plan: Plan, state: SearchState) -> SearchState:
    """What follows when a question's last row comes to rest: lookahead's next step, or its turn."""
    active = state.active
    resting = active & ~state.decode.cache.live.any(-1)
    if plan.lookahead:
        state, more = lookahead.go_on(plan, state, resting)
        resting &= ~more
    status = jnp.where(resting, Status.SELECTING, Status.SEARCHING).astype(jnp.int8)
    status = jnp.where(active, status, state.progress.status)
    return dataclasses.replace(state, progress=dataclasses.replace(state.progress, status=status))


def _turn(
    layout: Layout, verifier: Verifier | None, delimiter: Delimiter, state: SearchState
) -> SearchState:
    """The turn of questions whose rows all rest."""
    plan, looked = layout.plan, state.decode
    T = plan.max_new_tokens
    decode = lookahead.rewind(looked, state.saved)
    length = decode.cache.length
    at = jnp.arange(T)[None, None]
    steps = step_ends(looked.tokens, length, decode.ended, delimiter)
    steps &= (at >= state.rows.started[..., None]) & ~state.rows.done[..., None]
    state = dataclasses.replace(state, decode=decode)
    reads = peeks = jnp.zeros_like(length)
    if verifier is not None:
        state, reads, peeks = score(layout, verifier, delimiter, state, looked, steps)

    progress = state.progress
    last_turn = progress.round + 1 >= progress.began + plan.turns
    done = state.rows.done | decode.ended | (length >= T) | last_turn[:, None]
    complete = done.all(-1)
    parents = jnp.broadcast_to(jnp.arange(plan.candidates)[None], done.shape)
    if plan.strategy.stops_at_steps:
        parents = _select(plan, state, done)
    answer = jnp.where(complete, progress.answer + 1, progress.answer)
    status = jnp.where(answer < plan.revisions, Status.REVISING, Status.DONE)
    status = jnp.where(complete, status, Status.SEARCHING)
    status = jnp.where(jnp.isnan(state.scores.last).any(-1), Status.FAILED, status)
    state = dataclasses.replace(
        state,
        trace=_write(plan, state, parents, length, looked.cache.length, reads, peeks),
        answers=_complete(state, complete),
        progress=Progress(
            status=status.astype(jnp.int8),
            round=progress.round + 1,
            began=progress.began,
            answer=answer,
            looked=jnp.zeros_like(progress.looked),
        ),
        rows=dataclasses.replace(state.rows, done=done),
    )
    if not plan.strategy.stops_at_steps:
        return state
    state = gather(state, parents)
    length = state.decode.cache.length
    limit = jnp.minimum(length + plan.step, T)
    live = ~done & state.active[:, None]
    return dataclasses.replace(
        state,
        decode=wake(state.decode, live, limit),
        rows=dataclasses.replace(state.rows, started=length, limit=limit),
    )


def _select(plan: Plan, state: SearchState, done: Bool[Array, "G N"]) -> Int[Array, "G N"]:
    """The row that each row goes on from, as the strategy says."""
    N, keys = plan.candidates, selection_keys(state.question.keys, state.progress.round)
    chosen = jax.vmap(plan.strategy.select)(state.scores.last, ~done, keys).astype(jnp.int32)
    # A finished row is nobody's parent, nor one that does not exist, whatever a strategy says.
    fits = ~done & (chosen >= 0) & (chosen < N)
    fits &= ~take_along(done, jnp.clip(chosen, 0, N - 1), 1)
    return jnp.where(fits, chosen, jnp.arange(N)[None])


def _write(plan: Plan, state: SearchState, parents: Array, *entries: Array) -> SearchTrace:
    """The trace with this round's entry: ends, looks, reads and peeks."""
    ends, looks, reads, peeks = entries
    at = state.rows.started[..., None] + jnp.arange(plan.step)[None, None]
    tokens = take_along(state.decode.tokens, jnp.minimum(at, plan.max_new_tokens - 1), -1)
    tokens = jnp.where(at < ends[..., None], tokens, 0)
    answers = jnp.broadcast_to(state.progress.answer[:, None], parents.shape)
    contexts = state.decode.cache.context
    entry = SearchTrace(
        tokens,
        parents,
        state.scores.last,
        state.rows.started,
        ends,
        looks,
        reads,
        peeks,
        answers,
        contexts,
    )

    add = jax.vmap(partial(lax.dynamic_update_index_in_dim, axis=0))
    return jax.tree.map(lambda old, new: add(old, new, state.progress.round), state.trace, entry)


def _complete(state: SearchState, complete: Bool[Array, " G"]) -> Answers:
    """The answers, with those that rows have just completed."""
    decode = state.decode
    now = Answers(
        tokens=decode.tokens,
        lengths=decode.cache.length,
        log_prob=decode.log_prob,
        finished=decode.ended,
        step_scores=state.scores.steps,
        scored=state.scores.scored,
    )

    def add(all_answers: Array, answer: Array) -> Array:  # all_answers: [G, N, s, ...]
        at = jnp.arange(all_answers.shape[2])[None]
        here = (at == state.progress.answer[:, None]) & complete[:, None]
        here = jnp.expand_dims(here, (1, *range(3, all_answers.ndim)))
        return jnp.where(here, answer[:, :, None], all_answers)

    return jax.tree.map(add, state.answers, now)
