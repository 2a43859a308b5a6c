"""The job `train`, from questions to a model folder."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from tests.jobs.conftest import COMMAND, configure, generator_config, prm_config, run_train
from ttc_jax.errors import UserError
from ttc_jax.models import parameters
from ttc_jax.models.checkpoints import describe
from ttc_jax.models.tokenizers import load_tokenizer
from ttc_jax.models.weights import load_generator
from ttc_jax.tasks.arithmetic import Arithmetic
from ttc_jax.verifiers.prm import load_prm


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def named(module) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in parameters.named(module).items()}


def test_the_generators_folder_says_what_it_is(trained_generator: Path):
    folder = trained_generator / "model"
    model, tokenizer = load_generator(folder), load_tokenizer(folder)
    [figures] = read_lines(trained_generator / "metrics.jsonl")
    found = describe(folder, "generator").metadata
    assert found["command"] == shlex.join(COMMAND)
    assert found["config"]["train"]["steps"] == found["steps"] == figures["step"] == 300
    assert found["tokens"] == figures["tokens"] == 300 * 960
    assert found["validation_loss"] == pytest.approx(figures["validation_loss"], abs=1e-6)
    assert figures["validation_loss"] < 2.5 < np.log(tokenizer.vocab_size)
    assert found["parameters"] == sum(value.size for value in named(model).values())
    text = Arithmetic(size=1).questions("test")[0].text
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_finished_training_is_not_done_again(trained_generator: Path):
    before = named(load_generator(trained_generator / "model"))
    metrics = (trained_generator / "metrics.jsonl").read_bytes()
    run_train(generator_config(), trained_generator)
    for name, value in named(load_generator(trained_generator / "model")).items():
        np.testing.assert_array_equal(value, before[name], name)
    assert (trained_generator / "metrics.jsonl").read_bytes() == metrics


def test_the_prm_stands_on_the_generator_and_its_rollouts(trained_generator, trained_prm):
    prm = named(load_prm(trained_prm / "model"))
    for name, value in named(load_generator(trained_generator / "model")).items():
        np.testing.assert_array_equal(value, prm[f"trunk.{name}"], name)
    assert prm["score"].any()  # it was zero before the training
    for split, size in (("train", 8), ("validation", 4)):
        task = configure("prm").task
        questions = Arithmetic(size=size, seed=task.seed).questions(split)
        lines = read_lines(trained_prm / f"rollouts-{split}.jsonl")
        assert [line["question"] for line in lines] == [question.id for question in questions]
        values = [v for line in lines for answer in line["labelled"] for v in answer["values"]]
        assert len(values) > size
        assert set(values) <= {0.0, 0.5, 1.0}  # of two rollouts
    found = describe(trained_prm / "model", "prm").metadata
    losses = [line["validation_loss"] for line in read_lines(trained_prm / "metrics.jsonl")]
    assert found["validation_loss"] == pytest.approx(min(losses), abs=1e-6)
    areas = [value for name, value in found.items() if name.startswith("validation_auroc_")]
    assert all(0 <= area <= 1 for area in areas)


@pytest.mark.parametrize(
    ("variant", "changes", "message"),
    [
        ("generator", {"kind": "orm"}, "config.kind=orm: must be one of generator, prm"),
        ("generator", {"train_questions": 0}, "config.train_questions=0: must be at least 1"),
        ("generator", {"train__steps": 0}, "config.train.steps=0: must be at least 1"),
        ("generator", {"model__head_size": 7}, "model.head_size 7 must be even"),
        ("prm", {"rollouts__ends": 0}, "config.rollouts.ends=0: must be at least 1"),
        ("prm", {"rollouts__rows": 3}, "config.rollouts.rows=3: must be at least 4"),
        (
            "prm",
            {"rollouts__temperature": -1.0},
            "temperature is -1.0; it must be 0 .greedy. or at least",
        ),
        ("prm", {"generator__path": "embedded:nobody"}, "embedded:nobody: no such checkpoint"),
    ],
)
def test_bad_fields_are_named(trained_generator, tmp_path, variant, changes, message):
    few = {"train_questions": 2, "validation_questions": 2, "train__steps": 1}
    if variant == "prm":
        few["generator__path"] = trained_generator / "model"
    with pytest.raises(UserError, match=message):
        run_train(configure(variant, **few | changes), tmp_path)


def test_a_workdir_belongs_to_one_config(trained_generator, trained_prm):
    with pytest.raises(UserError, match="belongs to another config"):
        run_train(prm_config(trained_generator / "model"), trained_generator)
