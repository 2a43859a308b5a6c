"""What holds for every decoder: no look ahead, windows, cached reading equal to whole passes."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ttc_jax.models.cache import BLOCK, KVCache, PromptCache
from ttc_jax.models.config import ModelConfig, Rope
from ttc_jax.models.train_mode import TrainMode
from ttc_jax.models.transformer import Transformer, _product

EVERYTHING = ModelConfig(
    vocab_size=53, width=20, depth=3, heads=6, kv_heads=2, head_size=8, ffn_width=28, context=256,
    windows=(None, 5, BLOCK + 9), ropes=(Rope(100.0), Rope(), Rope(500.0, llama3_factor=4.0)),
    qkv_bias=True, out_bias=True, ffn_bias=True, qk_norm=True, post_norms=True, tied_head=False,
    activation="gelu_tanh", embedding_scale=20**0.5, attention_scale=0.4, attention_softcap=3.0,
    logit_softcap=4.0,
)  # fmt: skip


def build(config: ModelConfig) -> Transformer:
    """Random in every parameter: biases and norms start as zeros and ones, which hide mistakes."""
    graph, state = nnx.split(Transformer(config, rngs=nnx.Rngs(0)))
    leaves, tree = jax.tree.flatten(state)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noisy = [
        x + 0.3 * jax.random.normal(k, x.shape, x.dtype) for x, k in zip(leaves, keys, strict=True)
    ]
    return nnx.merge(graph, jax.tree.unflatten(tree, noisy))


def influence(config: ModelConfig, at: int, length: int) -> np.ndarray:
    """How much the input of each position moves the output of position `at`: [length]."""
    layers = build(config).layers
    x = jax.random.normal(jax.random.key(2), (1, length, config.width))
    weights = jax.random.normal(jax.random.key(3), (config.width,))

    @jax.jit
    @jax.grad
    def moved(x: jax.Array) -> jax.Array:
        return layers(x, PromptCache())[0][0, at] @ weights

    return np.asarray(jnp.abs(moved(x)).sum((0, 2)))


@pytest.mark.parametrize("at", [0, 7, 15])
def test_sees_all_before_and_nothing_ahead(at: int) -> None:
    found = influence(EVERYTHING, at, 16)
    assert (found[: at + 1] > 0).all()
    assert (found[at + 1 :] == 0).all()


def test_window_bounds_what_is_seen() -> None:
    """A token sees itself and the w - 1 before it, in each of L layers."""
    config = dataclasses.replace(EVERYTHING, windows=(3, 3, 3))
    found = influence(config, 14, 16)
    assert list(np.flatnonzero(found)) == list(range(14 - 3 * 2, 14 + 1))


@pytest.mark.parametrize("chunk", [1, 7])
def test_extending_equals_one_pass(chunk: int) -> None:
    """Prompts and chunks of different lengths, some chunks empty, over several cache blocks."""
    B, N, answer = 3, 2, 2 * BLOCK + 5
    model, rng = build(EVERYTHING), np.random.default_rng(chunk)
    prompt_length = np.array([1, 12, 30])
    sequences = rng.integers(0, 53, (B, N, 30 + answer), dtype=np.int32)
    sequences[:, 1, :30] = sequences[:, 0, :30]  # candidates share their prompt

    whole = jax.jit(lambda model, tokens: model(tokens))(model, sequences.reshape(B * N, -1))
    whole = np.asarray(whole).reshape(B, N, -1, 20)

    prompts = np.where(np.arange(30) < prompt_length[:, None], sequences[:, 0, :30], 0)
    hidden, cache = jax.jit(lambda model, tokens: model.prefill(tokens))(model, prompts)
    for b, length in enumerate(prompt_length):
        np.testing.assert_allclose(hidden[b, :length], whole[b, 0, :length], atol=2e-5)

    extend = jax.jit(lambda model, tokens, cache: model.extend(tokens, cache))
    state = KVCache.fork(cache, jnp.asarray(prompt_length), N, answer + chunk)
    fed = np.zeros((B, N), int)
    while (fed < answer).any():
        real = np.minimum(rng.integers(0, chunk + 1, (B, N)), answer - fed)
        state = dataclasses.replace(state, active=jnp.asarray(real > 0))
        tokens = rng.integers(0, 53, (B, N, chunk), dtype=np.int32)  # behind the real ones: noise
        for b, n in np.ndindex(B, N):
            at = prompt_length[b] + fed[b, n]
            tokens[b, n, : real[b, n]] = sequences[b, n, at : at + real[b, n]]
        hidden, state = extend(model, tokens, state)
        for b, n in np.ndindex(B, N):
            at = prompt_length[b] + fed[b, n]
            expected = whole[b, n, at : at + real[b, n]]
            np.testing.assert_allclose(hidden[b, n, : real[b, n]], expected, atol=2e-5)
        state = state.advance(jnp.asarray(real, jnp.int32))
        fed += real


@pytest.mark.parametrize("prefix", [1, 2, 9])
def test_reading_behind_a_prefix_equals_one_pass(prefix: int) -> None:
    """Fronts within a layer's window, and longer ones."""
    model, rng = build(EVERYTHING), np.random.default_rng(prefix)
    tokens = rng.integers(0, 53, (3, prefix + 12), dtype=np.int32)
    tokens[1:, :prefix] = tokens[0, :prefix]
    read = jax.jit(lambda model, tokens, prefix=None: model.prefill(tokens, prefix))
    hidden, whole = read(model, tokens)
    _, first = read(model, tokens[:1, :prefix])
    behind, cache = read(model, tokens[:, prefix:], first)
    np.testing.assert_allclose(behind, hidden[:, prefix:], atol=2e-5)
    assert jax.tree.structure(cache) == jax.tree.structure(whole)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5), cache, whole)


def test_logits_are_capped_and_float32() -> None:
    graph, state = nnx.split(build(EVERYTHING))
    narrow = nnx.merge(graph, jax.tree.map(lambda x: x.astype(jnp.bfloat16), state))
    run = jax.jit(lambda model, tokens: model.logits(100 * model(tokens)))
    logits = run(narrow, jnp.arange(6)[None])
    assert logits.dtype == jnp.float32
    assert float(jnp.abs(logits).max()) == pytest.approx(4.0, abs=0.1)
    assert float(jnp.abs(logits).max()) <= 4.0


TOKENS = jnp.arange(24).reshape(2, 12)
KEY = jax.random.key(0)


def test_rematerialising_changes_no_gradient_and_keeps_less() -> None:
    graph, state = nnx.split(build(EVERYTHING))

    def loss(state: nnx.State, mode: TrainMode) -> jax.Array:
        return nnx.merge(graph, state)(TOKENS, mode).sum()

    def kept(mode: TrainMode) -> int:
        """Numbers that the backward pass is handed, parameters included."""
        pullback = jax.eval_shape(lambda x: jax.vjp(lambda y: loss(y, mode), x)[1], state)
        return sum(x.size for x in jax.tree.leaves(pullback))

    parameters = sum(x.size for x in jax.tree.leaves(state))
    plain, again = (TrainMode(KEY, 0.2, remat) for remat in (False, True))
    assert kept(again) - parameters < 0.2 * (kept(plain) - parameters)
    gradient = jax.jit(jax.grad(loss))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        gradient(state, plain),
        gradient(state, again),
    )


def test_dropout_is_drawn_from_the_key_for_each_branch() -> None:
    model = build(EVERYTHING)
    plain = jax.jit(lambda: model(TOKENS))()
    run = jax.jit(lambda key: model(TOKENS, TrainMode(key, 0.3)))
    some, same, other = (np.asarray(run(key)) for key in (KEY, KEY, jax.random.key(1)))
    np.testing.assert_array_equal(some, same)
    for a, b in ((some, other), (some, plain)):
        assert (np.abs(a - b) > 1e-3).mean() > 0.9

    @jax.jit
    def draws() -> list[jax.Array]:
        drawn = []

        class Spy(TrainMode):
            def drop(self, x: jax.Array, place: int) -> jax.Array:
                drawn.append(super().drop(jnp.ones(400), place))
                return x

        model(TOKENS, Spy(KEY, 0.3))
        return drawn

    drawn = [np.asarray(x) for x in draws()]
    assert len({x.tobytes() for x in drawn}) == 2 * EVERYTHING.depth
    for values in drawn:
        assert {round(float(x), 4) for x in values} == {0.0, round(1 / 0.7, 4)}
        assert values.mean() == pytest.approx(1, abs=0.15)


def test_products_of_bfloat16_are_summed_in_float32_and_wide_on_a_cpu_alone() -> None:
    """A TPU's sums leave narrow, lest they travel between its chips at twice the bytes."""
    x = jax.random.normal(jax.random.key(0), (4, 640), jnp.bfloat16)
    matrix = jax.random.normal(jax.random.key(1), (640, 2, 3), jnp.bfloat16)
    product = jax.jit(_product)
    exact = np.tensordot(np.asarray(x, np.float64), np.asarray(matrix, np.float64), 1)
    narrow = np.asarray(product(x, matrix), np.float32)
    np.testing.assert_allclose(narrow, exact, rtol=2**-8, atol=1e-4)  # rounded once
    for platform, kind in (("cpu", "f32"), ("tpu", "bf16")):
        text = product.trace(x, matrix).lower(lowering_platforms=(platform,)).as_text()
        (line,) = (line for line in text.splitlines() if "dot_general" in line)
        assert line.endswith(f"tensor<4x2x3x{kind}>")
