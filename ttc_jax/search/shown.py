"""The text that a verifier is shown: what rows have written since it last read."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from ttc_jax.models.delimiters import Delimiter
from ttc_jax.models.indexing import take_along
from ttc_jax.search.layout import Layout
from ttc_jax.search.state import SearchState
from ttc_jax.verifiers.steps import Marked


@dataclasses.dataclass(frozen=True)
class Text:
    """The answers of rows, as a verifier counts their tokens.

    The last token before the answer is number 0, and token i of the answer number i + 1.

    Attributes:
      tokens: of the answers, lookahead included.
    """

    layout: Layout
    delimiter: Delimiter
    state: SearchState
    tokens: Int[Array, "B N T"]

    def step(
        self, end: Int[Array, "B N"], step_ends: Bool[Array, "B N T"]
    ) -> tuple[Marked, Int[Array, "B N"]]:
        """Returns what is shown of the text up to `end`, and how many tokens that is."""
        return self._chunk(0, self.state.scores.shown, end, step_ends, self.layout.plan.step + 1)

    def lookahead(
        self, first: Int[Array, "B N"], end: Int[Array, "B N"]
    ) -> tuple[Marked, Int[Array, "B N"]]:
        """Returns the same of a lookahead's text: where it stops, a step ends."""
        is_end = jnp.arange(self.layout.plan.max_new_tokens)[None, None] == end[..., None] - 2
        return self._chunk(
            1, first, end, is_end, self.layout.plan.lookahead * self.layout.plan.step
        )

    def _chunk(
        self, number: int, first: Array, end: Array, step_ends: Array, width: int
    ) -> tuple[Marked, Array]:
        """Returns the text from `first` to `end`, over a bridge as the host wrote it.

        Args:
          number: of the part of `SearchState.retokenized`.
        """
        layout, state, T = self.layout, self.state, self.layout.plan.max_new_tokens
        real = jnp.where(state.rows.done, 0, end - first)
        if layout.retokenizes:
            retokenized = state.retokenized[number]
            return retokenized._replace(real=jnp.where(state.rows.done, 0, retokenized.real)), real
        index = jnp.minimum(first[..., None] + jnp.arange(width)[None, None], T)
        text = jnp.concatenate([state.rows.given[..., None], self.tokens], -1)
        tokens, here = (take_along(x, index, -1) for x in (text, _behind_prompt(step_ends)))
        taken = None
        if layout.step_format.cuts:
            taken = _behind_prompt(self.delimiter.taken(self.tokens, end - 1))
            taken = take_along(taken, index, -1)
        mark, most = layout.step_format.mark, layout.steps_a_round
        return mark(tokens, real, here, most, written=index > 0, taken=taken), real


def _behind_prompt(x: Array) -> Array:
    """Returns [B, N, 1 + T] for [B, N, T], with nothing for the last token before the answer."""
    return jnp.pad(x, ((0, 0), (0, 0), (1, 0)))
