"""Where steps end, and what a verifier is shown there."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from ttc_jax.errors import UserError
from ttc_jax.models.delimiters import Delimiter

A = TypeVar("A", jax.Array, np.ndarray)
NOTHING = -1  # in the place of a token that is not shown


def step_ends(tokens: A, lengths: A, ended: A, delimiter: Delimiter) -> A:
    """Returns where steps end: at each delimiter, and at the answer's last token.

    A delimiter right behind another one (see `models.delimiters`), or an end token there, closes a
    step without text, which is no step: read there, a score would count the step before it twice.
    So the text says how many steps there are, and where.

    Args:
      tokens: [*B, T] ids; JAX's arrays, or NumPy's where answers are cut on the host.
      lengths: [*B] tokens that are real.
      ended: [*B] whether the last one is an end token; else it is text, cut off or paused.

    Returns:
      [*B, T] bool.
    """
    xp = tokens.__array_namespace__()
    at = xp.arange(tokens.shape[-1])[(None,) * (tokens.ndim - 1)]
    closed, ends = delimiter.found(tokens)
    follows = xp.concat([xp.zeros_like(closed[..., :1]), closed[..., :-1]], axis=-1)
    last = at == lengths[..., None] - 1
    text = last & ~closed & ~(follows & ended[..., None])
    return (at < lengths[..., None]) & (ends | text)


@dataclasses.dataclass(frozen=True)
class StepFormat:
    """The tokens that a PRM is shown of a step, and where its score stands.

    Attributes:
      markers: tokens put behind every step, for which the PRM was taught to give its score.
      offset: where the score is read: 0 is the last marker (the step's last token, where there are
        no markers), -1 the token before it.
      swaps: tokens of an answer that it is not shown, rising, each with the one that it is shown in
        its place, or `NOTHING`: delimiters that are not its own, special tokens.
      cuts: the same of tokens that hold a part of a delimiter: token, how many characters
        (`Delimiter.taken`), and what it is shown; rising.

    Raises:
      UserError: an offset that leads out of the step's last token and its markers.
    """

    markers: tuple[int, ...] = ()
    offset: int = 0
    swaps: tuple[tuple[int, int], ...] = ()
    cuts: tuple[tuple[int, int, int], ...] = ()

    def __post_init__(self) -> None:
        if not -len(self.markers) <= self.offset <= 0:
            raise UserError(
                f"step_format.offset is {self.offset}; with {len(self.markers)} markers it must "
                f"lie in {-len(self.markers)}..0"
            )

    def longest(self, tokens: int, steps: int) -> int:
        """Returns how many tokens so many with so many step ends become at most."""
        return tokens + len(self.markers) * steps

    def mark(
        self,
        tokens: Int[Array, "B N T"],
        real: Int[Array, "B N"],
        ends: Bool[Array, "B N T"],
        steps: int,
        written: Bool[Array, "B N T"] | bool = True,
        taken: Int[Array, "B N T"] | None = None,
    ) -> Marked:
        """Swaps tokens of a chunk, and puts the markers behind each of its steps.

        Args:
          real: tokens of the chunk that count.
          ends: its step ends.
          steps: how many there can be in a row at most.
          written: tokens of the answer; others are not swapped.
          taken: what delimiters over several tokens take from each (`Delimiter.taken`); None:
            nothing. What is left of a token that completes one belongs to the next step.
        """
        T, m = tokens.shape[2], len(self.markers)
        inside = jnp.arange(T)[None, None] < real[..., None]
        ends = ends & inside
        tokens = self._swapped(tokens, written, taken)
        is_there = tokens != NOTHING
        count = is_there.astype(jnp.int32)
        size = jnp.where(inside, count + m * ends.astype(jnp.int32), 0)
        at = jnp.cumsum(size, -1, dtype=jnp.int32) - size
        first, marks = at, at + count
        if taken is not None:
            is_next = ends & (taken < 0)
            first, marks = jnp.where(is_next, at + m, at), jnp.where(is_next, at, marks)
        read = marks - 1 + m + self.offset
        if not m and not self.swaps and not self.cuts:
            return Marked(tokens, real, read)
        marked = jnp.zeros((*tokens.shape[:2], self.longest(T, steps)), tokens.dtype)

        def put(marked: Array, here: Array, at: Array, values: Array) -> Array:
            at = jnp.where(here, at, marked.shape[-1])  # dropped where there is nothing
            return jnp.put_along_axis(marked, at, values, -1, inplace=False, mode="drop")

        marked = put(marked, is_there & inside, first, tokens)
        for i, marker in enumerate(self.markers):
            marked = put(marked, ends, marks + i, jnp.full_like(tokens, marker))
        return Marked(marked, size.sum(-1, dtype=jnp.int32), read)

    def _swapped(
        self,
        tokens: Int[Array, "B N T"],
        written: Bool[Array, "B N T"] | bool,
        taken: Int[Array, "B N T"] | None,
    ) -> Int[Array, "B N T"]:
        shown = _replaced(tokens, tokens, written, self.swaps)
        if taken is None or not self.cuts:
            return shown
        most = max(abs(count) for _, count, _ in self.cuts)

        def key(token: Any, count: Any) -> Any:
            return token * (2 * most + 1) + count + most

        table = tuple((key(token, count), after) for token, count, after in self.cuts)
        there = written & (taken != 0) & (jnp.abs(taken) <= most)
        return _replaced(shown, key(tokens, taken), there, table)


def _replaced(
    tokens: Int[Array, "B N T"],
    keys: Int[Array, "B N T"],
    there: Bool[Array, "B N T"] | bool,
    table: tuple[tuple[int, int], ...],
) -> Int[Array, "B N T"]:
    """Returns tokens, replaced where they are `there` and a table of rising keys has theirs."""
    if not table:
        return tokens
    before, after = (jnp.array(column, tokens.dtype) for column in zip(*table, strict=True))
    row = jnp.minimum(jnp.searchsorted(before, keys), len(table) - 1)
    return jnp.where((before[row] == keys) & there, after[row], tokens)


class Marked(NamedTuple):
    """A chunk as the verifier is shown it."""

    tokens: Int[Array, "B N C"]
    real: Int[Array, "B N"]  # how many of them count
    read: Int[Array, "B N T"]  # for each token of the chunk: where its score stands, if a step ends
