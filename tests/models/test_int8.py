"""Int8 weights and caches: how far off they are, and that nothing but rounding is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import strategies as st

from tests.models.small import CONFIGS, random_tensors, write_folder
from tests.models.test_transformer import EVERYTHING, build
from ttc_jax.models import int8, parameters
from ttc_jax.models.cache import BLOCK, KVCache
from ttc_jax.models.checkpoints import save_model
from ttc_jax.models.int8 import Stored
from ttc_jax.models.transformer import Transformer
from ttc_jax.models.weights import load_generator
from ttc_jax.sharding.mesh import make_mesh, place

B, N, P, T = 3, 2, 9, BLOCK + 7
TOKENS = np.random.default_rng(0).integers(0, EVERYTHING.vocab_size, (B, N, T), dtype=np.int32)


def wide(values: jax.Array, scale: jax.Array) -> np.ndarray:
    return np.asarray(values, np.float64) * np.asarray(scale, np.float64)


@hypothesis.settings(max_examples=30)
@hypothesis.given(
    st.integers(0, 2**32 - 1), st.floats(-30, 30), st.sampled_from([jnp.float32, jnp.bfloat16])
)
def test_rounding_is_within_half_a_scale(seed: int, power: float, dtype) -> None:
    rng = np.random.default_rng(seed)
    x = jnp.asarray(rng.normal(size=(4, 6)) * 10.0**power * (rng.random((4, 1)) < 0.8), dtype)
    values, scale = int8.quantise(x, (1,))
    assert (values.dtype, scale.dtype, scale.shape) == (jnp.int8, dtype, (4, 1))
    assert int(jnp.abs(values).max(initial=0)) <= 127
    error = np.abs(wide(values, scale) - np.asarray(x, np.float64))
    assert (error <= 0.5001 * np.asarray(scale, np.float64)).all()
    exact = np.asarray(x, np.float64) == 0
    assert (np.asarray(values)[exact] == 0).all()


def floats(model: Transformer, like: Transformer) -> Transformer:
    """The model with the float weights that its int8 ones stand for."""
    arrays = parameters.named(model)
    found = {}
    for name, x in parameters.named(like).items():
        if (scale := arrays.get(f"{name}_scale")) is None:
            found[name] = arrays[name]
        else:
            axes = int8._inputs(name)
            found[name] = jnp.asarray(wide(arrays[name], jnp.expand_dims(scale, axes)), x.dtype)
    return parameters.filled(like, found)


@pytest.mark.parametrize("tied", [False, True])
def test_the_model_computes_with_what_its_weights_stand_for(tied: bool) -> None:
    config = dataclasses.replace(EVERYTHING, tied_head=tied)
    model = build(config)
    narrow = int8.quantised(nnx.clone(model))
    dtypes = {name: x.dtype for name, x in parameters.named(narrow).items()}
    matrices = {name for name, dtype in dtypes.items() if dtype == jnp.int8}
    assert len(matrices) == 4 * config.depth + (1 if tied else 2)
    assert {f"{name}_scale" for name in matrices} < dtypes.keys()
    assert dtypes.keys() - {f"{name}_scale" for name in matrices} == parameters.named(model).keys()
    run = jax.jit(lambda model, tokens: model.logits(model(tokens)))
    logits, exact, true = (
        run(x, TOKENS[:, 0, :20]) for x in (narrow, floats(narrow, model), model)
    )
    np.testing.assert_allclose(logits, exact, atol=2e-4)
    assert 0 < jnp.abs(logits - true).mean() < 0.05 * jnp.abs(true).mean()


def filled_cache(narrow: bool) -> tuple[Transformer, KVCache]:
    """Rows of different lengths."""
    model = build(EVERYTHING)
    model.layers.int8_cache = narrow

    @jax.jit
    def fill(model: Transformer) -> KVCache:
        _, prompt = model.prefill(jnp.asarray(TOKENS[:, 0, :P]))
        cache = KVCache.fork(prompt, jnp.array([1, 5, P]), N, 2 * BLOCK)
        _, cache = model.extend(jnp.asarray(TOKENS), cache)
        return cache.advance(jnp.array([[3, T], [T - 1, 0], [BLOCK, 1]]))

    return model, fill(model)


def as_floats(cache: KVCache) -> KVCache:
    def keys(x: Stored) -> Stored:
        assert x.scale is not None
        return Stored(jnp.asarray(wide(x.values, x.scale), jnp.float32))

    def values(x: Stored) -> Stored:
        assert x.scale is not None
        return keys(x._replace(scale=x.scale.swapaxes(-1, -2)))

    def both(x: Stored) -> Stored:
        assert x.scale is not None
        k, v = jnp.split(x.values, 2, -1)
        k_scale, v_scale = jnp.split(x.scale, 2, -2)
        parts = values(Stored(k, k_scale)), values(Stored(v, v_scale))
        return Stored(jnp.concatenate([part.values for part in parts], -1))

    return dataclasses.replace(
        cache,
        prompt_k=tuple(map(keys, cache.prompt_k)),
        prompt_v=tuple(map(values, cache.prompt_v)),
        suffix=tuple(map(both, cache.suffix)),
    )


def held(cache: KVCache) -> int:
    return sum(x.nbytes for x in jax.tree.leaves((cache.prompt_k, cache.prompt_v, cache.suffix)))


@pytest.fixture(scope="module")
def narrow() -> tuple[Transformer, KVCache]:
    return filled_cache(True)


def test_attention_is_over_what_the_cache_stands_for(narrow) -> None:
    model, cache = narrow
    extend = jax.jit(lambda model, tokens, cache: model.extend(tokens, cache))
    tokens = TOKENS[..., :3]
    hidden, after = extend(model, tokens, cache)
    exact, _ = extend(model, tokens, as_floats(cache))
    assert {x.values.dtype for x in after.suffix} == {jnp.dtype(jnp.int8)}
    # The three new tokens' own keys and values are exact there.
    np.testing.assert_allclose(hidden, exact, atol=0.03)
    true, whole = filled_cache(False)
    expected, _ = extend(true, tokens, whole)
    np.testing.assert_allclose(hidden, expected, atol=0.15)
    h = EVERYTHING.head_size
    assert held(cache) == held(whole) * (h + 4) // (4 * h)


@pytest.mark.parametrize("parents", [[[1, 1], [0, 1], [1, 0]], [[1, 0, 1], [0, 0, 0], [1, 1, 0]]])
def test_gathered_rows_keep_their_scales(narrow, parents) -> None:
    _, cache = narrow
    parents = jnp.asarray(parents)
    moved, expected = cache.gather(parents), as_floats(cache).gather(parents)
    found = as_floats(moved)
    stored = np.asarray(moved.stored)
    for one, other in zip(found.suffix, expected.suffix, strict=True):
        for b, n in np.ndindex(stored.shape):
            np.testing.assert_array_equal(
                one.values[b, n, :, : stored[b, n]], other.values[b, n, :, : stored[b, n]]
            )


def test_a_view_writes_and_gathers_in_place(narrow) -> None:
    """Of questions 2 and 0; the slot beyond them is dropped."""
    model, cache = narrow
    slots = jnp.array([0, 2, B])
    tokens = TOKENS[jnp.array([0, 2, 2])][..., :4]
    parents = jnp.array([[1, 0], [1, 1], [0, 0]])

    @jax.jit
    def within(model: Transformer, cache: KVCache) -> tuple[jax.Array, KVCache]:
        hidden, view = model.extend(tokens, cache.view(slots))
        return hidden, cache.merge(view.advance(jnp.full((3, N), 4)).gather(parents))

    hidden, merged = within(model, cache)
    whole, alone = jax.jit(lambda m, c: m.extend(TOKENS[..., :4], c))(model, cache)
    np.testing.assert_allclose(hidden[:2], whole[jnp.array([0, 2])], atol=1e-5)
    alone = alone.advance(jnp.array([[4] * N, [0] * N, [4] * N]))
    alone = alone.gather(jnp.array([[1, 0], [0, 1], [1, 1]]))
    np.testing.assert_array_equal(merged.length, alone.length)
    for one, other in zip(as_floats(merged).suffix, as_floats(alone).suffix, strict=True):
        for b, n in np.ndindex(B, N):
            end = int(alone.stored[b, n])
            np.testing.assert_allclose(
                one.values[b, n, :, :end], other.values[b, n, :, :end], atol=1e-6
            )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_are_quantised_as_they_are_loaded(tmp_path: Path, dtype: str) -> None:
    """From each kind of folder, and over a mesh with copied heads, the same."""
    fields = CONFIGS["qwen2"] | {"vocab_size": 132, "hidden_size": 112, "intermediate_size": 92}
    fields |= {"num_attention_heads": 8, "num_key_value_heads": 2, "num_hidden_layers": 1}
    theirs = write_folder(tmp_path / "hf", fields, random_tensors(fields))
    model = load_generator(theirs)
    save_model(tmp_path / "ours", model, tokenizer=None, metadata={})
    expected = parameters.named(int8.quantised(nnx.clone(model)))
    mesh = make_mesh(2, 4)
    if dtype == "bfloat16":
        expected = {n: x for n, x in expected.items() if x.dtype != jnp.int8}
    for folder in (theirs, tmp_path / "ours"):
        options: dict[str, Any] = {"dtype": dtype, "weights": "int8", "cache": "int8"}
        loaded = load_generator(folder, **options)
        assert loaded.layers.int8_cache
        found = parameters.named(loaded)
        for name, x in expected.items():
            tolerance = 0 if dtype == "float32" else 0.01
            np.testing.assert_allclose(
                np.asarray(found[name], np.float32), np.asarray(x, np.float32), rtol=tolerance
            )
        split = parameters.named(load_generator(folder, **options, mesh=mesh))
        for name, x in parameters.named(place(loaded, mesh)).items():
            assert split[name].sharding == x.sharding, name
            np.testing.assert_array_equal(split[name], x, name)
