"""The state of a search, and how rows and questions move in it."""

from __future__ import annotations

import dataclasses
import enum
import functools
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Int8

from ttc_jax.models.cache import KVCache
from ttc_jax.models.indexing import put_slots, take_rows, take_slots
from ttc_jax.sampling.decode import DecodeState
from ttc_jax.sampling.draw import RowSampling, SamplingParams
from ttc_jax.sampling.keys import copy_keys
from ttc_jax.search.plan import Plan
from ttc_jax.verifiers.steps import Marked


class Status(enum.IntEnum):
    """The status of a slot: what happens next to its question."""

    IDLE = 0  # nothing: the slot is free
    SEARCHING = 1  # its active rows are decoded
    SELECTING = 2  # its selection step, since all rows have paused
    REVISING = 3  # its rows begin their next answers
    DONE = 4  # it is harvested
    FAILED = 5  # the run ends, since a score was NaN


ACTIVE = (Status.SEARCHING, Status.SELECTING, Status.REVISING)  # neither free nor done
NONE = -1  # number of a slot, or of a question, where there is none
# Fields of `DecodeState` that lookahead puts back, beside the cache and the tokens.
CURSOR = ("pending", "hidden", "log_prob", "entropy", "certainty", "ended")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SearchTrace:
    """The record of each round: all that a search tree or a ledger needs.

    Row n wrote tokens starts … ends in round r and got scores[r, n]; in round r + 1 it went on from
    row parents[r, n]. Finished rows write nothing: their starts equal their ends. Rounds that never
    came hold zeros. On the host it is that of one question, without B; a round that is written has
    no R.
    """

    tokens: Int[Array, "B *R N C"]  # what was written, also by rows that were then pruned; 0 behind
    parents: Int[Array, "B *R N"]
    scores: Float[Array, "B *R N"]
    starts: Int[Array, "B *R N"]
    ends: Int[Array, "B *R N"]
    lookahead_ends: Int[Array, "B *R N"]  # where lookahead stopped; `ends` without it
    verifier_tokens: Int[Array, "B *R N"]  # that it read of the step, markers included
    lookahead_verifier_tokens: Int[Array, "B *R N"]  # that it read of the lookahead, and forgot
    answers: Int[Array, "B *R N"]  # which of its s answers the row was writing
    contexts: Int[Array, "B *R N"]  # tokens of the earlier answers before it, see `KVCache`

    @classmethod
    def start(cls, plan: Plan) -> SearchTrace:
        """Returns the trace of a question before its first round."""
        rounds = (1, plan.all_rounds, plan.candidates)
        fields = {field.name: jnp.zeros(rounds, jnp.int32) for field in dataclasses.fields(cls)}
        fields["scores"] = jnp.zeros(rounds, jnp.float32)
        fields["tokens"] = jnp.zeros((*rounds, plan.step), jnp.int32)
        return cls(**fields)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Answers:
    """The s answers that each row completes, one after the other; 0 for those to come.

    Of an answer that is being completed the arrays have no s.
    """

    tokens: Int[Array, "B N *s T"]
    lengths: Int[Array, "B N *s"]
    log_prob: Float[Array, "B N *s"]
    finished: Bool[Array, "B N *s"]
    step_scores: Float[Array, "B N *s T"]
    scored: Bool[Array, "B N *s T"]

    @classmethod
    def start(cls, plan: Plan) -> Answers:
        """Returns room for the answers of a question, none of which is complete."""
        rows = (1, plan.candidates, plan.revisions)
        tokens, number = (jnp.zeros((*rows, plan.max_new_tokens), jnp.int32), jnp.zeros(rows))
        return cls(
            tokens=tokens,
            lengths=number.astype(jnp.int32),
            log_prob=number,
            finished=number != 0,
            step_scores=tokens.astype(jnp.float32),
            scored=tokens != 0,
        )


class OwnLimits(NamedTuple):
    """The limits that a question brings with it."""

    tokens: Int[Array, " B"]  # of an answer
    sampling: RowSampling


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Question:
    """The fields of a question that its answers do not change, but for its score."""

    keys: jax.Array  # [B] the questions' own
    last: Int[Array, " B"]  # last token of the prompt
    score: Float[Array, " B"]  # the verifier's, where the prompt ends
    own: OwnLimits | tuple[()] = ()  # where the plan leaves its limits to the questions

    def longest(self, plan: Plan) -> int | Int[Array, "B 1"]:
        """Returns the tokens of an answer at most: T, or each question's own."""
        return self.own.tokens[:, None] if isinstance(self.own, OwnLimits) else plan.max_new_tokens

    def first_step(self, plan: Plan) -> int | Int[Array, "B 1"]:
        """Returns the tokens that a row may write before it pauses first."""
        if not isinstance(self.own, OwnLimits):
            return plan.step
        return jnp.minimum(plan.step, self.own.tokens[:, None])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Progress:
    """The progress of the search for a question."""

    status: Int8[Array, " B"]  # a `Status`
    round: Int[Array, " B"]
    began: Int[Array, " B"]  # round in which the answers began
    answer: Int[Array, " B"]  # answers that are complete
    lookahead_steps: Int[Array, " B"]  # lookahead steps begun in this round

    @classmethod
    def start(cls) -> Progress:
        """Returns the progress of a question whose search begins."""
        zero = jnp.zeros((1,), jnp.int32)
        return cls(jnp.full((1,), Status.SEARCHING, jnp.int8), zero, zero, zero, zero)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rows:
    """The part of its answer that each row is writing."""

    given: Int[Array, "B N"]  # last token before the answer, the first that a verifier is shown
    done: Bool[Array, "B N"]  # rows that are finished or cut off
    limit: Int[Array, "B N"]  # tokens at which a row pauses at the latest
    started: Int[Array, "B N"]  # tokens that a row held when the round began

    @classmethod
    def start(cls, given: Int[Array, "B N"], step: int | Int[Array, "B 1"]) -> Rows:
        """Returns rows that begin an answer, whose first step has at most `step` tokens."""
        zero = jnp.zeros(given.shape, jnp.int32)
        return cls(given, done=zero != 0, limit=jnp.full_like(zero, step), started=zero)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scores:
    """The scores of each row's answer, and how far the verifier has read it."""

    shown: Int[Array, "B N"]  # tokens that it was shown, the last before the answer included
    last: Float[Array, "B N"]  # of the last step
    steps: Float[Array, "B N T"]  # at the last token of every scored step
    scored: Bool[Array, "B N T"]

    @classmethod
    def start(cls, tokens: Int[Array, "B N T"]) -> Scores:
        """Returns the scores of answers that begin: none."""
        rows, steps = (jnp.zeros(tokens.shape[:2], jnp.int32), jnp.zeros(tokens.shape, jnp.float32))
        return cls(rows, rows.astype(jnp.float32), steps, scored=steps != 0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Earlier:
    """The latest answers of each row, the newest last, without end tokens."""

    tokens: Int[Array, "B N E T"]
    lengths: Int[Array, "B N E"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SearchState:
    """B slots for questions, each with N rows in the middle of a search."""

    decode: DecodeState
    verifier: Any  # its own state, see `Verifier.init`
    strategy: Any  # its own state, see `Strategy.init`
    question: Question
    progress: Progress
    rows: Rows
    scores: Scores
    saved: dict[str, Any]  # cursors at the step's end while lookahead goes on; {} without it
    # Over a bridge, the step in the verifier's tokens, and then its lookahead; else ().
    retokenized: tuple[Marked, ...]
    trace: SearchTrace
    answers: Answers
    earlier: Earlier

    def has(self, *statuses: Status) -> Bool[Array, " B"]:
        """Returns which questions have one of these statuses."""
        return functools.reduce(operator.or_, (self.progress.status == x for x in statuses))

    @property
    def active(self) -> Bool[Array, " B"]:
        """Which slots hold a question that is not done."""
        return self.has(*ACTIVE)

    def sampling(self, plan: Plan) -> SamplingParams | RowSampling:
        """Returns how tokens are drawn: as the plan says, or each row as its question does."""
        own = self.question.own
        if not isinstance(own, OwnLimits):
            return plan.sampling
        rows = self.rows.done.shape
        return jax.tree.map(lambda x: jnp.broadcast_to(x[:, None], rows), own.sampling)


@jax.named_scope("gather_parents")
def gather(state: SearchState, parents: Int[Array, "B N"]) -> SearchState:
    """Makes every row a copy of its parent, with its slot's own key.

    A row that left its own text draws from a new key: at the positions it writes again it would
    meet the numbers that it has used.
    """

    def rows(x: Any) -> Any:
        if isinstance(x, KVCache):
            return x.gather(parents, ~state.rows.done)
        return take_rows(x, parents)

    decode = state.decode
    own = jnp.arange(parents.shape[1])[None] == parents
    new = copy_keys(decode.keys, decode.tokens.shape[2], state.progress.round)
    decode = dataclasses.replace(
        decode,
        cache=rows(decode.cache),
        tokens=rows(decode.tokens),
        keys=jnp.where(own, decode.keys, new),
        thought=jax.tree.map(rows, decode.thought),
        **{name: rows(getattr(decode, name)) for name in CURSOR},
    )
    return dataclasses.replace(
        state,
        decode=decode,
        verifier=jax.tree.map(rows, state.verifier, is_leaf=_is_cache),
        scores=jax.tree.map(rows, state.scores),
    )


def take(state: SearchState, slots: Int[Array, " G"]) -> SearchState:
    """Returns the state of G questions; caches are views, slots beyond B show the last one."""

    def of(x: Any) -> Any:
        return x.view(slots) if _is_cache(x) else take_slots(x, slots)

    return jax.tree.map(of, state, is_leaf=_is_cache)


def put(state: SearchState, questions: SearchState, slots: Int[Array, " G"]) -> SearchState:
    """Returns the state with questions that `take` gave and that changed; slots beyond B drop."""

    def into(whole: Any, part: Any) -> Any:
        return whole.merge(part) if _is_cache(whole) else put_slots(whole, part, slots)

    return jax.tree.map(into, state, questions, is_leaf=_is_cache)


def insert(state: SearchState, question: SearchState, slot: Int[Array, " 1"]) -> SearchState:
    """Returns the state with another question in a slot; unchanged where the slot is `NONE`."""
    at, is_there = jnp.maximum(slot[0], 0), slot[0] != NONE

    def put(whole: Array, new: Array) -> Array:
        old = lax.dynamic_slice_in_dim(whole, at, 1, 0)
        return lax.dynamic_update_slice_in_dim(whole, lax.select(is_there, new, old), at, 0)

    return jax.tree.map(put, state, question)


def _is_cache(x: Any) -> bool:
    return isinstance(x, KVCache)
