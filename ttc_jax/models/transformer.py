"""One decoder for Llama, Mistral, Qwen2, Qwen3, Gemma 2 and Gemma 3: what differs is configuration.

Query, key and value matrices are one parameter, laid out by key/value head, so that they are one
matrix product on one chip and still split by heads over a mesh; gate and up matrices likewise.
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from ttc_jax.models.cache import Cache, PromptCache
from ttc_jax.models.config import ModelConfig, Rope
from ttc_jax.models.rope import rotate, rotations
from ttc_jax.models.scoring import Scoring
from ttc_jax.models.train_mode import TrainMode

FLOAT32 = jnp.dtype(jnp.float32)
C = TypeVar("C", bound=Cache)


def matrix(rngs: nnx.Rngs, shape: tuple[int, ...], fan_in: int, dtype: jnp.dtype) -> nnx.Param:
    """A weight matrix drawn for its `fan_in`."""
    return nnx.Param(_drawn(rngs.params(), shape, fan_in, dtype))


@partial(jax.jit, static_argnums=(1, 2, 3))
def _drawn(key: Array, shape: tuple[int, ...], fan_in: int, dtype: jnp.dtype) -> Array:
    """A truncated normal of variance 1 / fan_in; jitted so that layers are traced once a shape."""
    return nnx.initializers.truncated_normal(stddev=fan_in**-0.5)(key, shape, dtype)


def _linear(
    x: Array,
    weights: nnx.Param,
    scale: nnx.Param | None,
    bias: nnx.Param | None,
    axes: int = 1,
) -> Array:
    """`x` times `weights` over the last `axes` axes of one and the first of the other, plus `bias`.

    Said with one contracted axis: left to choose, XLA on a CPU orders several so that it has to
    transpose the weights at every step. The others stay apart: a mesh may split any of them.
    """
    rows, columns = x.shape[: x.ndim - axes], weights.shape[axes:]
    inner = math.prod(weights.shape[:axes])
    matrix = weights[...].reshape(inner, *columns).astype(x.dtype)
    y = _product(x.reshape(-1, inner), matrix).reshape(*rows, *columns)
    every_row = tuple(range(len(rows)))
    if scale is not None:
        y *= jnp.expand_dims(scale[...], every_row)
    if bias is not None:
        y += jnp.expand_dims(bias[...], every_row)
    return y


def _product(x: Float[Array, "R I"], matrix: Float[Array, "I ..."]) -> Float[Array, "R ..."]:
    """Matrix product, in the dtype of `x`.

    A CPU multiplies bfloat16 twice as fast where it may leave the sums in float32. A TPU gains
    nothing, and partial sums would travel between its chips at twice the bytes.
    """
    if x.dtype == FLOAT32:
        return jnp.tensordot(x, matrix, 1)

    def wide(x: Array, matrix: Array) -> Array:
        return jnp.tensordot(x, matrix, 1, preferred_element_type=jnp.float32).astype(x.dtype)

    return jax.lax.platform_dependent(
        x, matrix, cpu=wide, default=lambda x, matrix: jnp.tensordot(x, matrix, 1)
    )


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
        self.qkv_scale: nnx.Param | None = None
        self.out_scale: nnx.Param | None = None
        self.q_norm = RMSNorm(h, config.norm_eps, dtype) if config.qk_norm else None
        self.k_norm = RMSNorm(h, config.norm_eps, dtype) if config.qk_norm else None

    def __call__(
        self, x: Float[Array, "*B T D"], cos: Array, sin: Array, cache: C
    ) -> tuple[Float[Array, "*B T D"], C]:
        """Returns the output, and the cache with the tokens' keys and values."""
        mixed = _linear(x, self.qkv, self.qkv_scale, self.qkv_bias)
        q, k, v = mixed[..., :-2, :], mixed[..., -2, :], mixed[..., -1, :]
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        cache = cache.write(self.layer, k, v)
        y = cache.attend(self.layer, q, self.scoring)
        return _linear(y, self.out, self.out_scale, self.out_bias, axes=3), cache


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
        self.gate_up_scale: nnx.Param | None = None
        self.down_scale: nnx.Param | None = None

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        """down(activation(gate(x)) · up(x))."""
        both = _linear(x, self.gate_up, self.gate_up_scale, self.gate_up_bias)
        y = self.activation(both[..., 0, :]) * both[..., 1, :]
        return _linear(y, self.down, self.down_scale, self.down_bias)


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
        mode: TrainMode | None = None,
    ) -> tuple[Float[Array, "*B T D"], C]:
        """Returns as `Attention` does."""
        y, cache = self.attention(self.attention_norm(x), cos, sin, cache)
        y = y if self.attention_post_norm is None else self.attention_post_norm(y)
        x = x + (y if mode is None else mode.drop(y, 0))
        y = self.ffn(self.ffn_norm(x))
        y = y if self.ffn_post_norm is None else self.ffn_post_norm(y)
        x = x + (y if mode is None else mode.drop(y, 1))
        return x, cache


class Layers(nnx.Module):
    """The blocks between embedding and final norm, with the caching of their keys and values.

    Args:
      int8_cache: whether caches hold these in int8.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        rngs: nnx.Rngs,
        dtype: jnp.dtype,
        int8_cache: bool = False,
    ):
        self.config, self.int8_cache = config, int8_cache
        self.blocks = nnx.List(Block(config, i, dtype, rngs) for i in range(config.depth))

    def __call__(
        self, x: Float[Array, "*B T D"], cache: C, mode: TrainMode | None = None
    ) -> tuple[Float[Array, "*B T D"], C]:
        """Runs the next T tokens of every row, and puts their keys and values into the cache."""
        turns = self._rotations(cache.positions(x.shape[-2]), cache.span(x.shape[-2]))
        run = nnx.remat(Block.__call__) if mode and mode.remat else Block.__call__
        for i, (block, rope) in enumerate(zip(self.blocks, self.config.ropes, strict=True)):
            x, cache = run(block, x, *turns[rope], cache, mode and mode.at(i))
        return x, cache

    def read(
        self, x: Float[Array, "B P D"], prefix: PromptCache | None = None
    ) -> tuple[Float[Array, "B P D"], PromptCache]:
        """Runs prompts, padded on the right, and keeps their keys and values for a `KVCache`."""
        x, cache = self(x, PromptCache(int8=self.int8_cache, prefix=prefix))
        return x, dataclasses.replace(cache, prefix=None)

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

    def __init__(
        self,
        config: ModelConfig,
        *,
        rngs: nnx.Rngs,
        dtype: jnp.dtype = FLOAT32,
        int8_cache: bool = False,
    ):
        V, D = config.vocab_size, config.width
        self.config = config
        self.embedding = matrix(rngs, (V, D), D, dtype)
        self.layers = Layers(config, rngs=rngs, dtype=dtype, int8_cache=int8_cache)
        self.final_norm = RMSNorm(D, config.norm_eps, dtype)
        self.head = None if config.tied_head else matrix(rngs, (D, V), D, dtype)
        self.embedding_scale: nnx.Param | None = None
        self.head_scale: nnx.Param | None = None

    def __call__(
        self, tokens: Int[Array, "B T"], mode: TrainMode | None = None
    ) -> Float[Array, "B T D"]:
        """Hidden states of whole sequences, padded on the right."""
        x, _ = self.layers(self._embed(tokens), PromptCache(), mode)
        return self.final_norm(x)

    def prefill(
        self, tokens: Int[Array, "B P"], prefix: PromptCache | None = None
    ) -> tuple[Float[Array, "B P D"], PromptCache]:
        """Hidden states of prompts, padded on the right, and every layer's keys and values.

        Args:
          prefix: what stands before all of them, read earlier; the cache returned begins with it.
        """
        x, cache = self.layers.read(self._embed(tokens), prefix)
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
        if self.head is None:
            weights, scale, pattern = self.embedding, self.embedding_scale, "...d,vd->...v"
        else:
            weights, scale, pattern = self.head, self.head_scale, "...d,dv->...v"
        matrix = weights[...].astype(hidden.dtype)
        logits = jnp.einsum(pattern, hidden, matrix, preferred_element_type=jnp.float32)
        if scale is not None:
            every_row = tuple(range(hidden.ndim - 1))
            logits *= jnp.expand_dims(scale[...].astype(jnp.float32), every_row)
        if (cap := self.config.logit_softcap) is not None:
            logits = cap * jnp.tanh(logits / cap)
        return logits

    def _embed(self, tokens: Int[Array, "*B"]) -> Float[Array, "*B D"]:
        x = self.embedding[...][tokens]
        if self.embedding_scale is not None:
            scale = self.embedding_scale[...][tokens][..., None]
            x = x.astype(scale.dtype) * scale
        return x * jnp.asarray(self.config.embedding_scale, x.dtype)
