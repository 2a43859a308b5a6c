"""A run whose model answers with what no parser survives: it goes on, and says what it met."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.jobs.conftest import Graded, replace_recorder
from tests.tasks.test_grading import HOSTILE
from ttc_jax.config import load_config
from ttc_jax.experiments.sections import task_of
from ttc_jax.jobs import run
from ttc_jax.results.store import ResultsStore
from ttc_jax.tasks.grading import Grader

MATH = Path(__file__).parents[2] / "configs" / "math.py"
ANSWERS = (HOSTILE["tower"], HOSTILE["nest"], HOSTILE["ten megabytes"], r"\sqrt{4}")
SOLUTIONS = tuple(rf"\boxed{{{answer}}}" for answer in ANSWERS)


def test_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"problem": f"What is {n}+{n}?", "answer": str(2 * n)} for n in (1, 2)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = load_config(str(MATH), [f"--config.task.path={tmp_path}/rows.jsonl"])
    replace_recorder(monkeypatch, lambda _, task, *__, **___: Graded(task, SOLUTIONS))
    monkeypatch.setattr(Grader.__init__, "__defaults__", (2, 3.0, 512, 2000))  # shorter bounds
    workdir = tmp_path / "run"
    run.main(config, workdir)
    records = ResultsStore(workdir).read()
    ids = [question.id for question in task_of(config.task).questions("test")]
    assert [r.question for r in records] == ids
    correct = [[c.correct for c in r.candidates] for r in records]
    assert correct == [[False, False, False, right] for right in (True, False)]
    assert records[0].candidates[2].answer is None  # its box is out of sight
    lines = (workdir / "unparsed-00000.log").read_text().splitlines()
    reasons = [line.partition(": ")[0].removeprefix("answer not parsed, ") for line in lines]
    assert sorted(reasons) == ["over the bounds", "too long", "too long"]
    assert max(map(len, lines)) < 300
    run.main(config, workdir)  # nothing is left to grade
    assert (workdir / "unparsed-00000.log").read_text().splitlines() == lines
