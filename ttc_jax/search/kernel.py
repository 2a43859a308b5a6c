"""The search kernel: decode a step, score it, select parents, gather; one XLA program (paper §5).

Every strategy is this loop; only its `select` differs. B questions, each with N rows, share the
decode loop, one token an iteration for all active rows. When all rows of a question have paused,
its *selection step* comes: the verifier reads the new tokens, the strategy says which row each row
goes on from, and caches are gathered along N. So a question waits for its own slowest row, never
for another question's. Questions whose selection steps fall together take them together, always in
groups of one size, in which questions that are not there change nothing: since all that a question
computes has the same shapes in whatever company, its tokens and scores are the same bits.

    rows pause ──► verifier reads ──► select ──► gather ──► rows resume      (a round, up to R)
        └─► lookahead (`search.lookahead`)

Over a bridge (`Layout.bridged`) the program returns when all rows of a question have paused, and
takes the selection step once it is called again, with what the host retokenized for the verifier.

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
from ttc_jax.sampling.decode import decode_token, resume
from ttc_jax.sampling.thoughts import first_of_answer, in_answer
from ttc_jax.search import lookahead
from ttc_jax.search.layout import Layout
from ttc_jax.search.parents import choose_parents
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
SELECTION_ROWS = 64
Carry = tuple[SearchState, Array, Array]  # with decode iterations, and row-steps that were useful


def segment(
    layout: Layout,
    generator: Transformer,
    verifier: Verifier | None,
    ends: Bool[Array, " V"],
    delimiter: Delimiter,
    state: SearchState,
    tokens: Int[Array, " 2"],
) -> tuple[SearchState, Int[Array, " 2"]]:
    """Searches on until every question is done, or one is and enough iterations are behind.

    Over a bridge, questions whose rows have paused take their selection steps first, and the
    segment ends when the rows of others have.

    Args:
      ends: tokens that end an answer.
      delimiter: ends steps.
      tokens: decode iterations before the call may return for the sake of a free slot, and those
        after which it returns whatever is there.

    Returns:
      The state, and how many row-steps were decoded for active rows, and in all.
    """
    loop = _Loop(layout, generator, verifier, ends, delimiter, tokens)
    zero = jnp.zeros((), jnp.int32)
    if layout.bridged:
        state, iterations, useful = loop.decode((loop.select(state), zero, zero))
    else:
        carry = (state, zero, zero)
        state, iterations, useful = lax.while_loop(loop.goes_on, loop.decode_and_select, carry)
    return state, jnp.stack([useful, iterations * (layout.lanes or state.rows.done.size)])


@dataclasses.dataclass(frozen=True, eq=False)
class _Loop:
    """The conditions and bodies of a segment's loops; fields are `segment`'s arguments."""

    layout: Layout
    generator: Transformer
    verifier: Verifier | None
    ends: Bool[Array, " V"]
    delimiter: Delimiter
    tokens: Int[Array, " 2"]

    def goes_on(self, carry: Carry) -> Bool[Array, ""]:
        """Returns whether there is something to search, and no free slot that others wait for."""
        state, iteration, _ = carry
        wanted = state.active.any() & ((iteration < self.tokens[0]) | state.active.all())
        return wanted & (iteration < self.tokens[1])

    def decode(self, carry: Carry) -> Carry:
        """Decodes until all rows of some question have paused."""

        def decodes(carry: Carry) -> Array:
            return self.goes_on(carry) & ~carry[0].has(Status.SELECTING).any()

        return lax.while_loop(decodes, self._one_token, carry)

    def select(self, state: SearchState) -> SearchState:
        """Takes the selection steps of all questions that wait for theirs, and then revises."""
        state = lax.while_loop(
            lambda s: s.has(Status.SELECTING).any(), self._one_selection_step, state
        )
        if self.layout.plan.revisions > 1:
            state = lax.while_loop(
                lambda s: s.has(Status.REVISING).any(), self._one_revision, state
            )
        return state

    def decode_and_select(self, carry: Carry) -> Carry:
        """Decodes, and then takes the selection steps that have come."""
        state, iterations, useful = self.decode(carry)
        return self.select(state), iterations, useful

    def _one_token(self, carry: Carry) -> Carry:
        state, iteration, useful = carry
        plan, lanes, active = self.layout.plan, self.layout.lanes, state.decode.cache.active
        decode = decode_token(
            self.generator,
            state.decode,
            self.ends,
            self.delimiter if plan.strategy.stops_at_steps else None,
            _limit(plan, state),
            state.sampling(plan),
            greedy=lookahead.greedy_rows(plan, state),
            confidence_stats=self.layout.confidence_stats,
            lanes=lanes,
            thinking=plan.thinking,
        )
        state = _after_token(plan, dataclasses.replace(state, decode=decode))
        went = jnp.minimum(active.sum(dtype=jnp.int32), lanes or active.size)
        return state, iteration + 1, useful + went

    def _one_selection_step(self, state: SearchState) -> SearchState:
        slots, there = _next(state.has(Status.SELECTING), self._group(state))
        some = take(state, slots)
        done = some.rows.done | ~there[:, None]  # nothing to read
        some = dataclasses.replace(some, rows=dataclasses.replace(some.rows, done=done))
        some = _selection_step(self.layout, self.verifier, self.delimiter, some)
        return put(state, some, slots)

    def _one_revision(self, state: SearchState) -> SearchState:
        slots, there = _next(state.has(Status.REVISING), self._group(state))
        some = take(state, slots)
        answer = jnp.where(there, some.progress.answer, 0)  # no context
        progress = dataclasses.replace(some.progress, answer=answer)
        some = dataclasses.replace(some, progress=progress)
        return put(state, revise(self.layout.plan, self.generator, self.verifier, some), slots)

    def _group(self, state: SearchState) -> int:
        return together(state.rows.done.shape[0], self.layout.plan)


def together(questions: int, plan: Plan) -> int:
    """Returns how many of B questions take their selection steps together.

    As many as make `SELECTION_ROWS`, but no more than are likely to pause at once, which each does
    once in up to `plan.step` iterations: a seat that stays empty costs as much as one that is
    taken.
    """
    return max(1, min(questions // plan.step, SELECTION_ROWS // plan.candidates))


def _next(waiting: Bool[Array, " B"], count: int) -> tuple[Int[Array, " G"], Bool[Array, " G"]]:
    """Returns the first `count` slots that wait, and whether there are so many; else beyond B."""
    B = waiting.shape[0]
    slots = jnp.nonzero(waiting, size=count, fill_value=B)[0].astype(jnp.int32)
    there = slots < B
    return jnp.where(there, slots, B + jnp.arange(count)), there


def _limit(plan: Plan, state: SearchState) -> Int[Array, "B N"]:
    """Returns the tokens at which rows pause: with a thought for a step, the answer's count."""
    limit = state.rows.limit
    if not plan.thought_is_step:
        return limit
    begun = first_of_answer(state.decode.thought, plan.max_new_tokens)
    step = jnp.maximum(state.rows.started, begun) + plan.max_step_tokens
    rolls_out = state.progress.lookahead_steps[:, None] > 0
    return jnp.where(rolls_out, limit, jnp.minimum(limit, step))


def _after_token(plan: Plan, state: SearchState) -> SearchState:
    """Begins lookahead's next step, or the selection step, where a question's rows have paused."""
    active = state.active
    paused = active & ~state.decode.cache.active.any(-1)
    if plan.lookahead:
        state, more = lookahead.go_on(plan, state, paused)
        paused &= ~more
    status = jnp.where(paused, Status.SELECTING, Status.SEARCHING).astype(jnp.int8)
    status = jnp.where(active, status, state.progress.status)
    return dataclasses.replace(state, progress=dataclasses.replace(state.progress, status=status))


def _selection_step(
    layout: Layout, verifier: Verifier | None, delimiter: Delimiter, state: SearchState
) -> SearchState:
    """Scores the steps of questions whose rows have all paused, and lets their rows go on."""
    plan, ahead = layout.plan, state.decode
    T = plan.max_new_tokens
    decode = lookahead.rewind(ahead, state.saved)
    length = decode.cache.length
    at = jnp.arange(T)[None, None]
    steps = step_ends(ahead.tokens, length, decode.ended, delimiter)
    steps &= (at >= state.rows.started[..., None]) & ~state.rows.done[..., None]
    state = dataclasses.replace(state, decode=decode)
    read = read_ahead = jnp.zeros_like(length)
    if verifier is not None:
        if plan.thinking is not None and not plan.thinking.steps:
            steps &= in_answer(plan.thinking, ahead.thought, ahead.tokens)
        state, read, read_ahead = score(layout, verifier, delimiter, state, ahead, steps)

    progress = state.progress
    last_round = progress.round + 1 >= progress.began + plan.rounds_per_answer
    longest = state.question.longest(plan)
    done = state.rows.done | decode.ended | (length >= longest) | last_round[:, None]
    if plan.score_threshold is not None:
        accepted = decode.ended & (state.scores.last >= plan.score_threshold)
        done |= accepted.any(-1, keepdims=True)
    parents, own = jnp.broadcast_to(jnp.arange(plan.candidates)[None], done.shape), state.strategy
    if plan.strategy.stops_at_steps:
        parents, done, own = choose_parents(plan, state, done)
    state = dataclasses.replace(
        state,
        strategy=own,
        trace=_write(plan, state, parents, length, ahead.cache.length, read, read_ahead),
        answers=_complete(state, done.all(-1)),
        progress=_next_round(plan, state, done.all(-1)),
        rows=dataclasses.replace(state.rows, done=done),
    )
    if not plan.strategy.stops_at_steps:
        return state
    state = gather(state, parents)
    length = state.decode.cache.length
    limit = jnp.minimum(length + plan.step, longest)
    return dataclasses.replace(
        state,
        decode=resume(state.decode, ~done & state.active[:, None], limit),
        rows=dataclasses.replace(state.rows, started=length, limit=limit),
    )


def _next_round(plan: Plan, state: SearchState, complete: Bool[Array, " G"]) -> Progress:
    """Returns where questions are after a round, whose answers may be `complete` by it."""
    before = state.progress
    answer = jnp.where(complete, before.answer + 1, before.answer)
    status = jnp.where(answer < plan.revisions, Status.REVISING, Status.DONE)
    status = jnp.where(complete, status, Status.SEARCHING)
    status = jnp.where(jnp.isnan(state.scores.last).any(-1), Status.FAILED, status)
    return Progress(
        status=status.astype(jnp.int8),
        round=before.round + 1,
        began=before.began,
        answer=answer,
        lookahead_steps=jnp.zeros_like(before.lookahead_steps),
    )


def _write(plan: Plan, state: SearchState, parents: Array, *lengths: Array) -> SearchTrace:
    """Returns the trace with this round's entry.

    Args:
      lengths: the entry's `ends`, `lookahead_ends`, `verifier_tokens` and
        `lookahead_verifier_tokens`.
    """
    ends, lookahead_ends, verifier_tokens, lookahead_verifier_tokens = lengths
    at = state.rows.started[..., None] + jnp.arange(plan.step)[None, None]
    tokens = take_along(state.decode.tokens, jnp.minimum(at, plan.max_new_tokens - 1), -1)
    entry = SearchTrace(
        tokens=jnp.where(at < ends[..., None], tokens, 0),
        parents=parents,
        scores=state.scores.last,
        starts=state.rows.started,
        ends=ends,
        lookahead_ends=lookahead_ends,
        verifier_tokens=verifier_tokens,
        lookahead_verifier_tokens=lookahead_verifier_tokens,
        answers=jnp.broadcast_to(state.progress.answer[:, None], parents.shape),
        contexts=state.decode.cache.context,
    )
    add = jax.vmap(partial(lax.dynamic_update_index_in_dim, axis=0))
    return jax.tree.map(lambda old, new: add(old, new, state.progress.round), state.trace, entry)


def _complete(state: SearchState, complete: Bool[Array, " G"]) -> Answers:
    """Returns the answers, with those that rows have just completed."""
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
