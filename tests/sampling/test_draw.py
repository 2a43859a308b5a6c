"""Drawing, against a sorting NumPy oracle and an even grid of uniforms."""

from functools import partial

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax.sharding import NamedSharding, PartitionSpec

from tests.sampling.oracle import keep
from ttc_jax.errors import UserError
from ttc_jax.sampling.draw import SamplingParams, _truncate, draw, log_prob_of
from ttc_jax.sampling.keys import candidate_keys, uniforms
from ttc_jax.sharding.mesh import make_mesh

LARGEST = 1 - 2**-24  # the largest float32 below 1
VOCABULARIES = (1, 2, 37, 256, 257, 1000, 4097)


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return weights / weights.sum()


def draws(
    logits: np.ndarray, uniform: np.ndarray, sampling: SamplingParams
) -> tuple[np.ndarray, ...]:
    """Tokens and log-probabilities of one distribution for many uniforms."""
    rows = np.broadcast_to(logits, (len(uniform), len(logits)))

    @jax.jit
    def run(logits, uniform):
        drawn = draw(logits, uniform, sampling)
        return drawn.tokens, log_prob_of(logits, drawn)

    return jax.device_get(run(jnp.asarray(rows), jnp.asarray(uniform, jnp.float32)))


def grid(points: int) -> np.ndarray:
    return (np.arange(points) + 0.5) / points


def logits_of(V: int, holes: float = 0.0) -> np.ndarray:
    """Peaked random logits, a share of them -inf."""
    rng = np.random.default_rng(V)
    logits = rng.normal(scale=2.0, size=V).astype(np.float32)
    logits[rng.random(V) < holes] = -np.inf
    return logits


@pytest.mark.parametrize("V", VOCABULARIES)
def test_an_even_grid_of_uniforms_gives_every_token_its_share(V: int):
    logits, points = logits_of(V), 2048
    tokens, _ = draws(logits, grid(points), SamplingParams())
    share = np.bincount(tokens, minlength=V) / points
    assert len(share) == V
    assert np.abs(share - softmax(logits)).max() <= 2 / points


@pytest.mark.parametrize("temperature", [0.25, 3.0])
def test_temperature_divides_the_logits(temperature: float):
    logits, points = logits_of(300), 2048
    tokens, _ = draws(logits, grid(points), SamplingParams(temperature))
    share = np.bincount(tokens, minlength=300) / points
    assert np.abs(share - softmax(logits / temperature)).max() <= 2 / points


def test_truncated_shares_are_renormalised():
    logits, points, sampling = logits_of(300), 2048, SamplingParams(0.8, top_k=40, top_p=0.7)
    tokens, _ = draws(logits, grid(points), sampling)
    kept = np.where(keep(logits / 0.8, sampling)[0], logits / 0.8, -np.inf)
    share = np.bincount(tokens, minlength=300) / points
    assert np.abs(share - softmax(kept)).max() <= 2 / points


def test_temperature_zero_takes_the_first_of_the_likeliest():
    logits = np.array([0.0, 3.0, -np.inf, 3.0, 1.0], np.float32)
    tokens, _ = draws(logits, grid(5), SamplingParams(temperature=0, top_k=1, top_p=0.1))
    assert tokens.tolist() == [1] * 5


DRAWINGS = (
    SamplingParams(top_k=1),
    SamplingParams(top_k=3),
    SamplingParams(top_k=100),
    SamplingParams(top_p=0.03),
    SamplingParams(top_p=0.55),
    SamplingParams(top_p=0.9),
    SamplingParams(top_k=4, top_p=0.6),
)
TRUNCATE = {sampling: jax.jit(partial(_truncate, sampling=sampling)) for sampling in DRAWINGS}


@hypothesis.settings(max_examples=40)
@hypothesis.given(
    arrays(
        np.float32,
        (3, 11),
        elements=st.sampled_from([-np.inf, -30.0, -2.0, -1.5, -1.0, 0.0, 0.5, 2.0, 2.25]),
    ),
    st.sampled_from(DRAWINGS),
)
def test_truncation_keeps_what_sorting_keeps(logits: np.ndarray, sampling: SamplingParams):
    logits[:, 5] = 1.0  # some token is possible
    scores = logits - logits.max(-1, keepdims=True)
    left = np.asarray(TRUNCATE[sampling](jnp.asarray(scores)))
    for row, result in zip(scores, left, strict=True):
        kept, clear = keep(row, sampling)
        hypothesis.assume(clear)
        assert np.array_equal(np.isfinite(result), kept & np.isfinite(row))
        assert np.array_equal(result[np.isfinite(result)], row[np.isfinite(result)])


@pytest.mark.parametrize(
    "sampling", [SamplingParams(top_k=2), SamplingParams(top_p=0.5), SamplingParams(top_p=0.26)]
)
def test_tokens_that_tie_with_the_last_one_kept_are_kept(sampling: SamplingParams):
    left = _truncate(jnp.array([-50.0, 0.0, 0.0, -50.0, 0.0, 0.0]), sampling)
    assert np.isfinite(left).tolist() == [False, True, True, False, True, True]


@pytest.mark.parametrize(
    "sampling", [SamplingParams(), SamplingParams(top_p=0.5)], ids=["whole", "top_p"]
)
def test_impossible_tokens_are_never_drawn(sampling: SamplingParams):
    """Not at the ends of [0, 1), nor where the cumulative distribution rounds."""
    for V in VOCABULARIES[1:]:
        logits = logits_of(V, holes=0.7)
        logits[V // 2] = 1.0
        kept, _ = keep(logits, sampling)
        steps = np.cumsum(softmax(np.where(kept, logits, -np.inf)))
        rng = np.random.default_rng(V)
        near = rng.choice(steps, 2000) + rng.integers(-2, 3, 2000) * 2.0**-24
        uniform = np.array([0.0, 2**-24, 0.5, LARGEST, *near.clip(0, LARGEST)], np.float32)
        tokens, log_prob = draws(logits, uniform, sampling)
        assert tokens.max() < V
        assert kept[tokens].all()
        assert np.isfinite(log_prob).all()


@pytest.mark.parametrize(
    "sampling", [SamplingParams(), SamplingParams(0.3, top_k=5), SamplingParams(0.0)]
)
def test_log_probability_is_the_models_own(sampling: SamplingParams):
    logits = logits_of(300, holes=0.2) + np.float32(1000)
    tokens, log_prob = draws(logits, grid(64), sampling)
    np.testing.assert_allclose(log_prob, np.log(softmax(logits)[tokens]), atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"top_p": float("nan")}, "top_p is nan"),
    ],
)
def test_bad_values_are_named(fields: dict, message: str):
    with pytest.raises(UserError, match=f"sampling.{message}; it must"):
        SamplingParams(**fields)


def test_a_uniform_depends_on_seed_question_candidate_and_position_alone():
    keys = candidate_keys(3, jnp.array([7, 2**32 - 1, 9], jnp.uint32), 4)
    alone = candidate_keys(3, jnp.array([9], jnp.uint32), 2)
    at = jnp.array([[5, 0, 5, 2]] * 3)
    many = np.asarray(uniforms(keys, at))
    assert np.array_equal(many[2, :2], np.asarray(uniforms(alone, at[2:, :2]))[0])
    other_seed = candidate_keys(4, jnp.array([9], jnp.uint32), 2)
    assert not np.isin(np.asarray(uniforms(other_seed, at[2:, :2])), many).any()
    numbers = np.asarray(uniforms(jnp.repeat(keys[2:, :2], 99, 0), np.mgrid[:99, :2][0]))
    assert len(np.unique(numbers)) >= numbers.size - 1  # of 2^23 values hardly any comes twice
    assert numbers.min() >= 0
    assert numbers.max() < 1


@pytest.mark.parametrize("V", [38, 40, 96])
def test_a_vocabulary_over_devices_is_not_exchanged_to_draw(V: int):
    """Devices of other questions would wait for it, whose loops end earlier or later."""
    mesh = make_mesh(2, 2, jax.devices()[:4])
    logits = jnp.tile(logits_of(V), (4, 1))
    uniform = jnp.linspace(0.1, 0.9, 4)

    def tokens(logits: jax.Array, uniform: jax.Array) -> jax.Array:
        return draw(logits, uniform, SamplingParams())[0]

    split = jax.device_put(logits, NamedSharding(mesh, PartitionSpec("data", "model")))
    rows = jax.device_put(uniform, NamedSharding(mesh, PartitionSpec("data")))
    compiled = jax.jit(tokens).lower(split, rows).compile()
    assert "collective-permute" not in str(compiled.as_text())
    np.testing.assert_array_equal(compiled(split, rows), tokens(logits, uniform))
