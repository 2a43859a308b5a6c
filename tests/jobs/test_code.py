"""A run on questions that ask for programs: votes, pass@N, and what is on the record."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jobs.conftest import replace_recorder
from tests.tasks.hostile_programs import HEAD
from tests.training.toy import candidate, record
from ttc_jax.config import load_config
from ttc_jax.errors import UserError
from ttc_jax.files import read_json
from ttc_jax.jobs import run
from ttc_jax.results.store import Record, ResultsStore
from ttc_jax.tasks.code.executor import Executor
from ttc_jax.tasks.task import Question, Task

CODE = Path(__file__).parents[2] / "configs" / "code.py"
ROW = {
    "task_id": 11,
    "prompt": "Write a function that adds.",
    "test_list": ["assert add(1, 2) == 3", "assert add(2, 2) == 4"],
}
ANSWERS = (
    "def add(x, y): return x + y",
    "```python\ndef add(a, b):\n    return sum((a, b))\n```",
    "def add(x, y): return x * y",
    f"{HEAD}def add(x, y):\n for n in range(64): os.write(n, b'[\"passed\"]')\n os._exit(0)",
)


@dataclasses.dataclass(frozen=True)
class Written:
    """Stands for a search: four programs for each question."""

    task: Task
    trees: frozenset[str] = frozenset()
    tokenizer: None = None

    def encode(self, questions: list[Question]) -> list[Question]:
        return questions

    def run(self, questions: list[Question]) -> Iterator[Record]:
        for question in questions:
            answers = [
                dataclasses.replace(candidate(""), answer=verdict.answer, correct=verdict.correct)
                for verdict in self.task.judge(question, ANSWERS)
            ]
            yield dataclasses.replace(record(question.id, answers), seconds=1.0)


def test_votes_and_pass_at_n(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    try:
        Executor("isolated", workers=1).ready()
    except UserError as error:
        pytest.skip(str(error))
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROW) + "\n")
    overrides = [f"--config.task.path={path}", "--config.task.execute=isolated"]
    config = load_config(f"{CODE}:mbpp", [*overrides, "--config.sampling.n=4"])
    replace_recorder(monkeypatch, lambda _, task, *__, **___: Written(task))
    run.main(config, tmp_path / "run")
    [stored] = ResultsStore(tmp_path / "run").read()
    assert [x.correct for x in stored.candidates] == [True, True, False, False]
    one, other, wrong, hostile = (x.answer for x in stored.candidates)
    assert one == other not in (None, wrong, hostile)
    summary = read_json(tmp_path / "run" / "summary.json")
    earned = {
        rule: {n: each["mean"] for n, each in by_n.items()}
        for rule, by_n in summary["accuracy"].items()
    }
    assert earned["majority"]["4"] == 1
    assert earned["pass"]["1"] == 0.5
    assert earned["pass"]["2"] == pytest.approx(
        1 - 1 / 6, abs=1e-6
    )  # 1 of 6 pairs has no right one
    assert summary["config"]["task"]["execute"] == "isolated"
