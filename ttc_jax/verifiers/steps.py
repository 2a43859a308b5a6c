"""Where steps end, and what a verifier is shown there."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from ttc_jax.errors import UserError

A = TypeVar("A", jax.Array, np.ndarray)


def step_ends(tokens: A, lengths: A, ended: A, delimiters: A) -> A:
    """Where steps end: at each delimiter, and at the answer's last token.

    A delimiter right behind another one, or an end token there, closes a step without text, which
    is no step: read there, a score would count the step before it twice.

    Args:
      tokens: [*B, T] ids; JAX's arrays, or NumPy's where answers are cut on the host.
      lengths: [*B] tokens that are real.
      ended: [*B] whether the last one is an end token; else it is text, cut off or paused.
      delimiters: [V] bool, the tokens that end a step.

    Returns:
      [*B, T] bool.
    """
    xp = tokens.__array_namespace__()
    at = xp.arange(tokens.shape[-1])[(None,) * (tokens.ndim - 1)]
    is_delimiter = delimiters[tokens]
    follows = xp.concat([xp.zeros_like(is_delimiter[..., :1]), is_delimiter[..., :-1]], axis=-1)
    last = at == lengths[..., None] - 1
    text = last & ~is_delimiter & ~(follows & ended[..., None])
    return (at < lengths[..., None]) & ((is_delimiter & ~follows) | text)


@dataclasses.dataclass(frozen=True)
class StepFormat:
    """What a PRM wants to see of a step, and where its score stands.

    Attributes:
      markers: tokens put behind every step, for which the PRM was taught to give its score.
      offset: where the score is read: 0 is the last marker (the step's last token, where there are
        no markers), -1 the token before it.

    Raises:
      UserError: an offset that leads out of the step's last token and its markers.
    """

    markers: tuple[int, ...] = ()
    offset: int = 0

    def __post_init__(self) -> None:
        if not -len(self.markers) <= self.offset <= 0:
            raise UserError(
                f"step_format.offset is {self.offset}; with {len(self.markers)} markers it must "
                f"lie in {-len(self.markers)}..0"
            )

    def mark(
        self,
        tokens: Int[Array, "B N T"],
        real: Int[Array, "B N"],
        ends: Bool[Array, "B N T"],
        steps: int,
    ) -> Marked:
        """Puts the markers behind each step of a chunk.

        Args:
          real: tokens of the chunk that count.
          ends: its step ends.
          steps: how many there can be in a row at most.
        """
        T, m = tokens.shape[2], len(self.markers)
        ends = ends & (jnp.arange(T)[None, None] < real[..., None])
        before = jnp.cumsum(ends, -1, dtype=jnp.int32) - ends.astype(jnp.int32)
        at = jnp.arange(T)[None, None] + m * before
        read = at + m + self.offset
        if not m:
            return Marked(tokens, real, read)
        marked = jnp.zeros((*tokens.shape[:2], T + m * steps), tokens.dtype)
        marked = jnp.put_along_axis(marked, at, tokens, -1, inplace=False, mode="drop")
        for i, marker in enumerate(self.markers):
            behind = jnp.where(ends, at + 1 + i, marked.shape[-1])  # dropped where no step ends
            marks = jnp.full_like(tokens, marker)
            marked = jnp.put_along_axis(marked, behind, marks, -1, inplace=False, mode="drop")
        return Marked(marked, real + m * ends.sum(-1, dtype=jnp.int32), read)


class Marked(NamedTuple):
    """A chunk as the verifier is shown it."""

    tokens: Int[Array, "B N C"]
    real: Int[Array, "B N"]  # how many of them count
    read: Int[Array, "B N T"]  # for each token of the chunk: where its score stands, if a step ends
