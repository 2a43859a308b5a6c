"""Diverse beam search: keep candidates that are good and unlike those already kept."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ttc_jax.errors import UserError
from ttc_jax.search.strategies.beam import Beam, continuations
from ttc_jax.search.strategies.strategy import places
from ttc_jax.search.strategies.view import View

Kept = tuple[Bool[Array, " N"], Float[Array, " N"]]


@dataclasses.dataclass(frozen=True)
class DiverseBeam(Beam):
    """Beam search by maximal marginal relevance (Carbonell & Goldstein, 1998).

    Attributes:
      penalty: λ; the next candidate to keep is the one of the highest score - λ · similarity to
        the most similar one of those kept. 0 is beam search.
    """

    penalty: float = 0.25
    reads_hidden = True

    def update(self, view: View, state: Any, key: jax.Array) -> tuple[Int[Array, " N"], Any]:
        """Shares the active rows out, M to each that is kept; of equal ones, the first."""
        del key
        assert view.hidden is not None
        N, M = len(view.scores), continuations(self.width, len(view.scores))
        similar = similarity(view.hidden, view.active)

        def keep(kept: Kept, _: None) -> tuple[Kept, Int[Array, ""]]:
            free, nearest = kept
            best = jnp.where(free, view.scores - self.penalty * nearest, -jnp.inf).argmax()
            return (free.at[best].set(False), jnp.maximum(nearest, similar[best])), best

        nothing = view.active, jnp.full(N, -1.0)  # no cosine is less
        _, kept = lax.scan(keep, nothing, length=N // M)
        return kept[places(view.active) // M], state

    def check(self, candidates: int) -> None:
        """Refuses an N that M does not divide, and a λ below 0."""
        super().check(candidates)
        if not self.penalty >= 0:
            raise UserError(f"search.options.penalty is {self.penalty}; it must be 0 or more")


def similarity(hidden: Float[Array, "N D"], active: Bool[Array, " N"]) -> Float[Array, "N N"]:
    """Returns cosines of rows' hidden states, seen from the mean of the active ones.

    All hidden states of a model point much the same way: from 0 all of them would be alike.
    """
    hidden = hidden.astype(jnp.float32)
    rows = active.sum().astype(jnp.float32)
    mean = jnp.where(active[:, None], hidden, 0.0).sum(0) / rows
    away = hidden - mean[None]
    least = 1e-4 * jnp.linalg.norm(mean)  # what is nearer differs by rounding
    away /= jnp.maximum(jnp.linalg.norm(away, axis=-1), least)[:, None]
    return jnp.matmul(away, away.T, precision=lax.Precision.HIGHEST)
