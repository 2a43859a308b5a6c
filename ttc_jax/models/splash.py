"""Causal attention over long sequences by JAX's own TPU kernel, "splash" attention.

It runs on TPUs alone, and in an interpreter, which is for tests.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec
from jaxtyping import Array, Float

from ttc_jax.models.blockwise import Padded
from ttc_jax.models.scoring import Scoring

HEAD_SIZES = (64, 128, 256)  # that libtpu is known to compile it for
BLOCK = 512  # queries, and keys, that lie in a core's memory at a time; a multiple of 128


def supports(q: Array) -> bool:
    """Whether the kernel takes heads of this size and numbers of this dtype."""
    return q.shape[-1] in HEAD_SIZES and q.dtype in (jnp.float32, jnp.bfloat16)


def splash_attention(
    q: Float[Array, "B T K G h"],
    k: Float[Array, "B S K h"],
    v: Float[Array, "B S K h"],
    scoring: Scoring,
    *,
    block: int = BLOCK,
    interpret: bool = False,
) -> Float[Array, "B T K G h"]:
    """Returns what `causal_attention` does, with memory for a block's scores alone.

    The compiler cannot split a kernel over a mesh, so that it is done here: rows over `data`, heads
    over `model`, as their arrays lie.
    """

    def on_device(q: Array, k: Array, v: Array) -> Array:
        return _on_device(q, k, v, scoring, block, interpret)

    mesh = jax.typeof(q).sharding.mesh
    axes = {
        name: mesh.shape[name]
        for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True)
        if kind == AxisType.Auto
    }
    if not axes:
        return on_device(q, k, v)

    def over(axis: str, size: int) -> str | None:
        return axis if axis in axes and size % axes[axis] == 0 else None

    part = PartitionSpec(over("data", q.shape[0]), None, over("model", q.shape[2]))
    split = jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(part, part, part),
        out_specs=part,
        axis_names=set(axes),
        check_vma=False,
    )
    return split(q, k, v)


def _on_device(
    q: Array, k: Array, v: Array, scoring: Scoring, block: int, interpret: bool
) -> Array:
    # Imported here: it takes a second, and most programs have no use for it.
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_kernel as kernels,
    )
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_mask as masks,
    )

    (B, T, K, G, h), dtype = q.shape, q.dtype
    # The kernel knows no scale.
    q = (q.astype(jnp.float32) * scoring.scale).astype(dtype)
    padded = Padded.of(q, k, v, block)
    shape = padded.q.shape[1], padded.k.shape[1]
    if scoring.window is None:
        mask = masks.CausalMask(shape, padded.ahead)
    else:
        mask = masks.LocalMask(shape, (scoring.window - 1, 0), padded.ahead)
    kernel = kernels.make_splash_mha(
        masks.MultiHeadMask([mask] * (K * G)),
        block_sizes=kernels.BlockSizes(
            block_q=block,
            block_kv=block,
            block_q_dkv=block,
            block_kv_dkv=block,
            block_q_dq=block,
            block_kv_dq=block,
        ),
        attn_logits_soft_cap=scoring.softcap,
        head_shards=1,
        q_seq_shards=1,
        interpret=interpret,
    )
    queries = padded.q.transpose(0, 2, 3, 1, 4).reshape(B, K * G, shape[0], h)
    keys, values = (x.transpose(0, 2, 1, 3) for x in (padded.k, padded.v))

    def of_row(*arrays: Array) -> Array:
        out = kernel(*arrays)
        assert isinstance(out, jax.Array), "the kernel gives residuals only where asked to"
        return out

    out = jax.vmap(of_row)(queries, keys, values)
    return out.reshape(B, K, G, shape[0], h).transpose(0, 3, 1, 2, 4)[:, :T]
