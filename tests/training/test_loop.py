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
from ttc_jax.sharding.mesh import make_mesh
from ttc_jax.training.batches import Batch, Batches, Example
from ttc_jax.training.loop import fit
from ttc_jax.training.optimisation import Optimisation

V = 7
FAST = Optimisation(steps=11, learning_rate=0.3, warmup=2, evaluate_every=3)
EVALUATED = [3, 6, 9, 11]


class Bigram(nnx.Module):
    """Scores of the next token from the last one alone, with a part that may be kept still."""

    def __init__(self):
        self.table = nnx.Param(jax.random.normal(jax.random.key(0), (V, V)))
        self.trunk = nnx.Param(jax.random.normal(jax.random.key(1), (V,)))


def loss(model, batch, mode=None):
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
    seen = np.cumsum([Watched().batch(step)["lengths"].sum() for step in range(11)])
    assert [line["tokens"] for line in found] == [seen[step - 1] for step in EVALUATED]
    total, weight = np.sum([loss(model, batch) for batch in VALIDATION.all()], 0)
    assert found[-1]["validation_loss"] == pytest.approx(total / weight, rel=1e-5)
    assert figures == {
        "steps": 11,
        "tokens": found[-1]["tokens"],
        "kept_step": 11,
        "validation_loss": found[-1]["validation_loss"],
    }


@pytest.mark.parametrize("step", [2, 6, 10])
def test_a_killed_run_ends_as_if_it_had_not_been(whole, tmp_path: Path, step: int):
    folder, model, figures = whole
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Watched(kill_at(step)))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "tok')  # torn
    resumed, found = train(tmp_path, Watched())
    assert found == figures
    assert (tmp_path / "metrics.jsonl").read_bytes() == (folder / "metrics.jsonl").read_bytes()
    np.testing.assert_array_equal(resumed.table[...], model.table[...])
    np.testing.assert_array_equal(resumed.trunk[...], model.trunk[...])


def test_a_finished_run_trains_no_more(whole):
    folder, model, figures = whole
    before = (folder / "metrics.jsonl").read_bytes()
    again, found = train(folder, Watched(kill_at(11)))
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


def squares(model, batch, mode=None):
    losses = (model.value[...] - batch["targets"]) ** 2 * batch["weights"]
    return losses.sum(), batch["weights"].sum()


def asking_for(number: float) -> Batches:
    one = Example(np.zeros(4, np.int32), np.full(4, number), np.ones(4), 1)
    return Batches([one], lengths=(4,), tokens=8, seed=0)


def passing_one(folder: Path, **options: int) -> tuple[float, dict[str, float]]:
    """On its way from 0 to 3 it passes 1, where validation wants it; what is kept of that."""
    model = Number()
    optimisation = dataclasses.replace(
        FAST, learning_rate=0.5, evaluate_every=1, weight_decay=0.0, **options
    )
    figures = fit(model, squares, asking_for(3), asking_for(1), optimisation, folder)
    return float(model.value[...]), figures


@pytest.mark.parametrize("past_best", [0, 2, 100])
def test_the_weights_of_the_lowest_validation_loss_are_kept_or_of_slightly_later(
    tmp_path: Path, past_best: int
):
    value, figures = passing_one(tmp_path, past_best=past_best)
    losses = [line["validation_loss"] for line in lines(tmp_path)]
    best = losses.index(min(losses))
    assert 0 < best < len(losses) - 1 - 2
    kept = min(best + past_best, len(losses) - 1)
    assert figures["kept_step"] == kept + 1
    assert figures["validation_loss"] == losses[kept]
    assert (value - 1) ** 2 == pytest.approx(losses[kept])
    saved = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert saved == {str(kept + 1), "11"}


@pytest.mark.parametrize("past_best", [0, 3])
def test_patience_ends_the_training_for_good(tmp_path: Path, past_best: int):
    found = passing_one(tmp_path, patience=3, past_best=past_best)
    losses = [line["validation_loss"] for line in lines(tmp_path)]
    assert losses.index(min(losses)) == len(losses) - 4
    assert found[1]["steps"] == len(losses) < 11
    assert found[1]["kept_step"] == len(losses) - 3 + past_best
    assert passing_one(tmp_path, patience=3, past_best=past_best) == found
    assert len(lines(tmp_path)) == len(losses)


class Poisoned(Watched):
    """Weights that are no numbers in some batches."""

    def __init__(self, first: int, last: int):
        super().__init__()
        self.steps = range(first, last + 1)

    def batch(self, step: int) -> Batch:
        found = super().batch(step)
        if step not in self.steps:
            return found
        return {**found, "weights": found["weights"] * np.nan}


@pytest.mark.parametrize(("poison", "last", "good"), [(2, 2, None), (7, 1000, 6), (10, 10, 9)])
def test_a_loss_that_is_no_number_ends_the_run(whole, tmp_path, poison, last, good):
    """Also when only one batch was bad; and what came of it is never saved."""
    batches = Poisoned(poison, last)
    bad = [int(x) for x in batches.batch(poison)["examples"] if x >= 0]
    named = ", ".join(map(str, bad[:5]))
    where = f"is {tmp_path / 'checkpoints' / str(good)}" if good else "there is no checkpoint yet"
    message = (
        f"stopped at step {poison + 1}, on batch {poison} .examples {named}.*loss nan.*{where}"
    )
    with pytest.raises(UserError, match=message) as raised:
        train(tmp_path, batches)
    assert "\n" not in str(raised.value)
    assert [line["step"] for line in lines(tmp_path)] == [x for x in EVALUATED if x <= poison]
    _, figures = train(tmp_path, Watched())
    assert figures == whole[2]
    assert (tmp_path / "metrics.jsonl").read_bytes() == (whole[0] / "metrics.jsonl").read_bytes()


def test_a_gradient_that_explodes_ends_the_run(tmp_path: Path):
    steep = asking_for(1e6)
    with pytest.raises(UserError, match=r"step 1, on batch 0 \(examples 0\): loss 1e.12, gradient"):
        fit(Number(), squares, steep, steep, FAST, tmp_path)


def test_a_validation_loss_that_is_no_number_ends_the_run(tmp_path: Path):
    with pytest.raises(UserError, match="validation loss is nan at step 3; there is no checkpoint"):
        fit(Number(), squares, asking_for(3), asking_for(np.nan), FAST, tmp_path)


def test_checkpoints_of_another_architecture_are_refused(whole):
    folder, *_ = whole
    message = "checkpoints: missing value; extra table; extra trunk .*another --workdir"
    with pytest.raises(UserError, match=message):
        fit(Number(), squares, asking_for(3), asking_for(3), FAST, folder)


def test_a_mesh_that_does_not_divide_a_batch_is_refused(tmp_path: Path):
    with pytest.raises(
        UserError, match="mesh data=8 × train.accumulate=1 does not divide a batch of 4"
    ):
        train(tmp_path, Watched(), mesh=make_mesh(8, 1))


def test_tensorboard_is_told_too(whole):
    folder, *_ = whole
    events = b"".join(path.read_bytes() for path in (folder / "tensorboard").iterdir())
    for name in ("loss", "validation_loss", "gradient_norm", "tokens_per_second"):
        assert name.encode() in events


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("steps", 0, "it must be at least 1"),
        ("evaluate_every", 0, "it must be at least 1"),
        ("accumulate", 0, "it must be at least 1"),
        ("patience", -1, "it must be at least 0"),
        ("dropout", 1.0, "it must be from 0 to below 1"),
        ("compute_dtype", "float16", "it must be float32 or bfloat16"),
    ],
)
def test_fields_have_ranges(name: str, value: object, message: str):
    with pytest.raises(UserError, match=f"train.{name} is {value}; {message}"):
        dataclasses.replace(FAST, **{name: value})


def test_what_is_kept_must_be_reached():
    with pytest.raises(UserError, match="train.past_best is 3, which train.patience=2 never"):
        dataclasses.replace(FAST, patience=2, past_best=3)
