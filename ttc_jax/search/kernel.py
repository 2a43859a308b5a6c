"""The search kernel: decode a step, score it, select parents, gather; one XLA program (paper §5).

Every strategy is this loop; only its `select` differs. B questions, each with N rows, share the
decode loop, one token an iteration for all rows that go on. A question whose rows all rest takes
its *turn*: the verifier reads the new tokens, the strategy says which row each row goes on from,
and caches are gathered along N. So a question waits for its own slowest row, never for another
question's; and since all that a question computes has the same shapes in whatever company, its
tokens and scores are the same bits.

    rows rest ──► verifier reads ──► select ──► gather ──► rows go on        (a round, up to R)
        └─► lookahead: k greedy steps are decoded in place, scored, and cut off again

Lookahead needs no fork of the generator's cache: what lies behind a row's length is never seen.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ttc_jax.models.cache import KVCache
from ttc_jax.models.transformer import Transformer
from ttc_jax.sampling.draw import Drawing, candidate_keys
from ttc_jax.sampling.sampler import DecodeState, decode_token, start, wake
from ttc_jax.search.strategies.strategy import Strategy
from ttc_jax.verifiers.steps import step_ends
from ttc_jax.verifiers.verifier import Verifier

CHOICE = 2**32 - 1  # folded into a question's key for its selections; no candidate has this index
# What a row is, beside its cache and tokens: lookahead puts it back.
CURSOR = ("pending", "hidden", "log_prob", "entropy", "certainty", "ended")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is static in a search. Hashable.

    Attributes:
      candidates: N.
      max_new_tokens: T, longest answer.
      max_step_tokens: a step that reaches it ends there.
      rounds: R, selections at most; then what is not finished is cut off.
      lookahead: k, greedy steps rolled out before a step is scored.
      doubt: whether the verifier reads entropy or self-certainty.
      lanes: W, rows decoded in an iteration, whichever go on; 0: all B·N, those that rest included.
    """

    strategy: Strategy
    candidates: int
    max_new_tokens: int
    max_step_tokens: int
    rounds: int = 40
    lookahead: int = 0
    drawing: Drawing = dataclasses.field(default_factory=Drawing)
    doubt: bool = False
    lanes: int = 0

    @property
    def step(self) -> int:
        """Tokens that a row may write before it rests."""
        if not self.strategy.stops_at_steps:
            return self.max_new_tokens
        return min(self.max_step_tokens, self.max_new_tokens)

    @property
    def turns(self) -> int:
        """R, or 1 where answers are written in one go."""
        return self.rounds if self.strategy.stops_at_steps else 1

    @property
    def most_steps(self) -> int:
        """Steps that a verifier can be shown in a row at most, the end of a lookahead included."""
        return min(self.turns * self.steps_a_turn, self.max_new_tokens) + (self.lookahead > 0)

    @property
    def steps_a_turn(self) -> int:
        """Step ends that a row can have between two turns."""
        return 1 if self.strategy.stops_at_steps else self.max_new_tokens


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Lineage:
    """What happened in each round: all that a search tree or a ledger needs.

    Row n wrote tokens starts … ends in round r and got scores[r, n]; in round r + 1 it went on from
    row parents[r, n]. Finished rows write nothing: their starts equal their ends. Rounds that never
    came hold zeros.
    """

    tokens: Int[Array, "B R N C"]  # what was written, also by rows that were then pruned; 0 behind
    parents: Int[Array, "B R N"]
    scores: Float[Array, "B R N"]
    starts: Int[Array, "B R N"]
    ends: Int[Array, "B R N"]
    looks: Int[Array, "B R N"]  # tokens that lookahead reached; equals `ends` without it
    reads: Int[Array, "B R N"]  # tokens that the verifier kept of the step, markers included
    peeks: Int[Array, "B R N"]  # tokens that it read of the lookahead, and forgot


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SearchState:
    """B slots for questions, each with N rows in the middle of a search."""

    decode: DecodeState
    verifier: Any  # its own state, see `Verifier.start`
    last: Int[Array, " B"]  # last token of the prompt, the first that a verifier is shown
    keys: jax.Array  # [B] the questions' own
    active: Bool[Array, " B"]  # slots with a question that is not done
    ready: Bool[Array, " B"]  # all rows rest: the question's turn has come
    failed: Bool[Array, " B"]  # a score was NaN
    round: Int[Array, " B"]
    looked: Int[Array, " B"]  # lookahead steps begun in this round
    done: Bool[Array, "B N"]  # rows that are finished or cut off
    limit: Int[Array, "B N"]  # tokens at which a row rests at the latest
    started: Int[Array, "B N"]  # tokens that a row held when the round began
    shown: Int[Array, "B N"]  # tokens that the verifier was shown, the prompt's last included
    score: Float[Array, "B N"]  # of the last step
    step_scores: Float[Array, "B N T"]  # at the last token of every scored step
    scored: Bool[Array, "B N T"]
    saved: dict[str, Array]  # cursors at the step's end while lookahead goes on; {} without it
    lineage: Lineage


Carry = tuple[SearchState, Array, Array]  # with decode iterations, and row-steps that were useful


def admit(
    plan: Plan,
    generator: Transformer,
    verifier: Verifier | None,
    prompts: Int[Array, "1 P"],
    lengths: Int[Array, " 1"],
    numbers: Int[Array, " 1"],
    seed: int,
) -> SearchState:
    """The state of one question at its beginning: its prompt is read, its rows may go on."""
    N, T, R = plan.candidates, plan.max_new_tokens, plan.turns
    keys = candidate_keys(seed, numbers, N)
    decode = start(generator, prompts, lengths, keys, T)
    rows = jnp.zeros((1, N), jnp.int32)
    trace = jnp.zeros((1, R, N), jnp.int32)
    written = jnp.zeros((1, R, N, plan.step), jnp.int32)
    nothing = jnp.zeros((1,), jnp.int32)
    limit = jnp.full((1, N), plan.step, jnp.int32)
    shown: Any = ()
    if verifier is not None:
        capacity = T + 1 + len(verifier.step_format.markers) * plan.most_steps
        shown = verifier.start(prompts, lengths, N, capacity)
    decode = wake(decode, jnp.ones((1, N), bool), limit)
    return SearchState(
        decode=decode,
        verifier=shown,
        last=jnp.take_along_axis(prompts, lengths[:, None] - 1, 1)[:, 0],
        keys=jax.vmap(lambda n: jax.random.fold_in(jax.random.key(seed), n))(numbers),
        active=nothing == 0,
        ready=nothing != 0,
        failed=nothing != 0,
        round=nothing,
        looked=nothing,
        done=rows != 0,
        limit=limit,
        started=rows,
        shown=rows,
        score=jnp.zeros((1, N), jnp.float32),
        step_scores=jnp.zeros((1, N, T), jnp.float32),
        scored=jnp.zeros((1, N, T), bool),
        saved=_cursors(decode) if plan.lookahead else {},
        lineage=Lineage(written, trace, trace.astype(jnp.float32), *[trace] * 5),
    )


def segment(
    plan: Plan,
    generator: Transformer,
    verifier: Verifier | None,
    ends: Bool[Array, " V"],
    delimiters: Bool[Array, " V"],
    state: SearchState,
    tokens: Int[Array, ""],
) -> tuple[SearchState, Int[Array, " 2"]]:
    """Searches on until every question is done, or one is and `tokens` iterations are behind.

    Args:
      ends: tokens that end an answer.
      delimiters: tokens that end a step.
      tokens: decode iterations before the call may return for the sake of a free slot.

    Returns:
      The state, and how many row-steps were decoded for rows that went on, and in all.
    """
    pauses = delimiters if plan.strategy.stops_at_steps else jnp.zeros_like(delimiters)

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
            state.limit,
            plan.drawing,
            greedy=_looking(state) if plan.lookahead else None,
            doubt=plan.doubt,
            lanes=plan.lanes,
        )
        state = _rest(plan, dataclasses.replace(state, decode=decode))
        went = jnp.minimum(live.sum(dtype=jnp.int32), plan.lanes or live.size)
        return state, iteration + 1, useful + went

    def one_turn(state: SearchState) -> SearchState:
        slot = state.ready.argmax()
        return _put(state, _turn(plan, verifier, delimiters, _slice(state, slot)), slot)

    def body(carry: Carry) -> Carry:
        carry = lax.while_loop(lambda c: goes_on(c) & ~c[0].ready.any(), one_token, carry)
        state, iterations, useful = carry
        return lax.while_loop(lambda s: s.ready.any(), one_turn, state), iterations, useful

    zero = jnp.zeros((), jnp.int32)
    state, iterations, useful = lax.while_loop(goes_on, body, (state, zero, zero))
    return state, jnp.stack([useful, iterations * (plan.lanes or state.done.size)])


def _looking(state: SearchState) -> Bool[Array, "B N"]:
    """Rows that roll out lookahead."""
    return jnp.broadcast_to(state.looked[:, None] > 0, state.done.shape)


def _rest(plan: Plan, state: SearchState) -> SearchState:
    """What follows when a question's last row comes to rest: lookahead's next step, or its turn."""
    cache = state.decode.cache
    resting = state.active & ~cache.live.any(-1)
    if not plan.lookahead:
        return dataclasses.replace(state, ready=resting)
    at_step_end = (resting & (state.looked == 0))[:, None]
    saved = {}
    for name, x in _cursors(state.decode).items():
        here = jnp.expand_dims(at_step_end, tuple(range(2, x.ndim)))
        saved[name] = jnp.where(here, x, state.saved[name])
    can = ~state.done & ~state.decode.ended & (cache.length < plan.max_new_tokens)
    looks = (resting & (state.looked < plan.lookahead))[:, None] & can
    limit = jnp.where(
        looks, jnp.minimum(cache.length + plan.step, plan.max_new_tokens), state.limit
    )
    more = looks.any(-1)
    live = jnp.where(more[:, None], looks, cache.live)
    return dataclasses.replace(
        state,
        decode=dataclasses.replace(state.decode, cache=dataclasses.replace(cache, live=live)),
        ready=resting & ~more,
        looked=state.looked + more.astype(jnp.int32),
        limit=limit,
        saved=saved,
    )


def _turn(
    plan: Plan, verifier: Verifier | None, delimiters: Bool[Array, " V"], state: SearchState
) -> SearchState:
    """One question's turn: B is 1."""
    N, T = plan.candidates, plan.max_new_tokens
    looked = state.decode
    decode = _rewind(looked, state.saved) if plan.lookahead else looked
    length = decode.cache.length
    at = jnp.arange(T)[None, None]
    steps = step_ends(looked.tokens, length, decode.ended, delimiters)
    steps &= (at >= state.started[..., None]) & ~state.done[..., None]
    state = dataclasses.replace(state, decode=decode)
    reads = peeks = jnp.zeros_like(length)
    if verifier is not None:
        state, reads, peeks = _score(plan, verifier, state, looked, steps)

    done = state.done | decode.ended | (length >= T) | (state.round + 1 >= plan.turns)[:, None]
    rows = jnp.arange(N)[None]
    if plan.strategy.stops_at_steps:
        key = jax.random.fold_in(jax.random.fold_in(state.keys[0], CHOICE), state.round[0])
        chosen = plan.strategy.select(state.score[0], ~done[0], key)[None].astype(jnp.int32)
        # A finished row is nobody's parent, nor one that does not exist, whatever a strategy says.
        fits = ~done & (chosen >= 0) & (chosen < N)
        fits &= ~jnp.take_along_axis(done, jnp.clip(chosen, 0, N - 1), 1)
        parents = jnp.where(fits, chosen, rows)
    else:
        parents = rows
    failed = state.failed | jnp.isnan(state.score).any(-1)
    state = dataclasses.replace(
        state,
        failed=failed,
        lineage=_write(plan, state, parents, length, looked.cache.length, reads, peeks),
        done=done,
        active=state.active & ~done.all(-1) & ~failed,
        ready=jnp.zeros_like(state.ready),
        round=state.round + 1,
        looked=jnp.zeros_like(state.looked),
    )
    if not plan.strategy.stops_at_steps:
        return state
    state = _gather(state, parents)
    length = state.decode.cache.length
    limit = jnp.minimum(length + plan.step, T)
    live = ~done & state.active[:, None]
    return dataclasses.replace(
        state, decode=wake(state.decode, live, limit), started=length, limit=limit
    )


def _score(
    plan: Plan, verifier: Verifier, state: SearchState, looked: DecodeState, steps: Array
) -> tuple[SearchState, Array, Array]:
    """Shows the verifier what it has not seen, and puts its scores where steps end.

    Returns:
      The state, and how many tokens of each row's step and of its lookahead were read.
    """
    T, decode = plan.max_new_tokens, state.decode
    length, at = decode.cache.length, jnp.arange(plan.max_new_tokens)[None, None]
    given = jnp.broadcast_to(state.last[:, None, None], (*length.shape, 1))
    # As the verifier counts: the prompt's last token is number 0, token i is number i + 1.
    text = jnp.concatenate([given, looked.tokens], -1)
    is_end = jnp.pad(steps, ((0, 0), (0, 0), (1, 0)))

    def chunk(first: Array, end: Array, is_end: Array, width: int) -> tuple[Array, Array, Array]:
        index = jnp.minimum(first[..., None] + jnp.arange(width)[None, None], T)
        real = jnp.where(state.done, 0, end - first)
        return jnp.take_along_axis(text, index, -1), real, jnp.take_along_axis(is_end, index, -1)

    shape, markers = verifier.step_format, plan.steps_a_turn
    tokens, real, here = chunk(state.shown, length + 1, is_end, plan.step + 1)
    shown = shape.mark(tokens, real, here, markers)
    scores, read = verifier.read(shown.tokens, shown.real, state.verifier, decode)
    index = jnp.clip(at + 1 - state.shown[..., None], 0, plan.step)  # of token i in the chunk
    where = jnp.clip(jnp.take_along_axis(shown.read, index, -1), 0, scores.shape[-1] - 1)
    found = jnp.take_along_axis(scores, where, -1)
    last = at == jnp.where(steps, at, -1).max(-1, keepdims=True)  # none, where no step ends now
    reads, peeks = shown.real, jnp.zeros_like(shown.real)
    if plan.lookahead:
        width = plan.lookahead * plan.step
        # Where rows went on, their text ends once more: there it is scored, and then forgotten.
        end = looked.cache.length + 1
        final = jnp.pad(jnp.arange(T)[None, None] == end[..., None] - 2, ((0, 0), (0, 0), (1, 0)))
        tokens, real, here = chunk(length + 1, end, final, width)
        ahead = shape.mark(tokens, real, here, markers)
        peeks = ahead.real
        later, _ = verifier.read(ahead.tokens, ahead.real, read, looked)
        where = jnp.take_along_axis(ahead.read, jnp.maximum(real - 1, 0)[..., None], -1)
        later = jnp.take_along_axis(later, jnp.clip(where, 0, later.shape[-1] - 1), -1)
        found = jnp.where(last & (real > 0)[..., None], later, found)
    if not verifier.every_step:
        steps = steps & last
    if not verifier.vocab_size:
        reads, peeks = jnp.zeros_like(reads), jnp.zeros_like(peeks)
    ends_here = steps & last
    state = dataclasses.replace(
        state,
        verifier=read,
        shown=jnp.where(state.done, state.shown, length + 1),
        score=jnp.where(ends_here.any(-1), jnp.where(ends_here, found, 0.0).sum(-1), state.score),
        step_scores=jnp.where(steps, found, state.step_scores),
        scored=state.scored | steps,
    )
    return state, reads, peeks


def _write(plan: Plan, state: SearchState, parents: Array, *entries: Array) -> Lineage:
    """One question's lineage with this round's entry: ends, looks, reads and peeks."""
    ends = entries[0]
    at = state.started[..., None] + jnp.arange(plan.step)[None, None]
    tokens = jnp.take_along_axis(state.decode.tokens, jnp.minimum(at, plan.max_new_tokens - 1), -1)
    tokens = jnp.where(at < ends[..., None], tokens, 0)
    entry = Lineage(tokens, parents, state.score, state.started, *entries)

    def put(old: Array, new: Array) -> Array:
        return lax.dynamic_update_slice_in_dim(old, new[:, None], state.round[0], 1)

    return jax.tree.map(put, state.lineage, entry)


def _gather(state: SearchState, parents: Int[Array, "B N"]) -> SearchState:
    """Every row becomes a copy of its parent, but keeps its slot's own key.

    A row that left its own text draws from a new key: at the positions it writes again it would
    meet the numbers that it has used.
    """

    def rows(x: Any) -> Any:
        if isinstance(x, KVCache):
            return dataclasses.replace(
                x,
                suffix_k=jax.tree.map(rows, x.suffix_k),
                suffix_v=jax.tree.map(rows, x.suffix_v),
                length=rows(x.length),
            )
        return jnp.take_along_axis(x, jnp.expand_dims(parents, tuple(range(2, x.ndim))), 1)

    decode = state.decode
    own = jnp.arange(parents.shape[1])[None] == parents
    fork = jax.vmap(jax.vmap(jax.random.fold_in, (0, None)))
    # Folding in T + round: positions, below T, are folded in to draw.
    new = fork(decode.keys, decode.tokens.shape[2] + state.round)
    decode = dataclasses.replace(
        decode,
        cache=rows(decode.cache),
        tokens=rows(decode.tokens),
        keys=jnp.where(own, decode.keys, new),
        **{name: rows(getattr(decode, name)) for name in CURSOR},
    )
    fields = ("shown", "score", "step_scores", "scored")
    return dataclasses.replace(
        state,
        decode=decode,
        verifier=jax.tree.map(rows, state.verifier, is_leaf=_is_cache),
        **{name: rows(getattr(state, name)) for name in fields},
    )


def _cursors(decode: DecodeState) -> dict[str, Array]:
    return {name: getattr(decode, name) for name in CURSOR} | {"length": decode.cache.length}


def _rewind(decode: DecodeState, saved: dict[str, Array]) -> DecodeState:
    """Rows as they were when `saved` was; what they wrote since is cut off."""
    length = saved["length"]
    written = jnp.arange(decode.tokens.shape[2])[None, None] < length[..., None]
    return dataclasses.replace(
        decode,
        cache=dataclasses.replace(decode.cache, length=length),
        tokens=jnp.where(written, decode.tokens, 0),
        **{name: saved[name] for name in CURSOR},
    )


def _slice(state: SearchState, slot: Int[Array, ""]) -> SearchState:
    """The state of one question, B = 1."""
    return jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, slot, 1, 0), state)


def _put(state: SearchState, question: SearchState, slot: Int[Array, ""]) -> SearchState:
    """The state with one question's part replaced; prompts are never changed by a turn."""

    def put(whole: Any, part: Any) -> Any:
        if isinstance(whole, KVCache):
            names = ("suffix_k", "suffix_v", "length", "live")
            return dataclasses.replace(
                whole,
                **{x: jax.tree.map(put, getattr(whole, x), getattr(part, x)) for x in names},
            )
        return lax.dynamic_update_slice_in_dim(whole, part, slot, 0)

    return jax.tree.map(put, state, question, is_leaf=_is_cache)


def _is_cache(x: Any) -> bool:
    return isinstance(x, KVCache)
