"""Floating-point operations of a forward pass: exact counts of its matrix products.

A product of an [a, b] with a [b, c] matrix counts 2·a·b·c. Norms, rotations, softmax and drawing
are left out, as is usual.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ttc_jax.models.config import ModelConfig


class Cumulative:
    """FLOPs of a sequence's first n tokens, for arrays of n.

    What a token costs with a KV cache depends on nothing but its position, so that tokens at
    positions from a to b cost `flops(b) - flops(a)`.

    Args:
      flops: of the first n tokens.
    """

    def __init__(self, flops: Callable[[int], int]):
        self._flops, self._table = flops, np.zeros((0,), np.int64)

    def __call__(self, tokens: np.ndarray) -> np.ndarray:
        """As many counts as there are `tokens`."""
        known, most = len(self._table), int(tokens.max(initial=0))
        if most >= known:
            more = [self._flops(n) for n in range(known, max(2 * known, most + 1))]
            self._table = np.concatenate([self._table, np.array(more, np.int64)])
        return np.asarray(self._table[tokens])  # of one count NumPy makes no array


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
