"""A run on questions that ask for programs: votes, pass@N, and what is on the record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.jobs.conftest import Graded, replace_recorder
from tests.tasks.hostile_programs import HEAD
from ttc_jax.config import load_config
from ttc_jax.errors import UserError
from ttc_jax.files import read_json
from ttc_jax.jobs import run
from ttc_jax.results.store import ResultsStore
from ttc_jax.tasks.code.executor import Executor

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


def test_votes_and_pass_at_n(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    try:
        Executor("isolated", workers=1).ready()
    except UserError as error:
        pytest.skip(str(error))
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROW) + "\n")
    overrides = [f"--config.task.path={path}", "--config.task.execute=isolated"]
    config = load_config(f"{CODE}:mbpp", [*overrides, "--config.sampling.n=4"])
    replace_recorder(monkeypatch, lambda _, task, *__, **___: Graded(task, ANSWERS))
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
    # One of six pairs has no right one.
    assert earned["pass"]["2"] == pytest.approx(1 - 1 / 6, abs=1e-6)
    assert summary["config"]["task"]["execute"] == "isolated"
