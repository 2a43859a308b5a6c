"""Attention: plain causal over a sequence, and over [shared prompt] + [a candidate's own suffix].

Scores and softmax are float32 whatever the dtype of the weights and caches.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

# Keys a query must not see score this. Finite, so that a block without any visible key is harmless:
# what it adds is multiplied by exp(HIDDEN - visible) = 0 once the token's own key comes in.
HIDDEN = -1e30


@dataclasses.dataclass(frozen=True)
class Scoring:
    """How a layer turns q·k into a score."""

    scale: float
    softcap: float | None
    window: int | None

    def __call__(self, dots: Array, distance: Array, exists: Array | bool = True) -> Array:
        """Scores of `dots`, hidden where a key lies ahead, is too far back, or does not exist.

        Args:
          dots: q·k, any shape.
          distance: position of the query minus position of the key, broadcastable to `dots`.
          exists: whether the key is there at all, broadcastable to `dots`.
        """
        scores = dots * self.scale
        if self.softcap is not None:
            scores = self.softcap * jnp.tanh(scores / self.softcap)
        visible = (distance >= 0) & exists
        if self.window is not None:
            visible &= distance < self.window
        return jnp.where(visible, scores, HIDDEN)


def causal_attention(
    q: Float[Array, "B T K G h"],
    k: Float[Array, "B T K h"],
    v: Float[Array, "B T K h"],
    scoring: Scoring,
) -> Float[Array, "B T K G h"]:
    """Each token over itself and the tokens before it.

    Padding belongs on the right, where no real token looks.
    """
    at = jnp.arange(q.shape[1])
    dots = jnp.einsum("btkgh,bskh->bkgts", q, k, preferred_element_type=jnp.float32)
    scores = scoring(dots, (at[:, None] - at[None, :])[None, None, None])
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("bkgts,bskh->btkgh", weights, v)


def forked_attention(
    q: Float[Array, "B N T K G h"],
    prompt_k: Float[Array, "B K h P"],
    prompt_v: Float[Array, "B K P h"],
    suffix_k: Float[Array, "B N K h S"],
    suffix_v: Float[Array, "B N K S h"],
    prompt_length: Int[Array, " B"],
    length: Int[Array, "B N"],
    reach: Int[Array, ""],
    scoring: Scoring,
    block: int,
) -> Float[Array, "B N T K G h"]:
    """T new tokens of every candidate over its question's prompt and its own suffix.

    The N candidates of a question read one copy of the prompt's keys and values, as one matrix
    product; keys lie feature-major there, as that product reads them. The suffix is read in blocks
    with an online softmax, and just as many blocks as the longest live row needs: cost follows what
    is stored, not what is allocated.

    Args:
      prompt_length: prompt tokens stored; the rest of P is padding.
      length: suffix tokens stored before the T new ones, which lie from slot `length` on.
      reach: suffix slots that any live row needs, max(length) + T.
      block: slots read at a time; divides S.
    """
    T, P = q.shape[2], prompt_k.shape[3]
    slot_BNT = length[:, :, None] + jnp.arange(T)[None, None, :]
    at_BNT = prompt_length[:, None, None] + slot_BNT

    dots = jnp.einsum("bntkgh,bkhp->bkntgp", q, prompt_k, preferred_element_type=jnp.float32)
    key_P = jnp.arange(P)[None, None, None, :]
    distance = (at_BNT[..., None] - key_P)[:, None, :, :, None, :]
    exists = (key_P < prompt_length[:, None, None, None])[:, None, :, :, None, :]
    scores = scoring(dots, distance, exists)
    # [B, K, N, T, G, ·] -> [B, N, K, T, G, ·], the order of the suffix's products
    top = scores.max(axis=-1, keepdims=True)
    weights = jnp.exp(scores - top)
    mass = weights.sum(axis=-1, keepdims=True)
    mixed = jnp.einsum(
        "bkntgp,bkph->bkntgh",
        weights.astype(prompt_v.dtype),
        prompt_v,
        preferred_element_type=jnp.float32,
    )
    top, mass, mixed = (x.swapaxes(1, 2) for x in (top, mass, mixed))
    q_BNKTGh = q.transpose(0, 1, 3, 2, 4, 5)

    def read_block(i: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        top, mass, mixed = carry
        start = i * block
        k = lax.dynamic_slice_in_dim(suffix_k, start, block, axis=4)
        v = lax.dynamic_slice_in_dim(suffix_v, start, block, axis=3)
        dots = jnp.einsum("bnktgh,bnkhs->bnktgs", q_BNKTGh, k, preferred_element_type=jnp.float32)
        key = start + jnp.arange(block)[None, None, None, :]
        scores = scoring(dots, (slot_BNT[..., None] - key)[:, :, None, :, None, :])
        higher = jnp.maximum(top, scores.max(axis=-1, keepdims=True))
        weights, keep = jnp.exp(scores - higher), jnp.exp(top - higher)
        mass = mass * keep + weights.sum(axis=-1, keepdims=True)
        mixed = mixed * keep + jnp.einsum(
            "bnktgs,bnksh->bnktgh", weights.astype(v.dtype), v, preferred_element_type=jnp.float32
        )
        return higher, mass, mixed

    blocks = (reach + block - 1) // block
    top, mass, mixed = lax.fori_loop(0, blocks, read_block, (top, mass, mixed))
    return (mixed / mass).astype(q.dtype).transpose(0, 1, 3, 2, 4, 5)
