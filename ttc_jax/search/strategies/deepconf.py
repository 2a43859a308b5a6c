"""DeepConf: rows in which the generator itself has little confidence are stopped."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ttc_jax.errors import UserError
from ttc_jax.search.strategies.strategy import Strategy
from ttc_jax.search.strategies.view import STOP, View


class Confidence(NamedTuple):
    """What is known of the rows of a question."""

    lowest: Float[Array, " N"]  # of all windows so far, nats a token
    threshold: Float[Array, ""]  # below which a row is stopped
    log_probs: Float[Array, "N W"]  # sums at the ends of the last W steps, the oldest first
    lengths: Int[Array, "N W"]  # tokens there


@dataclasses.dataclass(frozen=True)
class DeepConf(Strategy):
    """Deep think with confidence, as rows are written (Fu et al., 2025, §3.2).

    A row's confidence is the mean log-probability of the tokens of its last steps.

    Attributes:
      window: W, steps that confidence is the mean of.
      warmup: steps before any row is stopped; the threshold is set by the rows at their end.
      keep: share of the rows whose lowest confidence is at the threshold or above it by then.
    """

    window: int = 2
    warmup: int = 2
    keep: float = 0.9
    stops_rows = True

    def init(self, candidates: int) -> Confidence:
        """Returns the state in which nothing is written, and no threshold set."""
        past = jnp.zeros((candidates, self.window))
        highest = jnp.zeros(candidates)  # that a log-probability can be
        return Confidence(highest, jnp.full((), -jnp.inf), past, past.astype(jnp.int32))

    def update(
        self, view: View, state: Confidence, key: jax.Array
    ) -> tuple[Int[Array, " N"], Confidence]:
        """Stops the rows below the threshold, but for the most confident one; none moves."""
        del key
        rows = jnp.arange(len(view.scores))
        tokens = jnp.maximum(view.lengths - state.lengths[:, 0], 1).astype(jnp.float32)
        confidence = (view.log_prob - state.log_probs[:, 0]) / tokens
        lowest = jnp.minimum(state.lowest, confidence)
        stopped = int((1 - self.keep) * (len(rows) - 1) + 1e-6)
        now = view.round == self.warmup - 1
        threshold = jnp.where(now, jnp.sort(lowest)[stopped], state.threshold)
        best = jnp.where(view.active, confidence, -jnp.inf).argmax()
        low = (lowest < threshold) & (rows != best)
        log_probs = jnp.append(state.log_probs[:, 1:], view.log_prob[:, None], 1)
        lengths = jnp.append(state.lengths[:, 1:], view.lengths[:, None], 1)
        return jnp.where(low, STOP, rows), Confidence(lowest, threshold, log_probs, lengths)

    def check(self, candidates: int) -> None:
        """Refuses a window or a warm-up without steps, and what is no share to keep."""
        del candidates
        for name in ("window", "warmup"):
            if (steps := getattr(self, name)) < 1:
                raise UserError(f"search.options.{name} is {steps}; it must be at least 1 step")
        if not 0 < self.keep <= 1:
            raise UserError(
                f"search.options.keep is {self.keep}; it must be more than 0, and at most 1 (all)"
            )
