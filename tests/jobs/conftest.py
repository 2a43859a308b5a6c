"""A tiny generator and a tiny PRM, trained by the job `train`, the PRM on answers by hand."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import pytest
from ml_collections import ConfigDict

from tests.training.toy import candidate, record, sampled
from ttc_jax.config import load_config
from ttc_jax.experiments import build
from ttc_jax.experiments import recorder as records
from ttc_jax.experiments.sections import task_of
from ttc_jax.jobs import train
from ttc_jax.results.store import Record, ResultsStore
from ttc_jax.tasks import countdown
from ttc_jax.tasks.task import Question, Task

CONFIG = Path(__file__).parents[2] / "configs" / "countdown.py"


def configure(variant: str, **changes) -> ConfigDict:
    """The shipped config of that variant, with fields changed as by flags (dots are `__`)."""
    overrides = [f"--config.{name.replace('__', '.')}={value}" for name, value in changes.items()]
    return load_config(f"{CONFIG}:{variant}", overrides)


def generator_config() -> ConfigDict:
    return configure(
        "generator",
        task__size=200,
        data__held_out=0.03,
        model__width=16,
        model__depth=1,
        model__heads=2,
        model__kv_heads=1,
        model__head_size=8,
        model__ffn_width=32,
        train__steps=300,
        train__evaluate_every=1000,
        train__learning_rate=0.03,
        train__batch_tokens=960,
        train__lengths="32",
    )


def records_config(variant: str, generator: Path, data: Path, **changes) -> ConfigDict:
    """A few steps on what `data` holds, in one bucket."""
    steps = {} if variant == "probe" else {"train__steps": 3, "train__evaluate_every": 2}
    fields = {
        "start__path": generator,
        "data__path": data,
        "data__held_out": 0.3,
        "task__seed": 1,
        "task__size": 16,
        "train__batch_tokens": 1024,
        "train__lengths": "128" if "chains" in data.name or variant == "revision" else "32",
    }
    return configure(variant, **steps | fields | changes)


def prm_config(generator: Path, data: Path) -> ConfigDict:
    return records_config(
        "prm", generator, data, train__steps=6, model__depth=1, model__ffn_width=16
    )


COMMAND = ["ttc", "train", f"--config={CONFIG.name}"]


def run_train(config: ConfigDict, workdir: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", COMMAND)  # what model.json will say made the model
        _train(config, workdir)


def _train(config: ConfigDict, workdir: Path) -> None:
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # for optax
        train.main(config, workdir)


@pytest.fixture(scope="package", autouse=True)
def three_numbers() -> Iterator[None]:
    """Questions of one length: fewer compilations."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(countdown, "LEVELS", {3: 1})
        yield


@pytest.fixture(scope="package")
def trained_generator(tmp_path_factory) -> Path:
    """The workdir of a generator's training."""
    workdir = tmp_path_factory.mktemp("generator")
    run_train(generator_config(), workdir)
    return workdir


def collect(workdir: Path, config: ConfigDict, **kinds) -> Path:
    """Writes answers to the questions that a training's config names."""
    questions = task_of(config.task).questions(config.split)
    ResultsStore(workdir).append([sampled(question, **kinds) for question in questions])
    return workdir


@pytest.fixture(scope="package")
def samples(tmp_path_factory) -> Path:
    """The workdir of a collection: parallel samples with Monte-Carlo values."""
    return collect(tmp_path_factory.mktemp("samples"), configure("prm", task__size=16))


@pytest.fixture(scope="package")
def chains(tmp_path_factory) -> Path:
    """The workdir of a collection of two chains of five answers."""
    config = configure("revision_orm", task__seed=1, task__size=16)
    return collect(tmp_path_factory.mktemp("chains"), config, sequential=5, n=10)


@pytest.fixture(scope="package")
def trained_prm(trained_generator, samples, tmp_path_factory) -> Path:
    """The workdir of a PRM's training."""
    workdir = tmp_path_factory.mktemp("prm")
    run_train(prm_config(trained_generator / "model", samples), workdir)
    return workdir


def changed(config: ConfigDict, **fields) -> ConfigDict:
    copy = config.copy_and_resolve_references()
    for name, value in fields.items():
        *sections, field = name.split("__")
        functools.reduce(operator.getitem, sections, copy)[field] = value
    return copy


def replace_recorder(monkeypatch: pytest.MonkeyPatch, recorder: Callable[..., Any]) -> None:
    """Lets jobs search with something that has no model, and whose prompts are no tokens."""
    monkeypatch.setattr(build, "recorder", recorder)
    monkeypatch.setattr(records, "PROMPTS_KEPT", 0)


@dataclasses.dataclass(frozen=True)
class Answers:
    """Stands for a search (`build.recorder`) where no model is needed: answers by hand."""

    n: int
    seed: int
    sequential: int
    strategy: str = "best_of_n"
    trees: frozenset[str] = frozenset()
    tokenizer: None = None

    @classmethod
    def of(cls, config: ConfigDict, *_: object, **__: object) -> Answers:
        return cls(config.sampling.n, config.seed, config.search.revisions)

    def encode(self, questions: list[Question]) -> list[Question]:
        return questions

    def run(self, questions: list[Question]) -> Iterator[Record]:
        budget = self.n * self.sequential
        for question in questions:
            record = sampled(question, sequential=self.sequential, n=budget)
            scored = [dataclasses.replace(x, step_scores=(0.5,)) for x in record.candidates]
            yield dataclasses.replace(
                record,
                strategy=self.strategy,
                budget=budget,
                seed=self.seed,
                seconds=1.0,
                candidates=tuple(scored),
            )


@dataclasses.dataclass(frozen=True)
class Graded:
    """Stands for a search that writes the same solutions to each question; the task judges them."""

    task: Task
    solutions: tuple[str, ...]
    trees: frozenset[str] = frozenset()
    tokenizer: None = None

    def encode(self, questions: list[Question]) -> list[Question]:
        return questions

    def run(self, questions: list[Question]) -> Iterator[Record]:
        for question in questions:
            answers = [
                dataclasses.replace(candidate(""), answer=verdict.answer, correct=verdict.correct)
                for verdict in self.task.judge(question, self.solutions)
            ]
            yield dataclasses.replace(record(question.id, answers), seconds=1.0)
