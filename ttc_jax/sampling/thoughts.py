"""The thoughts of rows while they are decoded: how far they have come, and what is forced next.

Everything here is a function of arrays with the rows as their axes, and runs inside XLA.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from ttc_jax.models.indexing import take_along
from ttc_jax.sampling.thinking import Phase, Thinking

NONE = -1  # no text is being forced


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Thought:
    """The thoughts of rows, as far as they have come."""

    phase: Int[Array, "*B"]  # a `Phase`
    count: Int[Array, "*B"]  # tokens written inside, forced ones included
    forced: Int[Array, "*B"]  # place of the next token in the forced texts, or `NONE`
    behind: Int[Array, "*B"]  # tokens up to the answer, once the row writes it
    minimum: Int[Array, "*B"]
    maximum: Int[Array, "*B"]


Thoughts = Thought | tuple[()]  # () where the model does not think


def begin(thinking: Thinking | None, given: Int[Array, "B 3"] | None, candidates: int) -> Thoughts:
    """Returns the thoughts of N rows a question that begin; see `Thinking.given`."""
    if thinking is None or given is None:
        return ()
    rows = (given.shape[0], candidates)
    zero = jnp.zeros(rows, jnp.int32)
    phase, minimum, maximum = (jnp.broadcast_to(given[:, i : i + 1], rows) for i in range(3))
    return Thought(phase, zero, zero + NONE, zero, minimum, maximum)


def again(thinking: Thinking | None, thought: Thoughts, between: tuple[int, ...]) -> Thoughts:
    """Returns the thoughts of rows that begin their next answer, behind `between`."""
    if thinking is None:
        return ()
    thought = _of(thought)
    zero = jnp.zeros_like(thought.phase)
    phase = zero + int(thinking.phase_behind(between))
    return dataclasses.replace(thought, phase=phase, count=zero, forced=zero + NONE, behind=zero)


def force(
    thinking: Thinking, thought: Thoughts, drawn: Int[Array, "*B"]
) -> tuple[Int[Array, "*B"], Int[Array, "*B"]]:
    """Returns the tokens that rows write, and their places in the forced texts, or `NONE`.

    Args:
      drawn: the tokens that they would write.
    """
    thought = _of(thought)
    closing, continuation = thinking.closing, thinking.continuation
    inside, place = thought.phase == Phase.INSIDE, thought.forced
    closes = (place >= 0) & (place < len(closing))
    place = jnp.where(inside & (thought.count >= thought.maximum) & ~closes, 0, place)
    if continuation:
        stops = (drawn == thinking.close) | _ends_thought(thinking, drawn)
        early = inside & (thought.count < thought.minimum) & stops & (place == NONE)
        place = jnp.where(early, len(closing), place)
    texts = jnp.array((*closing, *continuation), jnp.int32)
    return jnp.where(place == NONE, drawn, texts[jnp.maximum(place, 0)]), place


def may_end(thinking: Thinking, thought: Thoughts, tokens: Int[Array, "*B"]) -> Bool[Array, "*B"]:
    """Returns which rows can end with a token: behind their thought with any, else with few."""
    return (_of(thought).phase == Phase.BEHIND) | _ends_thought(thinking, tokens)


def _ends_thought(thinking: Thinking, tokens: Int[Array, "*B"]) -> Bool[Array, "*B"]:
    return jnp.isin(tokens, jnp.array(thinking.ends, jnp.int32))


def advance(
    thinking: Thinking,
    thought: Thoughts,
    active: Bool[Array, "*B"],
    tokens: Int[Array, "*B"],
    places: Int[Array, "*B"],
    length: Int[Array, "*B"],
) -> Thought:
    """Returns the thoughts once active rows have written what `force` gave.

    Args:
      length: tokens that rows hold with these.
    """
    thought, after, closing = _of(thought), places + 1, len(thinking.closing)
    at_end = (after == closing) | (after == closing + len(thinking.continuation))
    after = jnp.where((places == NONE) | at_end, NONE, after)
    closed = active & (tokens == thinking.close) & (thought.phase != Phase.BEHIND)
    phase = thought.phase
    if thinking.open is not None:
        opened = active & (tokens == thinking.open) & (phase == Phase.BEFORE)
        phase = jnp.where(opened, Phase.INSIDE, phase)
    inside = thought.phase == Phase.INSIDE
    return dataclasses.replace(
        thought,
        phase=jnp.where(closed, Phase.BEHIND, phase),
        count=thought.count + (active & inside).astype(jnp.int32),
        forced=jnp.where(active, after, thought.forced),
        behind=jnp.where(closed, length, thought.behind),
    )


def in_answer(
    thinking: Thinking, thought: Thoughts, tokens: Int[Array, "B N T"]
) -> Bool[Array, "B N T"]:
    """Returns which tokens have text of the answer, behind the thought, up to them."""
    return jnp.cumsum(_answer_text(thinking, thought, tokens), -1) > 0


def has_answer(
    thinking: Thinking, thought: Thoughts, tokens: Int[Array, "B N T"], length: Int[Array, "B N"]
) -> Bool[Array, "B N"]:
    """Returns which rows have text of the answer among their first `length` tokens."""
    written = jnp.arange(tokens.shape[-1])[None, None] < length[..., None]
    return (_answer_text(thinking, thought, tokens) & written).any(-1)


def _answer_text(
    thinking: Thinking, thought: Thoughts, tokens: Int[Array, "B N T"]
) -> Bool[Array, "B N T"]:
    """Returns which tokens stand behind the thought and are no blanks."""
    at = jnp.arange(tokens.shape[-1])[None, None]
    blank = np.zeros(max(thinking.blanks, default=0) + 2, bool)
    blank[list(thinking.blanks)] = True
    text = ~jnp.array(blank)[jnp.minimum(tokens, len(blank) - 1)]
    return text & (at >= first_of_answer(thought, tokens.shape[-1])[..., None])


def first_of_answer(thought: Thoughts, longest: int) -> Int[Array, "*B"]:
    """Returns the first token of each row's answer; `longest` where it is still thinking."""
    thought = _of(thought)
    return jnp.where(thought.phase == Phase.INSIDE, longest, thought.behind)


def cut(
    tokens: Int[Array, "B N T"], lengths: Int[Array, "B N"], first: Int[Array, "B N"]
) -> tuple[Int[Array, "B N T"], Int[Array, "B N"]]:
    """Returns answers from their token `first` on, and how long they are then."""
    at, lengths = jnp.arange(tokens.shape[-1])[None, None], jnp.maximum(lengths - first, 0)
    moved = take_along(tokens, jnp.minimum(first[..., None] + at, tokens.shape[-1] - 1))
    return jnp.where(at < lengths[..., None], moved, 0), lengths


def _of(thought: Thoughts) -> Thought:
    assert isinstance(thought, Thought), "rows that think are begun so"
    return thought
