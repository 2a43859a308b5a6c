"""The probe of hidden states against logistic regression said plainly."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.sampling.oracle import TINY, tiny_generator
from ttc_jax.models import parameters
from ttc_jax.training import probe
from ttc_jax.training.batches import Batches, Example
from ttc_jax.training.probe import PENALTIES, Probed, solve
from ttc_jax.training.quality import score

GENERATOR = tiny_generator()
RNG = np.random.default_rng(0)


def hidden_states(tokens: np.ndarray) -> np.ndarray:
    return np.asarray(jax.jit(lambda x: GENERATOR(x))(tokens), np.float64)


def examples(rows: int, noise: bool = False) -> list[Example]:
    """Values that the hidden states know, or that nothing knows."""
    direction = np.random.default_rng(1).normal(size=TINY.width)
    tokens = RNG.integers(0, TINY.vocab_size, (rows, 12))
    chances = 1 / (1 + np.exp(-(hidden_states(tokens)[:, :-1] @ direction)))
    found = []
    for row in range(rows):
        targets, weights = np.zeros((2, 12), np.float32)
        at = RNG.permutation(np.arange(2, 12))[:4]
        targets[at] = RNG.integers(0, 2, 4) if noise else chances[row, at - 1]
        weights[at] = 1.0
        found.append(Example(tokens[row], targets, weights, 2))
    return found


def batches(found: list[Example]) -> Batches:
    return Batches(found, lengths=(12, 16), tokens=16 * 12, seed=0)


def test_each_token_is_scored_by_what_it_was_drawn_from():
    model = Probed(GENERATOR)
    model.probe.weights[...] = jax.random.normal(jax.random.key(0), (TINY.width,))
    model.probe.bias[...] = jnp.float32(0.3)
    tokens = jax.random.randint(jax.random.key(1), (2, 9), 0, TINY.vocab_size)
    found = np.asarray(jax.jit(lambda x: model(x, jnp.array([1, 1])))(tokens))
    expected = hidden_states(np.asarray(tokens)) @ np.asarray(model.probe.weights[...]) + 0.3
    np.testing.assert_allclose(found[:, 1:], expected[:, :-1], rtol=1e-4, atol=1e-5)


def test_what_the_hidden_states_know_is_found():
    model, train, validation = Probed(GENERATOR), examples(60), examples(10)
    before = {k: np.asarray(x) for k, x in parameters.named(model.generator).items()}
    figures = solve(model, batches(train), batches(validation))
    assert figures["penalty"] < 1e-3
    assert figures["tokens"] >= 60 * 12
    scored = score(model, batches(validation), ["q"] * 10)
    for answer in scored:
        np.testing.assert_allclose(answer.scores, answer.values, atol=0.03)
    chance, value = (np.concatenate([getattr(x, n) for x in scored]) for n in ("scores", "values"))
    losses = -value * np.log(chance) - (1 - value) * np.log(1 - chance)
    assert figures["validation_loss"] == pytest.approx(losses.mean(), rel=1e-3)
    for name, array in parameters.named(model.generator).items():
        np.testing.assert_array_equal(array, before[name], name)


def test_answers_share_a_prompt_and_a_killed_call_goes_on(tmp_path, monkeypatch):
    """Three prompts, of which one has five answers; what was read is not read again."""
    found = examples(7)
    shared = [
        dataclasses.replace(x, tokens=np.concatenate([found[0].tokens[:2], x.tokens[2:]]))
        for x in found[:5]
    ]
    found = [*shared, *found[5:]]
    monkeypatch.setattr(probe, "PAD", 8)
    alone = solve(Probed(nnx.clone(GENERATOR)), batches(found), batches(found))
    model = Probed(nnx.clone(GENERATOR))
    hidden = hidden_states(np.stack([x.tokens for x in found]))
    states, values = probe._steps(model, batches(found), None, "")
    asked = np.stack([x.weights for x in found]) > 0
    expected = np.pad(hidden[:, :-1], ((0, 0), (1, 0), (0, 0)))[asked]
    np.testing.assert_allclose(states, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(values, np.stack([x.targets for x in found])[asked])
    solve(model, batches(found), batches(found), tmp_path)
    monkeypatch.setattr(probe, "_padded", lambda *_: pytest.fail("it was read before"))
    again = Probed(nnx.clone(GENERATOR))
    assert solve(again, batches(found), batches(found), tmp_path) == alone
    np.testing.assert_array_equal(again.probe.weights[...], model.probe.weights[...])


@pytest.mark.parametrize("own", [2, 4], ids=["all but two tokens", "longer prompts"])
def test_what_prompts_begin_with_is_read_once(own: int, monkeypatch):
    """Four answers behind prompts of 11 and 12 tokens."""
    tokens = np.random.default_rng(own).integers(0, TINY.vocab_size, (4, 16))
    tokens[:, : 11 - own] = tokens[0, : 11 - own]
    tokens[:, 11 - own] = np.arange(4)
    at = (np.arange(16) == 14).astype(np.float32)
    found = batches([Example(tokens[i], at, at, 11 + i % 2) for i in range(4)])
    monkeypatch.setattr(probe, "PAD", 4)
    shared = probe._shared(probe._by_prompt(found))
    np.testing.assert_array_equal(shared, tokens[0, : 11 - own])
    states, _ = probe._steps(Probed(GENERATOR), found, None, "")
    expected = hidden_states(tokens)[:, 13]
    order = [int(np.abs(state - expected).sum(1).argmin()) for state in states]
    assert sorted(order) == [0, 1, 2, 3]
    np.testing.assert_allclose(states, expected[order], rtol=1e-4, atol=1e-5)


def test_a_penalty_keeps_few_steps_from_being_learnt_by_heart():
    model = Probed(nnx.clone(GENERATOR))
    figures = solve(model, batches(examples(5, noise=True)), batches(examples(40, noise=True)))
    assert figures["penalty"] == max(PENALTIES)
    assert figures["validation_loss"] < 1.5 * np.log(2)
