"""Attention block by block: the numbers of plain attention, and never a T × S array."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from jax.extend.core import Jaxpr

from tests.models.test_transformer import EVERYTHING, build
from ttc_jax.errors import UserError
from ttc_jax.models import attention
from ttc_jax.models.attention import causal_attention
from ttc_jax.models.blockwise import blockwise_attention
from ttc_jax.models.cache import KVCache
from ttc_jax.models.config import Rope
from ttc_jax.models.scoring import Scoring
from ttc_jax.models.splash import splash_attention
from ttc_jax.models.transformer import Transformer
from ttc_jax.sampling.programs import put
from ttc_jax.sharding.mesh import P, make_mesh

Attend = Callable[..., jax.Array]


def drawn(B: int, T: int, S: int, K: int, G: int, h: int) -> tuple[jax.Array, ...]:
    """Queries, keys, values, and weights of the output."""
    shapes = (B, T, K, G, h), (B, S, K, h), (B, S, K, h), (B, T, K, G, h)
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return tuple(jax.random.normal(k, shape) for k, shape in zip(keys, shapes, strict=True))


def results(attend: Attend, arrays: tuple[jax.Array, ...], scoring: Scoring) -> Any:
    """The output, and the gradients of queries, keys and values."""
    *inputs, weights = arrays

    def loss(*inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = attend(*inputs, scoring)
        return (y * weights).sum(), y

    (_, y), gradients = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(*inputs)
    return jax.device_get((y, *gradients))


def assert_alike(found: Any, expected: Any, atol: float = 1e-5) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), found, expected)


@hypothesis.settings(max_examples=6)
@hypothesis.given(
    T=st.integers(1, 24),
    before=st.integers(0, 20),
    block=st.sampled_from((3, 8, 64)),
    window=st.none() | st.integers(1, 12),
    softcap=st.sampled_from((None, 2.0)),
    heads=st.sampled_from(((1, 1), (2, 3))),
)
def test_output_and_gradients_are_those_of_plain_attention(
    T: int,
    before: int,
    block: int,
    window: int | None,
    softcap: float | None,
    heads: tuple[int, int],
) -> None:
    arrays, scoring = drawn(2, T, before + T, *heads, 4), Scoring(0.5, softcap, window)
    blockwise = functools.partial(blockwise_attention, block=block)
    assert_alike(results(blockwise, arrays, scoring), results(causal_attention, arrays, scoring))


def test_the_kernel_gives_the_same_over_a_mesh() -> None:
    """Rows and heads split, a window, a soft cap and a prefix; in Pallas' interpreter."""
    arrays, scoring = drawn(2, 100, 150, 2, 2, 64), Scoring(0.1, 2.0, 70)
    expected = results(causal_attention, arrays, scoring)
    placed = put(arrays, make_mesh(2, 2, jax.devices()[:4]), P("data", None, "model"))
    kernel = functools.partial(splash_attention, block=128, interpret=True)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        assert_alike(results(kernel, placed, scoring), expected)


def test_bfloat16_is_summed_in_float32() -> None:
    """A key's gradient, a sum over all blocks of queries, is near to the truth as a plain one's."""
    arrays, scoring = drawn(1, 256, 256, 1, 2, 8), Scoring(0.5, None, None)
    narrow = tuple(x.astype(jnp.bfloat16) for x in arrays)
    truth = results(causal_attention, tuple(x.astype(jnp.float32) for x in narrow), scoring)

    def errors(attend: Attend) -> list[float]:
        found = results(attend, narrow, scoring)
        return [
            float(np.square(np.asarray(a, np.float32) - b).mean())
            for a, b in zip(found, truth, strict=True)
        ]

    blockwise = errors(functools.partial(blockwise_attention, block=8))
    for error, plain in zip(blockwise, errors(causal_attention), strict=True):
        assert error < 2 * plain


@pytest.fixture
def all_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "MOST_SCORES", 0)
    monkeypatch.setattr(attention, "PROMPT_BLOCK", 4)


def answers(model: Transformer, prompts: np.ndarray, lengths: np.ndarray) -> Any:
    """Hidden states of prompts, and of three tokens behind them, for each of two candidates."""

    @jax.jit
    def run(model: Transformer) -> tuple[jax.Array, jax.Array]:
        hidden, cache = model.prefill(jnp.asarray(prompts))
        state = KVCache.fork(cache, jnp.asarray(lengths), 2, 3)
        tokens = jnp.arange(len(prompts) * 6).reshape(-1, 2, 3)
        return hidden, model.extend(tokens, state)[0]

    hidden, further = jax.device_get(run(model))
    return np.concatenate([hidden[i, :n] for i, n in enumerate(lengths)]), further


@pytest.mark.parametrize("int8", [False, True])
def test_prompts_read_in_blocks_give_the_same_answers(
    int8: bool, request: pytest.FixtureRequest
) -> None:
    """Prompts of one block to all, behind windows and soft caps, with caches of both kinds."""
    config = dataclasses.replace(EVERYTHING, depth=2, windows=(None, 5), ropes=(Rope(), Rope(9.0)))
    model = build(config)
    model.layers.int8_cache = int8
    lengths = np.array([1, 7, 12, 14])
    prompts = np.random.default_rng(0).integers(0, 53, (4, 14), dtype=np.int32)
    expected = answers(model, prompts, lengths)
    request.getfixturevalue("all_is_long")
    assert_alike(answers(model, prompts, lengths), expected, atol=2e-5)


def sizes(jaxpr: Jaxpr) -> Iterator[int]:
    """Of all arrays that a program computes, kernels' blocks included."""
    for equation in jaxpr.eqns:
        shapes = (getattr(x.aval, "shape", None) for x in equation.outvars)
        yield from (math.prod(shape) for shape in shapes if shape is not None)
        for value in jax.tree.leaves(tuple(equation.params.values())):
            inner = getattr(value, "jaxpr", value)
            if isinstance(inner, Jaxpr):
                yield from sizes(inner)


def test_no_array_is_of_queries_times_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    T, K, G, h = 8192, 1, 2, 64
    shapes = (1, T, K, G, h), (1, T, K, h), (1, T, K, h)
    arrays = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in shapes]

    def largest() -> int:
        def loss(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
            scoring = Scoring(0.1, 50.0, 4096)
            return causal_attention(q, k, v, scoring).astype(jnp.float32).sum()

        return max(sizes(jax.make_jaxpr(jax.grad(loss, (0, 1, 2)))(*arrays).jaxpr))

    # The kernel keeps 128 copies of each query's log-sum-exp.
    assert largest() <= T * K * G * 128
    monkeypatch.setenv("TTC_ATTENTION", "plain")
    assert largest() == T * T * K * G


def test_another_implementation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTC_ATTENTION", "flash")
    with pytest.raises(UserError, match="TTC_ATTENTION=flash: must be plain or blockwise"):
        attention.is_long(4096, 4096)
