"""The job `train`, from questions or records to a model folder."""

import dataclasses
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.jobs.conftest import (
    COMMAND,
    configure,
    generator_config,
    prm_config,
    records_config,
    run_train,
)
from ttc_jax.errors import UserError
from ttc_jax.experiments.sections import fresh_tokenizer
from ttc_jax.models import parameters
from ttc_jax.models.checkpoints import describe, load_model
from ttc_jax.models.tokenizers import load_tokenizer
from ttc_jax.models.weights import load_generator
from ttc_jax.results.store import ResultsStore
from ttc_jax.tasks.countdown import Countdown
from ttc_jax.verifiers.load import load_verifier
from ttc_jax.verifiers.prm import ProcessRewardModel, load_prm
from ttc_jax.verifiers.probe import HiddenStateProbe

QUALITY = {"quality.json", "calibration.csv", "calibration.png", "calibration.svg"}


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
    assert found["tokens"] == figures["tokens"]
    assert found["validation_loss"] == pytest.approx(figures["validation_loss"], abs=1e-6)
    assert figures["validation_loss"] < 2.5 < np.log(tokenizer.vocab_size)
    assert found["parameters"] == sum(value.size for value in named(model).values())
    text = Countdown(size=1).questions("test")[0].text
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_fresh_weights_take_the_tokenizer_that_is_named(trained_generator: Path, tmp_path: Path):
    config = generator_config()
    config.start.tokenizer = str(trained_generator / "model")
    assert fresh_tokenizer(config).encode("04 07=11:") == fresh_tokenizer(
        generator_config()
    ).encode("04 07=11:")
    config.start.tokenizer, config.task = "", {"name": "gsm8k"}
    with pytest.raises(
        UserError, match=r"start\.tokenizer=: fresh weights need .* task gsm8k has no"
    ):
        run_train(config, tmp_path)


def test_a_finished_training_is_not_done_again(trained_generator: Path):
    before = named(load_generator(trained_generator / "model"))
    metrics = (trained_generator / "metrics.jsonl").read_bytes()
    run_train(generator_config(), trained_generator)
    for name, value in named(load_generator(trained_generator / "model")).items():
        np.testing.assert_array_equal(value, before[name], name)
    assert (trained_generator / "metrics.jsonl").read_bytes() == metrics


def test_the_prm_stands_on_the_generator(trained_generator: Path, trained_prm: Path):
    prm = named(load_prm(trained_prm / "model"))
    for name, value in named(load_generator(trained_generator / "model")).items():
        np.testing.assert_array_equal(value, prm[f"trunk.{name}"], name)
    assert prm["score"].any()  # it was zero before the training


def test_a_verifiers_quality_is_that_on_held_out_questions(trained_prm: Path, samples: Path):
    assert {path.name for path in trained_prm.iterdir()} >= QUALITY
    quality = json.loads((trained_prm / "quality.json").read_text())
    held_out = quality["answers"]
    answers = [c for record in ResultsStore(samples).read() for c in record.candidates]
    assert 0 < held_out < len(answers) / 2
    assert held_out % 4 == 0  # all answers to a question, or none
    assert sum(row["steps"] for row in quality["calibration"]) == quality["steps"] > held_out
    found = describe(trained_prm / "model", "prm").metadata
    losses = [line["validation_loss"] for line in read_lines(trained_prm / "metrics.jsonl")]
    assert found["validation_loss"] == pytest.approx(min(losses), abs=1e-6)
    areas = quality["auroc"]
    assert {"steps", "rollouts"} <= set(areas)
    assert {name: found[f"validation_auroc_{name}"] for name in areas} == areas
    assert found["validation_calibration_error"] == quality["calibration_error"]


@pytest.mark.parametrize("variant", ["orm", "revision_orm", "probe"])
def test_verifiers_are_trained_on_records(trained_generator, samples, chains, tmp_path, variant):
    data = chains if variant == "revision_orm" else samples
    small = {} if variant == "probe" else {"model__depth": 0}
    run_train(records_config(variant, trained_generator / "model", data, **small), tmp_path)
    found = load_verifier(str(tmp_path / "model"))
    metadata = describe(tmp_path / "model").metadata
    quality = json.loads((tmp_path / "quality.json").read_text())
    if variant == "probe":
        assert isinstance(found, HiddenStateProbe)
        assert found.weights[...].any()
        assert metadata["parameters"] == found.weights[...].size + 1
        assert quality["steps"] > quality["answers"]
    else:
        assert isinstance(found, ProcessRewardModel)
        assert not found.spec.every_step
        assert quality["steps"] == quality["answers"]  # one score an answer
    assert quality["answers"] % (10 if variant == "revision_orm" else 4) == 0
    assert metadata["config"]["data"]["path"] == str(data)


@pytest.mark.parametrize("variant", ["generator", "revision", "rest_em"])
def test_generators_are_trained_from_a_checkpoint(
    trained_generator, samples, chains, tmp_path, variant
):
    start = trained_generator / "model"
    rate = {"train__learning_rate": 1e-6}
    if variant == "generator":
        config = generator_config()
        config.start.path, config.train.steps, config.train.learning_rate = str(start), 3, 1e-6
    else:
        data = chains if variant == "rest_em" else samples
        config = records_config(variant, start, data, **rate)
    run_train(config, tmp_path)
    before, after = named(load_model(start)), named(load_model(tmp_path / "model"))
    assert any((before[name] != after[name]).any() for name in before)
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, atol=1e-5, err_msg=name)
    assert load_tokenizer(tmp_path / "model").eos_ids == load_tokenizer(start).eos_ids
    assert describe(tmp_path / "model").metadata["config"]["kind"] == config.kind
    assert not (tmp_path / "quality.json").exists()


@pytest.mark.parametrize(
    ("variant", "changes", "message"),
    [
        (
            "generator",
            {"kind": "dpo"},
            "config.kind=dpo: must be one of sft, prm, orm, probe, outcome_probe, rev",
        ),
        ("generator", {"train__steps": 0}, "train.steps=0: must be at least 1"),
        (
            "generator",
            {"execution__mesh__data": 0},
            "config.execution.mesh.data=0: must be at least 1",
        ),
        ("generator", {"execution__mesh__data": 9}, "needs 9 devices; there are 8"),
        ("generator", {"model__head_size": 7}, "model.head_size is 7; it must be even"),
        ("generator", {"model__context": 20}, "does not fit the model's context of 20 tokens"),
        ("generator", {"data__held_out": 2.0}, "data.held_out=2.0: must be below 1"),
        ("prm", {"start__path": "embedded:nobody"}, "embedded:nobody: no such checkpoint"),
        ("prm", {"start__path": ""}, "config.start.path=: prm starts from a generator"),
        ("prm", {"model__depth": -1}, "config.model.depth=-1: must be at least 0"),
        ("prm", {"task__seed": 7}, "'countdown/train/1/0' is no question of this task and split"),
        ("prm", {"step_delimiter": "}"}, "set config.step_delimiter as in the collection's"),
        ("prm", {"data__path": "nowhere"}, "data.path=nowhere: holds no records"),
        ("prm", {"data__path": "chains"}, "no usable row: prm needs answers with Monte-Carlo"),
        ("revision", {"data__per_question": 0}, "config.data.per_question=0: must be at least 1"),
        ("revision", {"data__path": "chains"}, "were written in chains; pairs are built from"),
        ("rest_em", {"data__per_length": 0}, "config.data.per_length=0: must be at least 1"),
    ],
)
def test_bad_fields_are_named(
    trained_generator, samples, chains, tmp_path, variant, changes, message
):
    if changes.get("data__path") == "chains":
        changes = changes | {"data__path": without_values(chains, tmp_path / "chains")}
    if variant == "generator":
        config = configure(variant, task__size=20, **changes)
    else:
        config = records_config(variant, trained_generator / "model", samples, **changes)
    with pytest.raises(UserError, match=message):
        run_train(config, tmp_path / "work")
    assert not (tmp_path / "work").exists()  # the workdir is free for the mended config


def test_a_probes_generator_alone_may_be_narrow(trained_generator, samples, tmp_path):
    """It stays as it is; the probe is then taught what it will be shown in a search."""

    def narrow(variant: str) -> ConfigDict:
        config = records_config(variant, trained_generator / "model", samples)
        with config.unlocked():
            config.start.dtype = "bfloat16"
        return config

    message = "start.dtype=bfloat16: prm teaches all of the model, and in float32"
    with pytest.raises(UserError, match=message):
        run_train(narrow("prm"), tmp_path / "prm")
    run_train(narrow("probe"), tmp_path / "probe")
    states = next((tmp_path / "probe" / "hidden").rglob("*.npy"))
    assert np.load(states).dtype == np.float32
    assert isinstance(load_verifier(str(tmp_path / "probe" / "model")), HiddenStateProbe)


def without_values(chains: Path, workdir: Path) -> Path:
    records = [
        dataclasses.replace(
            record,
            candidates=tuple(dataclasses.replace(c, step_values=()) for c in record.candidates),
        )
        for record in ResultsStore(chains).read()
    ]
    ResultsStore(workdir).append(records)
    return workdir


def test_a_workdir_belongs_to_one_config(trained_generator, trained_prm, samples):
    with pytest.raises(UserError, match="belongs to another config"):
        run_train(prm_config(trained_generator / "model", samples), trained_generator)
