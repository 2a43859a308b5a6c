"""Floating-point operations of a forward pass: exact counts of its matrix products.

A product of an [a, b] with a [b, c] matrix counts 2·a·b·c. Norms, rotations, softmax and drawing
are left out, as is usual.
"""

from __future__ import annotations

from ttc_jax.models.config import ModelConfig


def layers_flops(config: ModelConfig, first: int, tokens: int) -> int:
    """FLOPs of the blocks for `tokens` tokens at positions first, first + 1, … with a KV cache."""
    attention = 4 * config.heads * config.head_size
    keys = sum(_keys_seen(first, tokens, window) for window in config.windows)
    return 2 * config.block_parameters * tokens + attention * keys


def generator_flops(config: ModelConfig, first: int, tokens: int, logits: int) -> int:
    """`layers_flops`, and the vocabulary scores of `logits` of the tokens."""
    return layers_flops(config, first, tokens) + 2 * config.head_parameters * logits


def _keys_seen(first: int, tokens: int, window: int | None) -> int:
    """Keys that tokens at positions first … first + tokens - 1 attend to, themselves included."""

    def up_to(position: int) -> int:  # sum of min(i, window) for i = 1 … position
        if window is None or position <= window:
            return position * (position + 1) // 2
        return window * (window + 1) // 2 + (position - window) * window

    return up_to(first + tokens) - up_to(first)
