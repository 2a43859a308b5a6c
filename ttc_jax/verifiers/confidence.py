"""Scores without a model of their own: how sure the generator was of what it wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ttc_jax.errors import UserError
from ttc_jax.sampling.decode import DecodeState
from ttc_jax.verifiers.verifier import Verifier, VerifierSpec

# From sums over an answer to the mean over its tokens, brought to [0, 1] in the same order.
SIGNS: Final[Mapping[str, Callable[[DecodeState, Array], Array]]] = MappingProxyType(
    {
        "log_prob": lambda state, tokens: jnp.exp(state.log_prob / tokens),
        "entropy": lambda state, tokens: jnp.exp(-state.entropy / tokens),
        "self_certainty": lambda state, tokens: 1 - jnp.exp(-state.certainty / tokens),
    }
)


class Confidence(Verifier):
    """The mean over the answer so far of a sign that decoding gives anyway.

    Args:
      sign: "log_prob" of the tokens, "entropy" of the distributions they were drawn from (the lower
        the better), or their "self_certainty".

    Raises:
      UserError: another sign.
    """

    def __init__(self, sign: str = "log_prob"):
        if sign not in SIGNS:
            raise UserError(
                f"verifier.path: the sign {sign!r} is unknown; choose {', '.join(SIGNS)}"
            )
        self.sign = sign

    @property
    def spec(self) -> VerifierSpec:
        """Whether entropy and self-certainty are summed while decoding; it reads nothing else."""
        return VerifierSpec(confidence_stats=self.sign != "log_prob")

    def score_steps(
        self, tokens: Int[Array, "B N T"], count: Int[Array, "B N"], state: tuple[()],
        decode: DecodeState,
    ) -> tuple[Float[Array, "B N T"], tuple[()]]:  # fmt: skip
        """Returns the confidence at the end of the tokens, for all of them."""
        del count
        written = jnp.maximum(decode.cache.length, 1).astype(jnp.float32)
        scores = SIGNS[self.sign](decode, written)
        return jnp.broadcast_to(scores[..., None], tokens.shape), state
