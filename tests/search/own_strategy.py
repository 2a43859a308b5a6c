"""A strategy of a user's own, as the README would have it."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ttc_jax.search.strategies import Strategy, View


@dataclasses.dataclass(frozen=True)
class KeepFirst(Strategy):
    """All rows go on from the first one that is `above` a score, else from the first."""

    above: float = 0.0

    def select(
        self, scores: Float[Array, " N"], active: Bool[Array, " N"], key: jax.Array
    ) -> Int[Array, " N"]:
        del key
        good = active & (scores > self.above)
        return jnp.full(scores.shape, jnp.where(good.any(), good.argmax(), active.argmax()))


@dataclasses.dataclass(frozen=True)
class Patient(Strategy):
    """A row whose scores have not risen for more rounds than these goes on from the surest row."""

    patience: int = 1
    reads_entropy = True
    state_follows_rows = True

    def init(self, candidates: int) -> tuple[Array, Array]:
        return jnp.full(candidates, -jnp.inf), jnp.zeros(candidates, jnp.int32)

    def update(self, view: View, state: tuple[Array, Array], key: jax.Array) -> Any:
        del key
        best, waited = state
        waited = jnp.where(view.scores > best, 0, waited + 1)
        assert view.entropy is not None
        sure = view.history.sum(-1) / jnp.maximum(view.depth, 1).astype(jnp.float32)
        sure -= view.entropy / view.lengths.astype(jnp.float32)
        surest = jnp.where(view.active, sure, -jnp.inf).argmax()
        rows = jnp.where(waited > self.patience, surest, jnp.arange(len(best)))
        return rows, (jnp.maximum(view.scores, best), waited)


@dataclasses.dataclass(frozen=True)
class Returns(KeepFirst):
    """What is taken for row numbers by mistake."""

    what: str = "one row"

    def select(
        self, scores: Float[Array, " N"], active: Bool[Array, " N"], key: jax.Array
    ) -> Array:
        rows = super().select(scores, active, key)
        return {"one row": rows[0], "mask": scores > 0, "scores": scores, "fewer": rows[1:]}[
            self.what
        ]


@dataclasses.dataclass(frozen=True)
class Holds(Strategy):
    """A state, and what is done with it by mistake."""

    what: str = "nothing"

    @property
    def state_follows_rows(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.what == "few rows"

    def init(self, candidates: int) -> Any:
        return {"text": "none"} if self.what == "text" else {"seen": jnp.zeros(2)}

    def update(self, view: View, state: Any, key: jax.Array) -> Any:
        del key
        rows = jnp.arange(len(view.scores))
        if self.what == "hidden":
            rows = view.hidden.argmax(-1)  # pyright: ignore[reportOptionalMemberAccess]
        if self.what == "stops":
            rows = jnp.full_like(rows, -1)
        seen = state["seen"] + 1
        if self.what == "later":  # not at once
            rows += state["seen"].sum().astype(int)
        state = {
            "later": {"seen": seen},
            "counts": {"seen": seen.astype(int)},
            "wide": {"seen": jnp.zeros(3)},
            "other": (seen,),
        }.get(self.what, state)
        return rows if self.what == "no pair" else (rows, state)


@dataclasses.dataclass
class Thawed(Strategy):
    """No key of a compiled program."""

    def select(
        self, scores: Float[Array, " N"], active: Bool[Array, " N"], key: jax.Array
    ) -> Int[Array, " N"]:
        del active, key
        return jnp.arange(len(scores))
