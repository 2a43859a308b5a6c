"""Drawing one token a row: temperature, top-k, top-p, from one uniform number.

A Gumbel number per vocabulary entry costs a good part of the model on a CPU. One uniform number a
row and a two-level inverse of the cumulative distribution draw from the same distribution.
Truncation finds its threshold by bisection over the ordered bits of a float: nothing is sorted.
"""

from __future__ import annotations

import dataclasses
import math
from numbers import Integral, Real
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ttc_jax.errors import UserError
from ttc_jax.models.indexing import take_along

SHARES = 64  # devices that a vocabulary may be split over


@dataclasses.dataclass(frozen=True)
class SamplingParams:
    """How a token is drawn. Hashable: a static argument of `jax.jit`.

    `temperature` 0 takes the likeliest token. `top_k` 0 and `top_p` 1 leave the distribution whole;
    tokens that tie with the last one kept are kept too.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        for name, kind in (("temperature", Real), ("top_k", Integral), ("top_p", Real)):
            value = getattr(self, name)
            if not isinstance(value, kind) or isinstance(value, bool):
                what = "whole number" if kind is Integral else "number"
                raise UserError(f"sampling.{name} is {value!r:.80}; it must be a {what}")
        if self.temperature != 0 and not 1e-3 <= self.temperature < math.inf:
            raise UserError(
                f"sampling.temperature is {self.temperature}; it must be 0 (greedy) or "
                "at least 0.001"
            )
        if self.top_k < 0:
            raise UserError(f"sampling.top_k is {self.top_k}; it must be 0 (off) or more")
        if not 0 < self.top_p <= 1:
            raise UserError(f"sampling.top_p is {self.top_p}; it must lie in (0, 1], 1 being off")


class RowSampling(NamedTuple):
    """The fields of `SamplingParams` as data, one of each a row: other values compile nothing."""

    temperature: Float[Array, "*B"]
    top_k: Int[Array, "*B"]
    top_p: Float[Array, "*B"]


class Drawn(NamedTuple):
    """Tokens, and what `log_prob_of` has use for."""

    tokens: Int[Array, "*B"]
    top: Float[Array, "*B 1"]  # the highest score
    mass: Float[Array, "*B"] | None  # sum of exp(scores - top), where the draw has summed it


def draw(
    logits: Float[Array, "*B V"],
    uniform: Float[Array, "*B"],
    sampling: SamplingParams | RowSampling,
    greedy: Bool[Array, "*B"] | None = None,
) -> Drawn:
    """Draws a token of every row.

    Args:
      logits: the model's scores, float32.
      uniform: one number in [0, 1) a row; the same number gives the same token.
      sampling: temperature and truncation, of all rows or of each.
      greedy: rows that take the likeliest token instead.
    """
    top = logits.max(-1, keepdims=True)
    if isinstance(sampling, RowSampling):
        cold = sampling.temperature == 0
        scaled = (logits - top) / jnp.where(cold, 1.0, sampling.temperature)[..., None]
        tokens, _ = _invert(_truncate_rows(scaled, sampling), uniform)
        cold = cold if greedy is None else cold | greedy
        return Drawn(jnp.where(cold, logits.argmax(-1), tokens), top, None)
    if sampling.temperature == 0:
        return Drawn(logits.argmax(-1), top, None)
    scaled = (logits - top) / sampling.temperature
    tokens, mass = _invert(_truncate(scaled, sampling), uniform)
    if greedy is not None:
        tokens = jnp.where(greedy, logits.argmax(-1), tokens)
    return Drawn(tokens, top, mass if sampling == SamplingParams() else None)


def log_prob_of(logits: Float[Array, "*B V"], drawn: Drawn) -> Float[Array, "*B"]:
    """Returns the tokens' log-probability in nats under the model itself.

    That is at temperature 1, untruncated, which is what scores answers without a verifier.
    """
    tokens, top, mass = drawn
    chosen = take_along(logits, tokens[..., None], -1)
    if mass is None:
        mass = jnp.exp(logits - top).sum(-1)
    return (chosen - top)[..., 0] - jnp.log(mass)


def token_confidence(logits: Float[Array, "*B V"]) -> tuple[Float[Array, "*B"], Float[Array, "*B"]]:
    """Returns how unsure and how sure the model is of a token: scores without a verifier.

    Returns:
      The entropy of the distribution, and its self-certainty, KL(uniform || distribution) (Kang et
      al., 2025), both in nats.
    """
    log_probs = jax.nn.log_softmax(logits, -1)
    entropy = -(jnp.exp(log_probs) * log_probs).sum(-1)
    return entropy, -log_probs.mean(-1) - math.log(logits.shape[-1])


def _invert(
    scores: Float[Array, "*B V"], uniform: Float[Array, "*B"]
) -> tuple[Int[Array, "*B"], Float[Array, "*B"]]:
    """Returns the token at which the cumulative exp(scores) passes `uniform`, and the total mass.

    `scores` are at most 0, so that their exponentials cannot overflow.
    """
    *rows, V = scores.shape
    # Parts do not straddle what the devices of a mesh hold of V: to pad across them is an exchange
    # in the loop, which on a CPU all devices would wait for, those of other questions too.
    shares = math.gcd(V, SHARES)
    parts_each = -(-(1 << ((V - 1).bit_length() + 1) // 2) // shares)  # as many as one has tokens
    width = -(-V // shares // parts_each)
    padding = [(0, 0)] * (len(rows) + 1) + [(0, width * parts_each - V // shares)]
    split = jnp.pad(scores.reshape(*rows, shares, V // shares), padding, constant_values=-jnp.inf)
    parts = split.reshape(*rows, shares * parts_each, width)
    mass = jnp.exp(parts).sum(-1)
    total = mass.sum(-1)
    target = uniform * total
    part, before = _first_above(mass, target)
    inside = jnp.exp(take_along(parts, part[..., None, None], -2)[..., 0, :])
    token, _ = _first_above(inside, target - before)
    share, part = part // parts_each, part % parts_each
    return share * (V // shares) + part * width + token, total


def _first_above(
    mass: Float[Array, "*B M"], target: Float[Array, "*B"]
) -> tuple[Int[Array, "*B"], Float[Array, "*B"]]:
    """Returns the first index whose cumulative mass exceeds `target`, and the mass before it.

    Rounding can leave `target` at or above the total: then the last index with any mass is meant,
    never one with none.
    """
    total = jnp.cumsum(mass, -1)
    at = jnp.broadcast_to(jnp.arange(mass.shape[-1]), mass.shape)
    last = jnp.where(mass > 0, at, 0).max(-1, keepdims=True)
    index = jnp.where((total > target[..., None]) & (mass > 0), at, last).min(-1)
    before = take_along(total - mass, index[..., None], -1)[..., 0]
    return index, before


def _truncate(scores: Float[Array, "*B V"], sampling: SamplingParams) -> Float[Array, "*B V"]:
    """Returns scores, -inf where top-k, or top-p of what that leaves, leaves a token out."""
    if 0 < sampling.top_k < scores.shape[-1]:
        kept = jnp.ones_like(scores)
        scores = jnp.where(_reaches(scores, kept, float(sampling.top_k)), scores, -jnp.inf)
    if sampling.top_p < 1:
        mass = jnp.exp(scores)
        goal = sampling.top_p * mass.sum(-1)
        scores = jnp.where(_reaches(scores, mass, goal), scores, -jnp.inf)
    return scores


def _truncate_rows(scores: Float[Array, "*B V"], sampling: RowSampling) -> Float[Array, "*B V"]:
    """Returns the same as `_truncate`, row by row.

    Where no row is truncated nothing is computed; and no row depends on whether another one is.
    """
    top_k, top_p = sampling.top_k, sampling.top_p
    counted, nucleus = (top_k > 0) & (top_k < scores.shape[-1]), top_p < 1

    def likeliest(scores: Array) -> Array:
        kept = _reaches(scores, jnp.ones_like(scores), top_k.astype(scores.dtype))
        return jnp.where(kept | ~counted[..., None], scores, -jnp.inf)

    def most_likely(scores: Array) -> Array:
        mass = jnp.exp(scores)
        kept = _reaches(scores, mass, top_p * mass.sum(-1))
        return jnp.where(kept | ~nucleus[..., None], scores, -jnp.inf)

    scores = lax.cond(counted.any(), likeliest, _same, scores)
    return lax.cond(nucleus.any(), most_likely, _same, scores)


def _same(scores: Array) -> Array:
    return scores


def _reaches(
    scores: Float[Array, "*B V"], weight: Float[Array, "*B V"], goal: Array | float
) -> Array:
    """Returns whether each score is among the highest whose weights together reach `goal`.

    The threshold is the highest number t with sum(weight where score >= t) >= goal, found bit by
    bit in an integer order that is the order of floats.
    """
    bits = lax.bitcast_convert_type(scores, jnp.int32)
    order = jnp.where(bits < 0, bits ^ jnp.int32(0x7FFFFFFF), bits)

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds  # low reaches the goal, high does not
        middle = (low & high) + ((low ^ high) >> 1)
        enough = jnp.where(order >= middle[..., None], weight, 0.0).sum(-1) >= goal
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    low = jnp.full(scores.shape[:-1], jnp.iinfo(jnp.int32).min, jnp.int32)
    high = order.max(-1) + 1
    low, _ = lax.fori_loop(0, 32, halve, (low, high))
    return order >= low[..., None]
