"""Training over eight simulated devices gives the losses of one."""

import contextlib
import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from ttc_jax.errors import UserError
from ttc_jax.models import parameters
from ttc_jax.models.config import ModelConfig
from ttc_jax.models.transformer import Transformer
from ttc_jax.sharding.mesh import make_mesh
from ttc_jax.training import prm, sft
from ttc_jax.training.batches import Batch, Batches, Example
from ttc_jax.training.checkpoints import Checkpoints, Progress
from ttc_jax.training.loop import fit
from ttc_jax.training.optimisation import Optimisation
from ttc_jax.training.update import Loss, Program, State

CONFIG = ModelConfig(
    vocab_size=24, width=16, depth=1, heads=8, kv_heads=8, head_size=4, ffn_width=32, context=16
)
OPTIMISATION = Optimisation(
    steps=10,
    learning_rate=0.01,
    warmup=2,
    accumulate=2,
    dropout=0.1,
    evaluate_every=5,
    past_best=100,  # the last weights are kept
)


RNG = np.random.default_rng(0)
EXAMPLES = [
    Example(
        RNG.integers(0, 24, size),
        RNG.integers(0, 2, size).astype(np.float32),
        np.ones(size, np.float32),
        2,
    )
    for size in RNG.integers(5, 13, 30)
]
LAYOUT = {"lengths": (12,), "tokens": 200, "seed": 0, "multiple": 16}
BATCHES = Batches(EXAMPLES, **LAYOUT)


def build(kind: str) -> tuple[nnx.Module, Loss, Any]:
    """A new model, its loss and what of it is taught."""
    generator = Transformer(CONFIG, rngs=nnx.Rngs(0))
    if kind == "generator":
        return generator, sft.loss, nnx.Param
    return prm.on_trunk(generator, depth=1, ffn_width=16, seed=0), prm.loss, prm.above_trunk


@functools.cache
def train(kind: str, data: int, model: int) -> tuple[list[float], State]:
    """Losses of ten updates and of validation, and the state after them."""
    module, loss, trainable = build(kind)
    mesh = make_mesh(data, model, jax.devices()[: data * model])
    optimisation = OPTIMISATION
    if kind == "prm":  # dropout takes longer to compile than all the rest
        optimisation = dataclasses.replace(OPTIMISATION, dropout=0.0)
    program = Program(module, loss, optimisation, trainable=trainable, mesh=mesh, seed=0)
    state, losses = program.start(), []
    for step in range(10):
        state, figures = program.update(state, BATCHES.batch(step), step)
        losses.append(float(figures["loss"]))
    losses.append(program.evaluate(state.weights, BATCHES.all()))
    return losses, state


@pytest.mark.parametrize(
    ("kind", "data", "model"),
    [*(("generator", *mesh) for mesh in ((8, 1), (4, 2), (2, 4), (1, 8))), ("prm", 2, 4)],
)
def test_losses_and_weights_are_those_of_one_device(kind, data, model):
    (expected, alone), (losses, split) = train(kind, 1, 1), train(kind, data, model)
    assert expected[-1] < expected[0] - 0.01
    np.testing.assert_allclose(losses, expected, atol=1e-4, rtol=0)
    for name, value in alone.weights.items():
        np.testing.assert_allclose(split.weights[name], value, atol=1e-3, err_msg=name)


def test_weights_and_optimiser_stay_split_alike():
    _, state = train("generator", 2, 4)
    adam = state.optimiser[1][0]
    split = {name for name, x in state.weights.items() if not x.sharding.is_fully_replicated}
    assert split == {
        "embedding",
        *(f"layers.blocks.0.{x}" for x in ("attention.qkv", "attention.out")),
        *(f"layers.blocks.0.{x}" for x in ("ffn.gate_up", "ffn.down")),
    }
    for name, value in state.weights.items():
        assert adam.mu[name].sharding == adam.nu[name].sharding == value.sharding, name
        assert value.addressable_shards[0].data.size == value.size // (4 if name in split else 1)


@pytest.mark.parametrize(("data", "model"), [(4, 2), (1, 1)])
def test_a_run_goes_on_over_another_mesh(tmp_path: Path, data: int, model: int):
    _, saved = train("generator", 2, 4)
    _, other = train("generator", data, model)
    with Checkpoints(tmp_path, past_best=0) as checkpoints:
        checkpoints.save(Progress(step=10), saved.weights, saved.optimiser)
    with Checkpoints(tmp_path, past_best=0) as checkpoints:
        progress, *found = checkpoints.latest(other.weights, other.optimiser)
    assert progress == Progress(step=10)
    np.testing.assert_equal(*jax.device_get((found, [saved.weights, saved.optimiser])))
    places = jax.tree.map(lambda x: x.sharding, [other.weights, other.optimiser])
    assert jax.tree.map(lambda x: x.sharding, found) == places


class Killed(Batches):
    def batch(self, step: int) -> Batch:
        if step == 8:
            raise KeyboardInterrupt
        return super().batch(step)


def test_a_split_run_goes_on_and_leaves_the_weights_where_they_were(tmp_path: Path):
    mesh = make_mesh(2, 4)
    for batches in (Killed(EXAMPLES, **LAYOUT), BATCHES):
        model, loss, trainable = build("generator")
        before = {name: x.sharding for name, x in parameters.named(model).items()}
        with contextlib.suppress(KeyboardInterrupt):
            fit(
                model, loss, batches, BATCHES, OPTIMISATION, tmp_path,
                trainable=trainable, mesh=mesh,
            )  # fmt: skip
    found = parameters.named(model)
    assert {name: x.sharding for name, x in found.items()} == before
    losses, whole = train("generator", 2, 4)
    for name, value in whole.weights.items():
        np.testing.assert_array_equal(found[name], value, name)
    *_, last = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(last)["validation_loss"] == losses[-1]


def test_a_mesh_that_does_not_divide_the_model_is_refused(tmp_path: Path):
    model = Transformer(dataclasses.replace(CONFIG, kv_heads=2), rngs=nnx.Rngs(0))
    with pytest.raises(UserError, match="mesh model=8 does not divide the 2 key/value heads"):
        fit(model, sft.loss, BATCHES, BATCHES, OPTIMISATION, tmp_path, mesh=make_mesh(1, 8))
