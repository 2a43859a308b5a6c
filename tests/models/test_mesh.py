"""The rule table of the mesh."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

from ttc_jax.errors import UserError
from ttc_jax.models import parameters
from ttc_jax.models.config import ModelConfig
from ttc_jax.models.transformer import Transformer
from ttc_jax.parallel.mesh import make_mesh, sharding, shardings

CONFIG = ModelConfig(
    vocab_size=32, width=24, depth=1, heads=8, kv_heads=4, head_size=6, ffn_width=40, context=16,
    qkv_bias=True, out_bias=True, ffn_bias=True, qk_norm=True, post_norms=True, tied_head=False,
)  # fmt: skip


def build() -> Transformer:
    return Transformer(CONFIG, rngs=nnx.Rngs(0))


def test_rules() -> None:
    mesh = make_mesh(2, 4)
    found = {
        name.removeprefix("layers.blocks.0."): sharding(name, like.shape, mesh).spec
        for name, like in parameters.named(parameters.outline(build)).items()
    }
    split = {
        "embedding": P("model", None),
        "head": P(None, "model"),
        "attention.qkv": P(None, "model", None, None),
        "attention.qkv_bias": P("model", None, None),
        "attention.out": P("model", None, None, None),
        "ffn.gate_up": P(None, None, "model"),
        "ffn.gate_up_bias": P(None, "model"),
        "ffn.down": P("model", None),
    }
    assert {name: spec for name, spec in found.items() if spec != P()} == split
    for name, spec in split.items():  # a model within another
        path = name if name in ("embedding", "head") else f"layers.blocks.0.{name}"
        shape = parameters.named(parameters.outline(build))[path].shape
        assert sharding(f"trunk.{path}", shape, mesh).spec == spec


@pytest.mark.parametrize(("data", "model"), [(8, 1), (4, 2), (2, 4)])
def test_logits_agree_with_one_device(data: int, model: int) -> None:
    whole = build()
    graph, state = nnx.split(whole)
    split = nnx.merge(graph, jax.device_put(state, shardings(state, make_mesh(data, model))))
    tokens = jnp.arange(20).reshape(2, 10)
    run = jax.jit(lambda m, t: m.logits(m(t)))
    np.testing.assert_allclose(run(split, tokens), run(whole, tokens), atol=1e-5)


@pytest.mark.parametrize(("data", "model"), [(3, 2), (0, 8), (8, -1)])
def test_devices_that_are_not_there(data: int, model: int) -> None:
    with pytest.raises(UserError, match=f"data={data} × model={model} needs"):
        make_mesh(data, model)


def test_heads_that_do_not_divide() -> None:
    mesh = make_mesh(1, 8)
    with pytest.raises(UserError, match=r"model=8 does not divide the 4 key/value heads"):
        sharding("layers.blocks.0.attention.qkv", (24, 4, 4, 6), mesh)
    with pytest.raises(UserError, match=r"model=8 does not divide the 30 vocabulary entries"):
        sharding("embedding", (30, 24), mesh)
