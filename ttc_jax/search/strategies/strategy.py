"""The base class of strategies, which choose the rows that go on after a step."""

from __future__ import annotations

import abc

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class Strategy(abc.ABC):
    """Chooses, after every step, which candidate each row goes on from.

    A subclass is a frozen dataclass, whose fields are the strategy's options. `select` is called
    inside the compiled search: it is pure, and its shapes are static.
    """

    stops_at_steps: bool = True  # False: answers are written in one go, and `select` is not called

    @abc.abstractmethod
    def select(
        self, scores: Float[Array, " N"], active: Bool[Array, " N"], key: jax.Array
    ) -> Int[Array, " N"]:
        """Returns the row that each active row of one question goes on from.

        Finished rows keep their slots: what is returned for them is not read, and they are no
        parents. So the budget stays N, and every finished candidate is counted once.

        Args:
          scores: of every row's last step; higher is better.
          active: rows that are not finished; at least one.
          key: for random choices; a new one each round, the same whatever else is in the batch.
        """

    def survivors(self, candidates: int) -> int:
        """Returns how many rows the others go on from at most, of those that are not finished.

        Of N candidates, each of these rows is gone on from by N / survivors rows at most, itself
        included; what they hold can then be stored once for all of them. N promises nothing.
        """
        return candidates

    def check(self, candidates: int) -> None:
        """Refuses a number of candidates that the strategy cannot work with.

        Raises:
          UserError: names the field, and a way out.
        """
        del candidates


def ranked(scores: Float[Array, " N"], active: Bool[Array, " N"]) -> Int[Array, " N"]:
    """Returns rows from best to worst, the active ones first; ties keep the order of the rows."""
    return jnp.argsort(jnp.where(active, -scores, jnp.inf), stable=True)


def places(active: Bool[Array, " N"]) -> Int[Array, " N"]:
    """Returns 0, 1, … for the active rows, in their order."""
    return jnp.cumsum(active) - 1
