"""The training loop on models of a few numbers."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ttc_jax.errors import UserError
from ttc_jax.training.batches import Batch, Batches, Example
from ttc_jax.training.loop import Optimisation, fit

V = 7
FAST = Optimisation(steps=20, learning_rate=0.3, warmup=2, evaluate_every=3, save_every=5)
EVALUATED = [3, 5, 6, 9, 10, 12, 15, 18, 20]  # what is saved is evaluated too


class Bigram(nnx.Module):
    """Scores of the next token from the last one alone, with a part that may be kept still."""

    def __init__(self):
        self.table = nnx.Param(jax.random.normal(jax.random.key(0), (V, V)))
        self.trunk = nnx.Param(jax.random.normal(jax.random.key(1), (V,)))


def loss(model, batch, regime=None):
    logits = (model.table[...] + model.trunk[...][None])[batch["tokens"]]
    chosen = jnp.take_along_axis(
        jax.nn.log_softmax(logits), batch["targets"].astype(jnp.int32)[..., None], -1
    )
    return -(chosen[..., 0] * batch["weights"]).sum(), batch["weights"].sum()


def counting(rows: int) -> list[Example]:
    """Sequences in which t + 1 follows t."""
    rng = np.random.default_rng(rows)
    found = []
    for start in rng.integers(0, V, rows):
        tokens = (start + np.arange(rng.integers(2, 13))) % V
        found.append(Example(tokens, (tokens + 1.0) % V, np.ones(len(tokens)), 1))
    return found


class Watched(Batches):
    """Batches that call `before(step)` first."""

    def __init__(self, before: Callable[[int], None] = lambda step: None, rows: int = 30):
        super().__init__(counting(rows), lengths=(12,), tokens=48, seed=0)
        self.before = before

    def batch(self, step: int) -> Batch:
        self.before(step)
        return super().batch(step)


def kill_at(step: int) -> Callable[[int], None]:
    def kill(now: int) -> None:
        if now == step:
            raise KeyboardInterrupt

    return kill


VALIDATION = Watched(rows=5)


def train(folder: Path, batches: Batches, optimisation: Optimisation = FAST, **options):
    model = Bigram()
    figures = fit(model, loss, batches, VALIDATION, optimisation, folder, **options)
    return model, figures


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, Bigram, dict[str, float]]:
    """A run without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, *train(folder, Watched())


def test_the_loss_falls_and_the_log_tells(whole):
    folder, model, figures = whole
    found = lines(folder)
    assert [line["step"] for line in found] == EVALUATED
    assert found[-1]["loss"] < 0.5 * found[0]["loss"]
    seen = np.cumsum([Watched().batch(step)["tokens"].size for step in range(20)])
    assert [line["tokens"] for line in found] == [seen[step - 1] for step in EVALUATED]
    total, weight = np.sum([loss(model, batch) for batch in VALIDATION.all()], 0)
    assert found[-1]["validation_loss"] == pytest.approx(total / weight, rel=1e-5)
    assert figures == {
        "steps": 20,
        "tokens": found[-1]["tokens"],
        "validation_loss": pytest.approx(found[-1]["validation_loss"]),
    }


@pytest.mark.parametrize("step", [3, 13, 15])
def test_a_killed_run_ends_as_if_it_had_not_been(whole, tmp_path: Path, step: int):
    folder, model, figures = whole
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Watched(kill_at(step)))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 18, "tok')  # torn
    resumed, found = train(tmp_path, Watched())
    assert found == figures
    assert (tmp_path / "metrics.jsonl").read_bytes() == (folder / "metrics.jsonl").read_bytes()
    np.testing.assert_array_equal(resumed.table[...], model.table[...])
    np.testing.assert_array_equal(resumed.trunk[...], model.trunk[...])


def test_a_finished_run_trains_no_more(whole):
    folder, model, figures = whole
    before = (folder / "metrics.jsonl").read_bytes()
    again, found = train(folder, Watched(kill_at(20)))
    assert found == figures
    assert (folder / "metrics.jsonl").read_bytes() == before
    np.testing.assert_array_equal(again.table[...], model.table[...])


def test_what_is_not_trainable_stays_bit_for_bit(tmp_path: Path):
    def above(path, value):
        return path[0] != "trunk" and isinstance(value, nnx.Param)

    model, _ = train(tmp_path, Watched(), dataclasses.replace(FAST, steps=4), trainable=above)
    np.testing.assert_array_equal(model.trunk[...], Bigram().trunk[...])
    assert np.abs(np.asarray(model.table[...] - Bigram().table[...])).max() > 0.1


class Number(nnx.Module):
    def __init__(self):
        self.value = nnx.Param(jnp.zeros(()))


def squares(model, batch, regime=None):
    losses = (model.value[...] - batch["targets"]) ** 2 * batch["weights"]
    return losses.sum(), batch["weights"].sum()


def asking_for(number: float) -> Batches:
    one = Example(np.zeros(4, np.int32), np.full(4, number), np.ones(4), 1)
    return Batches([one], lengths=(4,), tokens=8, seed=0)


def test_the_model_ends_as_it_was_at_the_lowest_validation_loss(tmp_path: Path):
    """On its way from 0 to 3 it passes 1, where validation wants it."""
    model = Number()
    optimisation = dataclasses.replace(FAST, evaluate_every=1, weight_decay=0.0)
    figures = fit(model, squares, asking_for(3), asking_for(1), optimisation, tmp_path)
    losses = [line["validation_loss"] for line in lines(tmp_path)]
    assert 0 < losses.index(min(losses)) < len(losses) - 1
    assert float(model.value[...] - 1) ** 2 == pytest.approx(min(losses))
    assert figures["validation_loss"] == pytest.approx(min(losses))


class Poisoned(Watched):
    """Targets that are no numbers from a step on."""

    def __init__(self, first: int):
        super().__init__()
        self.first = first

    def batch(self, step: int) -> Batch:
        found = super().batch(step)
        return found if step < self.first else {**found, "weights": found["weights"] * np.nan}


@pytest.mark.parametrize(("poison", "seen", "good"), [(2, 3, 0), (9, 10, 5), (11, 12, 10)])
def test_a_loss_that_is_no_number_ends_the_run(whole, tmp_path, poison, seen, good):
    """And it is never saved, not even when it comes with the last step before a checkpoint."""
    message = f"not a number at step {seen}; the last good checkpoint is step {good}; lower train"
    with pytest.raises(UserError, match=message):
        train(tmp_path, Poisoned(poison))
    assert [line["step"] for line in lines(tmp_path)] == [x for x in EVALUATED if x < seen]
    _, figures = train(tmp_path, Watched())
    assert figures == whole[2]


@pytest.mark.parametrize("name", ["steps", "evaluate_every", "save_every"])
def test_optimisation_needs_steps(name: str):
    with pytest.raises(UserError, match=f"train.{name} is 0; it must be at least 1"):
        dataclasses.replace(FAST, **{name: 0})
