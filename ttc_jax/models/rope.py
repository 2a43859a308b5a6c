"""Rotary position embedding, with the three ways of stretching it that public checkpoints use."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ttc_jax.models.config import Rope


def frequencies(rope: Rope, head_size: int) -> np.ndarray:
    """Angular frequency of each pair of features, radians a token, [h/2] float32.

    The Llama 3 rule leaves wavelengths shorter than original_context / high_freq_factor alone,
    divides those longer than original_context / low_freq_factor by `factor`, and goes smoothly from
    one to the other in between. YaRN's does so by the number of a pair instead; see `_yarn`.
    """
    exponents = np.arange(0, head_size, 2, dtype=np.float32) / np.float32(head_size)
    freqs = (1.0 / np.float32(rope.theta) ** exponents).astype(np.float32)
    if rope.yarn_factor != 1.0:
        return _yarn(rope, head_size, freqs)
    freqs = freqs / np.float32(rope.linear_factor)
    if rope.llama3_factor == 1.0:
        return freqs
    low, high = rope.llama3_low_freq_factor, rope.llama3_high_freq_factor
    turns = rope.llama3_original_context * freqs / (2 * math.pi)
    smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return ((1 - smooth) * freqs / rope.llama3_factor + smooth * freqs).astype(np.float32)


def _yarn(rope: Rope, head_size: int, freqs: np.ndarray) -> np.ndarray:
    """The frequencies of YaRN (arXiv:2309.00071), as `_compute_yarn_parameters` of transformers.

    Pairs up to the one that turns `beta_fast` times in the original context keep their frequency,
    those from the one that turns `beta_slow` times have it divided by the factor, and between the
    two it goes over linearly in the number of the pair.
    """

    def pair(turns: float) -> float:
        """Number of the pair that turns so often in the original context."""
        context = rope.yarn_original_context
        return head_size * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))

    first, last = pair(rope.yarn_beta_fast), pair(rope.yarn_beta_slow)
    if rope.yarn_truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, head_size - 1)
    if first == last:
        last += 0.001
    pairs = np.arange(head_size // 2, dtype=np.float32)
    kept = 1 - np.clip((pairs - np.float32(first)) / np.float32(last - first), 0, 1)
    return freqs / np.float32(rope.yarn_factor) * (1 - kept) + freqs * kept


def rotations(
    rope: Rope, head_size: int, span: int
) -> tuple[Float[Array, "span h2"], Float[Array, "span h2"]]:
    """Cosine and sine of the angles at positions 0, 1, …, span - 1, float32.

    Both are multiplied by the rope's attention factor.
    """
    at = jnp.arange(span, dtype=jnp.float32)
    angles = at[:, None] * jnp.asarray(frequencies(rope, head_size))[None]
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    if rope.attention_factor == 1.0:
        return cos, sin
    return cos * rope.attention_factor, sin * rope.attention_factor


def rotate(x: Array, cos: Array, sin: Array) -> Array:
    """Turns the feature pairs (i, i + h/2) of `x`.

    Args:
      x: [*B, T, *heads, h], any number of head axes.
      cos, sin: [*B, T, h/2], the tokens' entries of `rotations`.
    """
    axes = tuple(range(cos.ndim - 1, x.ndim - 1))
    cos, sin = jnp.expand_dims(cos, axes), jnp.expand_dims(sin, axes)
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)
