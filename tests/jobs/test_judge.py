"""The job `judge`: scores, records and the report, also after an interruption."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict

from tests.jobs.conftest import changed
from ttc_jax.config import load_config
from ttc_jax.errors import UserError
from ttc_jax.experiments.judging import solutions_of
from ttc_jax.files import read_json
from ttc_jax.jobs import judge
from ttc_jax.results.store import ResultsStore
from ttc_jax.tasks.countdown import Countdown
from ttc_jax.verifiers.scorer import Scorer
from ttc_jax.verifiers.texts import TextVerifier

CONFIG = Path(__file__).parents[2] / "configs" / "judge.py"


class Marks(TextVerifier):
    """Finds every mark but one."""

    def score_texts(self, question: str, solutions: Sequence[str]) -> list[float]:
        return [0.1 if "wrong" in text.splitlines()[-1] else 0.9 for text in solutions]


def configure(variant: str, **changes: Any) -> ConfigDict:
    overrides = [f"--config.{name.replace('__', '.')}={value}" for name, value in changes.items()]
    return load_config(f"{CONFIG}:{variant}", overrides)


@pytest.fixture(scope="module")
def config(trained_generator: Path, trained_prm: Path, samples: Path) -> ConfigDict:
    """Answers of a collection, judged by a PRM."""
    return configure(
        "countdown",
        data__path=samples,
        data__held_out=0.3,
        task__size=16,
        task__seed=1,
        split="train",
        generator__path=trained_generator / "model",
        verifier__path=trained_prm / "model",
        execution__rows=4,
    )


@pytest.fixture(scope="module")
def finished(config: ConfigDict, tmp_path_factory) -> Path:
    """The workdir of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp("judge")
    judge.main(config, workdir)
    return workdir


def scores(workdir: Path) -> dict[str, tuple[float, ...]]:
    return {x.question: x.candidates[0].step_scores for x in ResultsStore(workdir).read()}


def test_every_answer_is_labelled_by_the_task_and_scored(config: ConfigDict, finished: Path):
    task, solutions = Countdown(size=16, seed=1), solutions_of(config)
    questions = {question.text: question for question in task.questions("train")}
    found = scores(finished)
    assert len(found) == len(solutions) > 20
    for solution in solutions:
        [verdict] = task.judge(questions[solution.problem], ["\n".join(solution.steps)])
        assert verdict.correct == (solution.label == -1)
        assert len(found[solution.id]) == len(solution.steps)
    summary = read_json(finished / "summary.json")
    assert summary["labels"]["3"]["wrong"] == sum(x.label >= 0 for x in solutions)
    assert summary["threshold"]["chosen_on"]["solutions"] > 0
    assert summary["ledger"]["verifier_tokens"] > 0
    assert summary["ledger"]["prefill_tokens"] == 0
    rows = list(csv.DictReader((finished / "judge.csv").read_text().splitlines()))
    assert [row["measure"] for row in rows] == ["accuracy_wrong", "accuracy_right", "f1"]
    assert float(rows[2]["mean"]) == summary["subsets"]["3"]["f1"]["mean"]
    assert (finished / "judge.png").stat().st_size > 0


def test_what_was_interrupted_goes_on_to_the_same_bytes(
    config: ConfigDict, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    read, calls = Scorer._read, []

    def interrupted(self: Scorer, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return read(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Scorer, "_read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            judge.main(config, tmp_path)
    begun = scores(tmp_path)
    assert 0 < len(begun) < len(scores(finished))
    judge.main(config, tmp_path)
    assert scores(tmp_path) == scores(finished)
    for name in ("summary.json", "judge.csv", "judge.svg"):
        assert (tmp_path / name).read_bytes() == (finished / name).read_bytes()
    # The same scores, reported anew with a threshold that is given: no model is read.
    monkeypatch.setattr(judge, "judge_of", None)
    judge.main(changed(config, judge__threshold=0.5), tmp_path)
    summary = read_json(tmp_path / "summary.json")
    assert summary["threshold"] == {"value": 0.5}
    assert summary["subsets"]["3"]["solutions"] == len(begun | scores(finished))
    with pytest.raises(UserError, match="belongs to another config: verifier.path"):
        judge.main(changed(config, verifier__path="embedded:orm"), tmp_path)


def test_a_verifier_of_texts_on_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = [
        {"problem": f"{i}?", "steps": ["a", "wrong b", "c"], "label": 1 if i % 4 else 2}
        for i in range(40)
    ]
    rows += [{"problem": f"{i}?", "steps": ["a"], "label": -1} for i in range(40)]
    (tmp_path / "own.json").write_text(json.dumps(rows))
    config = configure("confidence", data__path=tmp_path / "own.json")
    config.verifier.path = f"{__name__}:Marks"
    judge.main(config, tmp_path / "w")
    row = read_json(tmp_path / "w" / "summary.json")["subsets"]["own"]
    assert row["accuracy_right"]["mean"] == 1
    assert row["accuracy_wrong"]["mean"] == pytest.approx(0.75, abs=0.1)
    printed = capsys.readouterr().out
    assert "held-out questions" in printed
    assert "with a wrong step" in printed


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data__path": ""}, "--config.data.path=: name a file or folder of labelled solutions"),
        ({"verifier__path": ""}, "--config.verifier.path=: name the verifier that is to be judged"),
        ({"generator__path": ""}, "--config.generator.path=: the verifier reads the generator's"),
        ({"task__name": "gsm8k"}, r"task.s\w+: gsm8k has no such field"),
        ({"split": "test"}, "is no question of this task and split"),
    ],
)
def test_mistakes_are_named_and_leave_the_workdir_free(
    config: ConfigDict, tmp_path: Path, changes: dict[str, Any], said: str
):
    with pytest.raises(UserError, match=said):
        judge.main(changed(config, **changes), tmp_path / "w")
    assert not (tmp_path / "w" / "config.json").exists()


def test_a_task_that_labels_nothing_is_named(config: ConfigDict):
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.task = {"name": "tests.trust.own:Whole"}
    with pytest.raises(UserError, match="does not tell wrong steps .it has no method first_wrong"):
        solutions_of(config)
