"""Deadlines and progress: how long a segment may take, and how a search ends before its time."""

from __future__ import annotations

import dataclasses
import math
import threading
import time

import jax.numpy as jnp
from jaxtyping import Array, Bool

from ttc_jax.search import lookahead
from ttc_jax.search.plan import Plan
from ttc_jax.search.state import SearchState, Status

SHORT, LONG = 0.05, 0.2  # seconds that a segment should take, between which its length is kept
MOST = 1 << 20  # decode iterations of a segment: many short ones could double them without end


def cut(plan: Plan, state: SearchState, chosen: Bool[Array, " B"]) -> SearchState:
    """Makes the selection step of chosen questions come now, and be the last of their answers.

    What is written is scored and completed as it is at the limit of tokens, so that the trace, and
    with it the ledger, holds it. A lookahead that has begun ends where it is.
    """
    active, progress = state.active & chosen, state.progress
    decode, saved = state.decode, state.saved
    if plan.lookahead:  # what `rewind` puts back, where lookahead has not begun
        begun = progress.lookahead_steps > 0
        saved = {
            name: jnp.where(jnp.expand_dims(begun, tuple(range(1, x.ndim))), saved[name], x)
            for name, x in lookahead.cursors(decode).items()
        }
    last = progress.round + 1 - plan.rounds_per_answer
    cache = dataclasses.replace(decode.cache, active=decode.cache.active & ~active[:, None])
    return dataclasses.replace(
        state,
        decode=dataclasses.replace(decode, cache=cache),
        saved=saved,
        progress=dataclasses.replace(
            progress,
            status=jnp.where(active, jnp.int8(Status.SELECTING), progress.status),
            began=jnp.where(active, last, progress.began),
        ),
    )


@dataclasses.dataclass(frozen=True)
class Deadline:
    """When a search is cut off: at a time, or once nobody waits for it any longer.

    Attributes:
      at: on the clock of `time.monotonic`.
      left: is set, by any thread, where the search is given up.
    """

    at: float = math.inf
    left: threading.Event | None = None

    @classmethod
    def of(cls, deadline: float | Deadline) -> Deadline:
        """Returns a time, or a deadline, as a deadline."""
        return deadline if isinstance(deadline, Deadline) else cls(deadline)

    @property
    def may_come(self) -> bool:
        """Whether a search has to look out for it."""
        return math.isfinite(self.at) or self.left is not None

    @property
    def is_over(self) -> bool:
        """Whether it has come."""
        return time.monotonic() >= self.at or (self.left is not None and self.left.is_set())


class Pace:
    """Chooses the decode iterations of the next segment, so that the clock is seen often enough.

    It changes no result, but for what a deadline cuts off.

    Args:
      deadline: a time is one of the clock `time.monotonic`.
    """

    def __init__(self, deadline: float | Deadline = math.inf):
        self.tokens, self.deadline, self._began = 1, Deadline.of(deadline), time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether the deadline has come."""
        return self.deadline.is_over

    def begin(self) -> int:
        """Returns the decode iterations of a segment that begins."""
        self._began = time.monotonic()
        return self.tokens

    def end(self) -> None:
        """Learns from the segment that ends how long the next one may be."""
        took = time.monotonic() - self._began
        if took < SHORT:
            self.tokens = min(2 * self.tokens, MOST)
        elif took > LONG:
            self.tokens = max(1, self.tokens // 2)
