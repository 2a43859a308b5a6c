"""The base class of strategies, which choose the rows that go on after a step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ttc_jax.search.strategies.view import View


class Strategy:
    """Chooses, after every step, which candidate each row goes on from.

    A subclass is a frozen dataclass, whose fields are the strategy's options. It overrides `select`
    where scores are all that it needs; else `update`, which sees more, and `init` where it has a
    state. All are called inside the compiled search: they are pure, and their shapes are static.

    Attributes:
      stops_at_steps: False: answers are written in one go, and nothing is selected.
      stops_rows: whether `update` may give `STOP` in place of a row.
      state_follows_rows: whether every array of the state has N rows, which are gathered as the
        candidates are: a row that goes on from another one takes over what is known of it.
      reads_entropy, reads_hidden: whether the view has these; entropy is then summed at each token.
    """

    stops_at_steps: bool = True
    stops_rows: bool = False
    state_follows_rows: bool = False
    reads_entropy: bool = False
    reads_hidden: bool = False

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
        raise NotImplementedError("a strategy overrides select or update")

    def init(self, candidates: int) -> Any:
        """Returns the state in which an answer begins: a pytree of arrays, () for none."""
        del candidates
        return ()

    def update(self, view: View, state: Any, key: jax.Array) -> tuple[Int[Array, " N"], Any]:
        """Returns the row that each row goes on from, as `select` does, and the state behind it.

        Rows are those of this round.

        Args:
          view: of the question's rows.
          state: of this question and answer, as `init` or the round before left it; what is
            returned has its structure, shapes and dtypes.
          key: as in `select`.
        """
        return self.select(view.scores, view.active, key), state

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
