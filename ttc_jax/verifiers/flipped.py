"""A verifier that errs: another one's scores, some of them turned into their opposite.

The paper flips a fifth of a PRM's scores and asks whether search still pays (ICLR version).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32

from ttc_jax.errors import UserError
from ttc_jax.sampling.decode import DecodeState
from ttc_jax.verifiers.verifier import Verifier, VerifierWrapper


class FlippedState(NamedTuple):
    """The other verifier's state, and a number for the text that was read."""

    inner: Any  # the other verifier's state
    prompt: UInt32[Array, "B N"]  # a number for each prompt
    text: UInt32[Array, "B N"]  # and for what was read since


class Flipped(VerifierWrapper):
    """Scores p of a share of all steps become 1 - p.

    Which ones, the text and the candidate decide. So the same step of the same candidate is judged
    alike whenever it is read, while two candidates that wrote the same text err apart: by the text
    alone, all that wrote the only right answer to a question would err together.

    Args:
      verifier: whose scores; one that reads tokens.
      share: of the scores that are flipped, 0 to 1.

    Raises:
      UserError: a share out of its range, or a verifier that reads no tokens.
    """

    def __init__(self, verifier: Verifier, share: float):
        if not 0 <= share <= 1:
            raise UserError(f"verifier.path: the share of flipped scores is {share:g}, not 0 to 1")
        if not verifier.spec.reads_tokens:
            raise UserError("verifier.path: only scores of a PRM or an ORM can be flipped")
        super().__init__(verifier)
        self.share = share

    def init(
        self, prompts: Int[Array, "B P"], lengths: Int[Array, " B"], candidates: int, capacity: int
    ) -> FlippedState:
        """Returns its state and a number of each prompt."""
        inner = self.verifier.init(prompts, lengths, candidates, capacity)
        seen = jnp.arange(prompts.shape[1])[None] < lengths[:, None] - 1
        none = jnp.zeros(len(prompts), jnp.uint32)
        found = jax.lax.scan(_after, none, (prompts.T, seen.T))[0]
        numbers = jnp.broadcast_to(found[:, None], (len(prompts), candidates))
        return FlippedState(inner, numbers, numbers)

    def score_steps(
        self, tokens: Int[Array, "B N T"], count: Int[Array, "B N"], state: FlippedState,
        decode: DecodeState,
    ) -> tuple[Float[Array, "B N T"], FlippedState]:  # fmt: skip
        """Returns the other verifier's scores, some of them flipped."""
        scores, inner = self.verifier.score_steps(tokens, count, state.inner, decode)
        text, numbers = _number(tokens, count, state.text)
        candidates = _mixed(jnp.arange(1, numbers.shape[1] + 1, dtype=jnp.uint32))[None, :, None]
        # The upper 24 bits are a uniform number that float32 holds exactly.
        uniform = (_mixed(numbers ^ candidates) >> 8).astype(jnp.float32) * 2.0**-24
        flips = uniform < self.share
        return jnp.where(flips, 1 - scores, scores), FlippedState(inner, state.prompt, text)

    def reset(
        self, context: Int[Array, "B N C"], count: Int[Array, "B N"], state: FlippedState
    ) -> FlippedState:
        """Returns its state behind the prompt and a context."""
        inner = self.verifier.reset(context, count, state.inner)
        return FlippedState(inner, state.prompt, _number(context, count, state.prompt)[0])


def _number(
    tokens: Int[Array, "B N T"], real: Int[Array, "B N"], before: UInt32[Array, "B N"]
) -> tuple[UInt32[Array, "B N"], UInt32[Array, "B N T"]]:
    """Returns a number for the text up to the first `real` tokens, and up to each token."""
    is_real = jnp.arange(tokens.shape[-1])[None, None] < real[..., None]
    inputs = (jnp.moveaxis(tokens, -1, 0), jnp.moveaxis(is_real, -1, 0))
    last, numbers = jax.lax.scan(_after, before, inputs)
    return last, jnp.moveaxis(numbers, 0, -1)


def _after(number: Array, token: tuple[Array, Array]) -> tuple[Array, Array]:
    """Returns the number of a text that goes on with a token, if that is a real one."""
    value, is_real = token
    number = jnp.where(is_real, _mixed(number ^ (value.astype(jnp.uint32) + 1)), number)
    return number, number


def _mixed(x: UInt32[Array, "*B"]) -> UInt32[Array, "*B"]:
    """Mixes bits: about half of them change when one does (murmur3's finalizer, a bijection)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
