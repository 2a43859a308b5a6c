"""One decoder for Llama, Mistral, Qwen2, Qwen3, Gemma 2 and Gemma 3: what differs is configuration.

Query, key and value matrices are one parameter, laid out by key/value head, so that they are one
matrix product on one chip and still split by heads over a mesh; gate and up matrices likewise.
"""

from __future__ import annotations

import math
from typing import TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from ttc_jax.models.attention import Scoring
from ttc_jax.models.cache import Cache, PromptCache
from ttc_jax.models.config import ModelConfig, Rope
from ttc_jax.models.regime import Regime
from ttc_jax.models.rope import rotate, rotations

FLOAT32 = jnp.dtype(jnp.float32)
C = TypeVar("C", bound=Cache)


def matrix(rngs: nnx.Rngs, shape: tuple[int, ...], fan_in: int, dtype: jnp.dtype) -> nnx.Param:
    """A weight matrix drawn for its `fan_in`."""
    init = nnx.initializers.truncated_normal(stddev=fan_in**-0.5)
    return nnx.Param(init(rngs.params(), shape, dtype))


def _matmul(x: Array, weights: Array, axes: int) -> Array:
    """`x` times `weights` over the last `axes` axes of one and the first of the other.

    Said with one contracted axis: left to choose, XLA on a CPU orders several so that it has to
    transpose the weights at every step. The others stay apart: a mesh may split any of them.
    """
    rows, columns = x.shape[: x.ndim - axes], weights.shape[axes:]
    inner = math.prod(weights.shape[:axes])
    product = jnp.tensordot(x.reshape(-1, inner), weights.reshape(inner, *columns), 1)
    return product.reshape(*rows, *columns)


class RMSNorm(nnx.Module):
    """Root-mean-square norm over the last axis, computed in float32.

    Gemma's checkpoints store scale - 1; the loader adds the 1, so that there is one norm.
    """

    def __init__(self, size: int, eps: float, dtype: jnp.dtype):
        self.scale = nnx.Param(jnp.ones((size,), dtype))
        self.eps = eps

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        """Scales each vector to root-mean-square 1, then by `scale`."""
        wide = x.astype(jnp.float32)
        wide = wide * jax.lax.rsqrt(jnp.square(wide).mean(-1, keepdims=True) + self.eps)
        scale = self.scale[...].astype(jnp.float32)
        return (wide * jnp.expand_dims(scale, tuple(range(x.ndim - 1)))).astype(x.dtype)


class Attention(nnx.Module):
    """Grouped-query attention of one layer."""

    def __init__(self, config: ModelConfig, layer: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        D, K, G, h = config.width, config.kv_heads, config.group, config.head_size
        self.layer = layer
        self.scoring = Scoring(
            scale=config.attention_scale or h**-0.5,
            softcap=config.attention_softcap,
            window=config.windows[layer],
        )
        self.qkv = matrix(rngs, (D, K, G + 2, h), D, dtype)
        self.out = matrix(rngs, (K, G, h, D), config.heads * h, dtype)
        self.qkv_bias = nnx.Param(jnp.zeros((K, G + 2, h), dtype)) if config.qkv_bias else None
        self.out_bias = nnx.Param(jnp.zeros((D,), dtype)) if config.out_bias else None
        self.q_norm = RMSNorm(h, config.norm_eps, dtype) if config.qk_norm else None
        self.k_norm = RMSNorm(h, config.norm_eps, dtype) if config.qk_norm else None

    def __call__(
        self, x: Float[Array, "*B T D"], cos: Array, sin: Array, cache: C
    ) -> tuple[Float[Array, "*B T D"], C]:
        """Returns the output, and the cache with the tokens' keys and values."""
        mixed = _matmul(x, self.qkv[...], 1)
        if self.qkv_bias is not None:
            mixed += jnp.expand_dims(self.qkv_bias[...], tuple(range(x.ndim - 1)))
        q, k, v = mixed[..., :-2, :], mixed[..., -2, :], mixed[..., -1, :]
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        cache = cache.write(self.layer, k, v)
        y = cache.attend(self.layer, q, self.scoring)
        y = _matmul(y, self.out[...], 3)
        if self.out_bias is not None:
            y += jnp.expand_dims(self.out_bias[...], tuple(range(y.ndim - 1)))
        return y, cache


class FeedForward(nnx.Module):
    """Gated ffn of one layer."""

    def __init__(self, config: ModelConfig, dtype: jnp.dtype, rngs: nnx.Rngs):
        D, F = config.width, config.ffn_width
        self.activation = (
            jax.nn.silu if config.activation == "silu" else jax.nn.gelu
        )  # jax.nn.gelu is the tanh approximation
        self.gate_up = matrix(rngs, (D, 2, F), D, dtype)
        self.down = matrix(rngs, (F, D), F, dtype)
        self.gate_up_bias = nnx.Param(jnp.zeros((2, F), dtype)) if config.ffn_bias else None
        self.down_bias = nnx.Param(jnp.zeros((D,), dtype)) if config.ffn_bias else None

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        """down(activation(gate(x)) · up(x))."""
        both = _matmul(x, self.gate_up[...], 1)
        if self.gate_up_bias is not None:
            both += jnp.expand_dims(self.gate_up_bias[...], tuple(range(x.ndim - 1)))
        y = self.activation(both[..., 0, :]) * both[..., 1, :]
        y = _matmul(y, self.down[...], 1)
        if self.down_bias is not None:
            y += jnp.expand_dims(self.down_bias[...], tuple(range(y.ndim - 1)))
        return y


class Block(nnx.Module):
    """One layer: attention and ffn, each behind a norm and added to the residual stream."""

    def __init__(self, config: ModelConfig, layer: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        def norm() -> RMSNorm:
            return RMSNorm(config.width, config.norm_eps, dtype)

        self.attention_norm = norm()
        self.attention = Attention(config, layer, dtype, rngs)
        self.attention_post_norm = norm() if config.post_norms else None
        self.ffn_norm = norm()
        self.ffn = FeedForward(config, dtype, rngs)
        self.ffn_post_norm = norm() if config.post_norms else None

    def __call__(
        self,
        x: Float[Array, "*B T D"],
        cos: Array,
        sin: Array,
        cache: C,
        regime: Regime | None = None,
    ) -> tuple[Float[Array, "*B T D"], C]:
        """Returns as `Attention` does."""
        y, cache = self.attention(self.attention_norm(x), cos, sin, cache)
        y = y if self.attention_post_norm is None else self.attention_post_norm(y)
        x = x + (y if regime is None else regime.drop(y, 0))
        y = self.ffn(self.ffn_norm(x))
        y = y if self.ffn_post_norm is None else self.ffn_post_norm(y)
        x = x + (y if regime is None else regime.drop(y, 1))
        return x, cache


class Layers(nnx.Module):
    """The blocks between embedding and final norm, with the caching of their keys and values."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, dtype: jnp.dtype):
        self.config = config
        self.blocks = nnx.List(Block(config, i, dtype, rngs) for i in range(config.depth))

    def __call__(
        self, x: Float[Array, "*B T D"], cache: C, regime: Regime | None = None
    ) -> tuple[Float[Array, "*B T D"], C]:
        """Runs the next T tokens of every row, and puts their keys and values into the cache."""
        turns = self._rotations(cache.positions(x.shape[-2]), cache.span(x.shape[-2]))
        run = nnx.remat(Block.__call__) if regime and regime.remat else Block.__call__
        for i, (block, rope) in enumerate(zip(self.blocks, self.config.ropes, strict=True)):
            x, cache = run(block, x, *turns[rope], cache, regime and regime.at(i))
        return x, cache

    def _rotations(
        self, positions: Int[Array, "*B T"], span: int
    ) -> dict[Rope, tuple[Float[Array, "*B T h2"], Float[Array, "*B T h2"]]]:
        """Cosine and sine for each token, looked up in a table of all positions.

        The table does not change from step to step, so that XLA computes it before a decode loop.
        Sines and cosines of the tokens' own positions it would compute anew for every head.
        """
        head_size = self.config.head_size
        tables = {rope: rotations(rope, head_size, span) for rope in set(self.config.ropes)}
        return {rope: (cos[positions], sin[positions]) for rope, (cos, sin) in tables.items()}


class Transformer(nnx.Module):
    """A decoder-only language model.

    `model(tokens)` is teacher forcing; `model.prefill` also keeps keys and values; `model.extend`
    adds T tokens to every candidate of a `KVCache`. All three give hidden states; `model.logits`
    makes them scores over the vocabulary.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, dtype: jnp.dtype = FLOAT32):
        V, D = config.vocab_size, config.width
        self.config = config
        self.embedding = matrix(rngs, (V, D), D, dtype)
        self.layers = Layers(config, rngs=rngs, dtype=dtype)
        self.final_norm = RMSNorm(D, config.norm_eps, dtype)
        self.head = None if config.tied_head else matrix(rngs, (D, V), D, dtype)

    def __call__(
        self, tokens: Int[Array, "B T"], regime: Regime | None = None
    ) -> Float[Array, "B T D"]:
        """Hidden states of whole sequences, padded on the right."""
        x, _ = self.layers(self._embed(tokens), PromptCache(), regime)
        return self.final_norm(x)

    def prefill(self, tokens: Int[Array, "B P"]) -> tuple[Float[Array, "B P D"], PromptCache]:
        """Hidden states of prompts, padded on the right, and every layer's keys and values."""
        x, cache = self.layers(self._embed(tokens), PromptCache())
        return self.final_norm(x), cache

    def extend(self, tokens: Int[Array, "*B T"], cache: C) -> tuple[Float[Array, "*B T D"], C]:
        """Hidden states of T further tokens of every candidate, [B, N], or lane, [W].

        Their keys and values are written behind each row's `cache.length`, which the caller
        advances (`KVCache.advance`) by as many tokens as were real.
        """
        x, cache = self.layers(self._embed(tokens), cache)
        return self.final_norm(x), cache

    def logits(self, hidden: Float[Array, "*B D"]) -> Float[Array, "*B V"]:
        """Scores over the vocabulary, float32."""
        weights = self.embedding[...] if self.head is None else self.head[...]
        pattern = "...d,vd->...v" if self.head is None else "...d,dv->...v"
        logits = jnp.einsum(pattern, hidden, weights, preferred_element_type=jnp.float32)
        if (cap := self.config.logit_softcap) is not None:
            logits = cap * jnp.tanh(logits / cap)
        return logits

    def _embed(self, tokens: Int[Array, "*B"]) -> Float[Array, "*B D"]:
        x = self.embedding[...][tokens]
        return x * jnp.asarray(self.config.embedding_scale, x.dtype)
