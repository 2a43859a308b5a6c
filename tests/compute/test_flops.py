"""FLOPs against a count by hand and against the programs themselves."""

import dataclasses
import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax.extend.core import Jaxpr

from tests.compute.flops_by_hand import generator_token, layers_token, prm_token
from tests.sampling.oracle import TINY
from ttc_jax.compute.flops import generator_flops, layers_flops
from ttc_jax.models.config import ModelConfig
from ttc_jax.models.parameters import outline
from ttc_jax.models.transformer import Transformer
from ttc_jax.verifiers.prm import ProcessRewardModel
from ttc_jax.verifiers.prm_config import PRMConfig

MODEL = dataclasses.replace(TINY, depth=3, windows=(None, 6, 1), ropes=())
PRM = PRMConfig(MODEL, dataclasses.replace(TINY, width=10, depth=1, windows=(4,), ropes=()))


@pytest.mark.parametrize(("first", "tokens"), [(0, 0), (0, 1), (0, 20), (3, 2), (5, 1), (17, 9)])
def test_as_counted_by_hand(first: int, tokens: int):
    positions = range(first, first + tokens)
    assert layers_flops(MODEL, first, tokens) == sum(layers_token(MODEL, p) for p in positions)
    assert PRM.flops(first, tokens) == sum(prm_token(PRM, p) for p in positions)
    for logits in (0, tokens):
        expected = sum(generator_token(MODEL, p, scored=logits > 0) for p in positions)
        assert generator_flops(MODEL, first, tokens, logits=logits) == expected


def equations(jaxpr: Jaxpr) -> Iterator:
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                if hasattr(inner := getattr(inner, "jaxpr", inner), "eqns"):
                    yield from equations(inner)


def matrix_products(module: nnx.Module, function: Callable, tokens: jax.Array) -> int:
    """FLOPs of all dot products of a program without loops."""
    graph, state = nnx.split(module)
    program = jax.make_jaxpr(lambda state, x: function(nnx.merge(graph, state), x))
    total = 0
    for equation in equations(program(state, tokens).jaxpr):
        assert equation.primitive.name not in ("while", "scan")
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            inner = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total += 2 * inner * math.prod(equation.outvars[0].aval.shape)
    return total


def unseen(config: ModelConfig, tokens: int) -> int:
    """Products of teacher forcing, [T, T], that no token asked for, and a KV cache spares."""
    pairs = [
        (query, key)
        for window in config.windows
        for query in range(tokens)
        for key in range(tokens)
        if key > query or (window and query - key >= window)
    ]
    return 4 * config.heads * config.head_size * len(pairs)


def test_as_the_programs_do():
    T = 13
    tokens = jnp.zeros((1, T), jnp.int32)
    model = outline(lambda: Transformer(MODEL, rngs=nnx.Rngs(0)))
    found = matrix_products(model, lambda model, x: model.logits(model(x)), tokens)
    assert found == generator_flops(MODEL, 0, T, logits=T) + unseen(MODEL, T)
    one = jnp.ones(1, jnp.int32)
    for config in (PRM, PRMConfig(MODEL)):
        prm = outline(lambda: ProcessRewardModel(config, rngs=nnx.Rngs(0)))  # noqa: B023
        found = matrix_products(prm, lambda prm, x: prm(x, one), tokens)
        above = unseen(config.layers, T) if config.layers else 0
        assert found == config.flops(0, T) + unseen(MODEL, T) + above
