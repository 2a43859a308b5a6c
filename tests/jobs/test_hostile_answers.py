"""A run whose model answers with what no parser survives: it goes on, and says what it met."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jobs.conftest import replace_recorder
from tests.tasks.test_grading import HOSTILE
from tests.training.toy import candidate, record
from ttc_jax.config import load_config
from ttc_jax.experiments.sections import task_of
from ttc_jax.jobs import run
from ttc_jax.results.store import Record, ResultsStore
from ttc_jax.tasks.grading import Grader
from ttc_jax.tasks.task import Question, Task

MATH = Path(__file__).parents[2] / "configs" / "math.py"
ANSWERS = (HOSTILE["tower"], HOSTILE["nest"], HOSTILE["ten megabytes"], r"\sqrt{4}")


@dataclasses.dataclass(frozen=True)
class Hostile:
    """Stands for a search: one answer of each kind, and a right one."""

    task: Task
    trees: frozenset[str] = frozenset()
    tokenizer: None = None

    def encode(self, questions: list[Question]) -> list[Question]:
        return questions

    def run(self, questions: list[Question]) -> Iterator[Record]:
        for question in questions:
            texts = [rf"\boxed{{{answer}}}" for answer in ANSWERS]
            answers = [
                dataclasses.replace(candidate(""), answer=verdict.answer, correct=verdict.correct)
                for verdict in self.task.judge(question, texts)
            ]
            yield dataclasses.replace(record(question.id, answers), seconds=1.0)


def test_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"problem": f"What is {n}+{n}?", "answer": str(2 * n)} for n in (1, 2)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = load_config(str(MATH), [f"--config.task.path={tmp_path}/rows.jsonl"])
    replace_recorder(monkeypatch, lambda _, task, *__, **___: Hostile(task))
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
