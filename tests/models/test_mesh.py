"""The rule table of the mesh."""

from __future__ import annotations

import dataclasses

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
from ttc_jax.sharding.mesh import copied, copies, make_mesh, part_of_copied, place, sharding

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


@pytest.mark.parametrize(
    ("kv_heads", "data", "model"),
    [(4, 8, 1), (4, 4, 2), (4, 2, 4), (4, 1, 8), (2, 2, 4), (2, 1, 8), (1, 2, 4), (1, 1, 8)],
)
def test_logits_agree_with_one_device(kv_heads: int, data: int, model: int) -> None:
    config, mesh = dataclasses.replace(CONFIG, kv_heads=kv_heads), make_mesh(data, model)
    whole = Transformer(config, rngs=nnx.Rngs(0))
    bias = whole.layers.blocks[0].attention.qkv_bias
    assert bias is not None
    bias[...] = jax.random.normal(jax.random.key(1), bias[...].shape)
    split = place(whole, mesh)
    qkv = split.layers.blocks[0].attention.qkv[...]
    heads = max(kv_heads, model)
    assert qkv.shape == (24, heads, 8 // heads + 2, 6)
    assert {x.data.shape[1] for x in qkv.addressable_shards} == {heads // model}
    tokens = jnp.arange(20).reshape(2, 10)
    run = jax.jit(lambda m, t: m.logits(m(t)))
    np.testing.assert_allclose(run(split, tokens), run(whole, tokens), atol=1e-5)


def test_heads_are_copied_with_their_queries() -> None:
    """Two key/value heads of four queries each, in four."""
    qkv = np.array([["q0", "q1", "q2", "q3", "k0", "v0"], ["q4", "q5", "q6", "q7", "k1", "v1"]])
    name = "layers.blocks.0.attention."
    assert copies(f"{name}qkv_bias", (2, 6, 3), make_mesh(2, 4)) == 2
    found = copied(f"{name}qkv_bias", qkv, 2).tolist()
    assert found == [
        ["q0", "q1", "k0", "v0"],
        ["q2", "q3", "k0", "v0"],
        ["q4", "q5", "k1", "v1"],
        ["q6", "q7", "k1", "v1"],
    ]
    assert copied(f"{name}out", qkv[:, :4], 4).tolist() == [[f"q{i}"] for i in range(8)]
    for start in range(4):
        wanted = (slice(start, start + 1), slice(0, 4))
        part = part_of_copied(f"{name}qkv_bias", qkv.shape, 2, wanted, lambda part: qkv[part])
        assert part.tolist() == found[start : start + 1]


def test_an_outline_is_laid_over_devices_as_the_model_is() -> None:
    mesh = make_mesh(1, 8)
    laid, split = parameters.named(place(parameters.outline(build), mesh)), place(build(), mesh)
    for name, x in parameters.named(split).items():
        assert (laid[name].shape, laid[name].sharding) == (x.shape, x.sharding)
    for name, x in parameters.named(place(split, mesh)).items():  # it stays
        np.testing.assert_array_equal(x, parameters.named(split)[name])


@pytest.mark.parametrize(("data", "model"), [(3, 2), (0, 8), (8, -1)])
def test_devices_that_are_not_there(data: int, model: int) -> None:
    with pytest.raises(UserError, match=f"data={data} × model={model} needs"):
        make_mesh(data, model)


def test_heads_that_do_not_divide() -> None:
    mesh = make_mesh(1, 8)
    with pytest.raises(UserError, match=r"model=8 does not divide the 4 key/value heads"):
        sharding("layers.blocks.0.attention.qkv", (24, 4, 4, 6), mesh)
    with pytest.raises(UserError, match=r"model=8 does not divide the 12 query heads"):
        copies("layers.blocks.0.attention.qkv", (24, 4, 5, 6), mesh)
    with pytest.raises(UserError, match=r"model=8 does not divide the 30 vocabulary entries"):
        sharding("embedding", (30, 24), mesh)
