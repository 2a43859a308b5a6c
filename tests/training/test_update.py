"""One update: parts of a batch, dtypes, dropout, and what stops it."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.training.test_loop import FAST, VALIDATION, Bigram, Watched, loss
from ttc_jax.sharding.mesh import make_mesh
from ttc_jax.training.update import NEVER, Program, State

BATCHES = Watched()


@functools.cache
def program(seed: int = 0, of: Any = loss, **options: Any) -> Program:
    return Program(
        Bigram(),
        of,
        dataclasses.replace(FAST, **options),
        trainable=nnx.Param,
        mesh=make_mesh(1, 1, jax.devices()[:1]),
        seed=seed,
    )


def updates(program: Program, steps: int = 4) -> tuple[State, list[dict[str, float]]]:
    state, seen = program.start(), []
    for step in range(steps):
        state, figures = program.update(state, BATCHES.batch(step), step)
        seen.append({name: float(figure) for name, figure in figures.items()})
    return state, seen


def test_the_parts_of_a_batch_make_its_gradient():
    """However unevenly the weights lie on them."""
    whole, parts = program(), program(accumulate=4)
    (expected, first), (found, second) = updates(whole), updates(parts)
    np.testing.assert_allclose(found.weights["table"], expected.weights["table"], atol=1e-6)
    for a, b in zip(first, second, strict=True):
        assert a == pytest.approx(b, rel=1e-5)
    held_out = VALIDATION.all()
    assert whole.evaluate(expected.weights, held_out) == pytest.approx(
        parts.evaluate(expected.weights, held_out), rel=1e-6
    )


def test_bfloat16_is_what_is_computed_with_and_not_what_is_kept():
    seen = []

    def watched(model, batch, mode):
        seen.append((str(model.table[...].dtype), mode is None))
        return loss(model, batch)

    narrow = program(of=watched, learning_rate=1e-5, compute_dtype="bfloat16")
    state, _ = updates(narrow)
    narrow.evaluate(state.weights, VALIDATION.all())
    assert set(seen) == {("bfloat16", True), ("bfloat16", False)}
    assert {x.dtype for x in jax.tree.leaves(state.optimiser)} == {
        np.dtype(np.float32),
        np.dtype(np.int32),
    }
    moved = np.abs(np.asarray(state.weights["table"] - Bigram().table[...]))
    assert 0 < moved.max() < 1e-4  # too little for bfloat16 to add


def test_dropout_depends_on_seed_and_step_and_spares_validation():
    def noisy(model, batch, mode):
        total, weight = loss(model, batch)
        drawn = 1.0 if mode is None else mode.drop(jnp.ones(100), 0).mean()
        return total + weight * drawn, weight

    runs = {seed: program(seed, noisy, dropout=0.5, accumulate=2) for seed in (0, 1)}
    plain = program()
    states = {name: updates(run) for name, run in {**runs, "again": runs[0], None: plain}.items()}
    losses = {name: np.array([x["loss"] for x in seen]) for name, (_, seen) in states.items()}
    noise = losses[0] - losses[None]
    assert noise.mean() == pytest.approx(1, abs=0.2)
    assert noise.std() > 0.02  # another draw each step
    assert np.abs(losses[0] - losses[1]).min() > 1e-3
    np.testing.assert_array_equal(losses[0], losses["again"])
    state, held_out = states[None][0], VALIDATION.all()
    assert runs[0].evaluate(state.weights, held_out) == pytest.approx(
        1 + plain.evaluate(state.weights, held_out), rel=1e-6
    )


def test_from_the_first_trouble_on_nothing_moves():
    """A weight on the loss alone; the sum of weights stays."""

    def weighted(model, batch, mode):
        total, _ = loss(model, batch)
        return total * batch["weights"].max(), (batch["weights"] > 0).sum().astype(jnp.float32)

    watched, batch = program(of=weighted), BATCHES.batch(2)
    for factor in (np.nan, np.inf, 1e6):
        state, _ = updates(watched, steps=2)
        before = jax.device_get((state.weights, state.optimiser))
        bad = {**batch, "weights": np.where(batch["weights"] > 0, factor, 0).astype(np.float32)}
        assert int(state.trouble.step) == NEVER
        for step, now in ((2, bad), (3, bad), (4, batch)):
            state, _ = watched.update(state, now, step)
            assert int(state.trouble.step) == 2, factor
            jax.tree.map(np.testing.assert_array_equal, (state.weights, state.optimiser), before)
