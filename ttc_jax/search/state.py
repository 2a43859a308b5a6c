"""The state of a search, and how rows and questions move in it."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ttc_jax.models.cache import KVCache
from ttc_jax.models.indexing import put_slots, take_rows, take_slots
from ttc_jax.sampling.sampler import DecodeState
from ttc_jax.verifiers.steps import Marked

NONE = -1  # number of a slot, or of a question, where there is none
# What a row is, beside its cache and tokens: lookahead puts it back.
CURSOR = ("pending", "hidden", "log_prob", "entropy", "certainty", "ended")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SearchTrace:
    """What happened in each round: all that a search tree or a ledger needs.

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
    looks: Int[Array, "B *R N"]  # tokens that lookahead reached; equals `ends` without it
    reads: Int[Array, "B *R N"]  # tokens that the verifier kept of the step, markers included
    peeks: Int[Array, "B *R N"]  # tokens that it read of the lookahead, and forgot
    answers: Int[Array, "B *R N"]  # which of its s answers the row was writing
    contexts: Int[Array, "B *R N"]  # tokens that were read before that answer: see `KVCache`


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


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SearchState:
    """B slots for questions, each with N rows in the middle of a search."""

    decode: DecodeState
    verifier: Any  # its own state, see `Verifier.start`
    last: Int[Array, " B"]  # last token of the prompt
    given: Int[Array, "B N"]  # last token before the answer, the first that a verifier is shown
    keys: jax.Array  # [B] the questions' own
    active: Bool[Array, " B"]  # slots with a question that is not done
    ready: Bool[Array, " B"]  # all rows rest: the question's turn has come
    revising: Bool[Array, " B"]  # the answers are complete, and not the last ones
    failed: Bool[Array, " B"]  # a score was NaN
    question_score: Float[Array, " B"]  # the verifier's, where the prompt ends
    round: Int[Array, " B"]
    began: Int[Array, " B"]  # round in which the answers began
    answer: Int[Array, " B"]  # answers that are complete
    looked: Int[Array, " B"]  # lookahead steps begun in this round
    done: Bool[Array, "B N"]  # rows that are finished or cut off
    limit: Int[Array, "B N"]  # tokens at which a row rests at the latest
    started: Int[Array, "B N"]  # tokens that a row held when the round began
    shown: Int[Array, "B N"]  # tokens that the verifier was shown, the prompt's last included
    score: Float[Array, "B N"]  # of the last step
    step_scores: Float[Array, "B N T"]  # at the last token of every scored step
    scored: Bool[Array, "B N T"]
    saved: dict[str, Array]  # cursors at the step's end while lookahead goes on; {} without it
    # Over a bridge, what the verifier is shown of the step, and then of its lookahead; else ().
    told: tuple[Marked, ...]
    trace: SearchTrace
    answers: Answers
    earlier: Int[Array, "B N E T"]  # the latest answers, the newest last, without end tokens ...
    earlier_length: Int[Array, "B N E"]  # ... and how long they are


@jax.named_scope("gather_parents")
def gather(state: SearchState, parents: Int[Array, "B N"]) -> SearchState:
    """Every row becomes a copy of its parent, but keeps its slot's own key.

    A row that left its own text draws from a new key: at the positions it writes again it would
    meet the numbers that it has used.
    """

    def rows(x: Any) -> Any:
        if isinstance(x, KVCache):
            return x.gather(parents)
        return take_rows(x, parents)

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


def take(state: SearchState, slots: Int[Array, " G"]) -> SearchState:
    """The state of G questions; caches are views. A slot beyond B shows the last question."""

    def of(x: Any) -> Any:
        return x.view(slots) if _is_cache(x) else take_slots(x, slots)

    return jax.tree.map(of, state, is_leaf=_is_cache)


def put(state: SearchState, questions: SearchState, slots: Int[Array, " G"]) -> SearchState:
    """The state after questions, as `take` gave them, were changed; slots beyond B are dropped."""

    def into(whole: Any, part: Any) -> Any:
        return whole.merge(part) if _is_cache(whole) else put_slots(whole, part, slots)

    return jax.tree.map(into, state, questions, is_leaf=_is_cache)


def insert(state: SearchState, question: SearchState, slot: Int[Array, " 1"]) -> SearchState:
    """The state with another question in a slot; as it is, where the slot is `NONE`."""

    def put(whole: Array, new: Array) -> Array:
        at = jnp.maximum(slot[0], 0)
        old = lax.dynamic_slice_in_dim(whole, at, 1, 0)
        new = jnp.where(jnp.expand_dims(slot != NONE, tuple(range(1, new.ndim))), new, old)
        return lax.dynamic_update_slice_in_dim(whole, new, at, 0)

    return jax.tree.map(put, state, question)


def _is_cache(x: Any) -> bool:
    return isinstance(x, KVCache)
