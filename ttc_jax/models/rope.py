"""Rotary position embedding, with the two ways of stretching it that public checkpoints use."""

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
    one to the other in between.
    """
    exponents = np.arange(0, head_size, 2, dtype=np.float32) / np.float32(head_size)
    freqs = (1.0 / np.float32(rope.theta) ** exponents).astype(np.float32)
    freqs = freqs / np.float32(rope.linear_factor)
    if rope.llama3_factor == 1.0:
        return freqs
    low, high = rope.llama3_low_freq_factor, rope.llama3_high_freq_factor
    turns = rope.llama3_original_context * freqs / (2 * math.pi)
    smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return ((1 - smooth) * freqs / rope.llama3_factor + smooth * freqs).astype(np.float32)


def rotations(
    rope: Rope, head_size: int, span: int
) -> tuple[Float[Array, "span h2"], Float[Array, "span h2"]]:
    """Cosine and sine of the angles at positions 0, 1, …, span - 1, float32."""
    at = jnp.arange(span, dtype=jnp.float32)
    angles = at[:, None] * jnp.asarray(frequencies(rope, head_size))[None]
    return jnp.cos(angles), jnp.sin(angles)


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
