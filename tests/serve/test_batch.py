"""Batches: files of requests in, files of answers out, and a kill between."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.serve.running import EASY, HARD, Running
from ttc_jax import cli
from ttc_jax.errors import UserError
from ttc_jax.serve import batch


def line(number: int, **changes: Any) -> dict[str, Any]:
    body = {"prompt": (EASY, HARD)[number % 2], "seed": number, "max_tokens": 20}
    found = {"custom_id": f"q{number}", "method": "POST", "url": "/v1/completions", "body": body}
    return found | changes


def write(path: Path, *lines: Any) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


def answered(running: Running, source: Path, target: Path) -> tuple[int, int]:
    return asyncio.run(batch.run(running.server.backend, source, target))


def test_a_batch_that_was_stopped_goes_on(running: Running, tmp_path: Path):
    wrong = line(4, body={"prompt": EASY, "temperature": -1})
    source = write(tmp_path / "in.jsonl", *map(line, range(4)), wrong)
    target = tmp_path / "out.jsonl"
    assert batch.check(source) == 5
    assert answered(running, source, target) == (5, 1)
    rows = {row["custom_id"]: row for row in map(json.loads, target.read_text().splitlines())}
    assert len(rows) == 5
    assert rows["q4"]["response"]["status_code"] == 400
    assert rows["q4"]["response"]["body"]["error"]["param"] == "temperature"
    whole = {name: rows[name]["response"]["body"]["choices"] for name in sorted(rows)[:4]}

    data = target.read_bytes()
    target.write_bytes(data[: len(data) // 2])  # as a kill leaves it, in the middle of a line
    left = 5 - data[: len(data) // 2].count(b"\n")
    count, _ = answered(running, source, target)
    assert count == left
    again = [json.loads(row) for row in target.read_text().splitlines()]
    assert sorted(row["custom_id"] for row in again) == sorted(rows)
    for row in again:
        if row["custom_id"] in whole:
            assert row["response"]["body"]["choices"] == whole[row["custom_id"]]
    assert answered(running, source, target) == (0, 0)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "no requests"),
        ([line(1), line(1)], "two requests have the custom_id 'q1'"),
        ([line(1, url="/v1/embeddings")], "in.jsonl:1: url"),
        ([line(1), {"custom_id": "q2"}], "in.jsonl:2: method"),
        ([line(1, body={"stream": True})], "no streams"),
        ([[]], "in.jsonl:1"),
    ],
    ids=str,
)
def test_a_file_that_is_no_batch_is_one_line(
    tmp_path: Path, lines: list[Any], message: str, capsys: pytest.CaptureFixture[str]
):
    source = write(tmp_path / "in.jsonl", *lines)
    with pytest.raises(UserError, match=message):
        batch.check(source)
    assert cli.main(["batch", str(source), str(tmp_path / "o"), "--config=serve"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_a_target_that_holds_something_else_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="o:1: custom_id"):
        batch.done(write(tmp_path / "o", {"mine": 1}))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["batch", "--config=serve"], "name both files"),
        (["serve", "--config=serve", "--port=x"], "--port=x"),
        (["serve", "--config=serve", "--workdir=w"], "leave it out"),
        (["serve", "--config=serve", "--config.serve.host=0.0.0.0"], "without a key"),
        (["serve", "--config=serve", "--config.serve.key_file=none"], "no such file"),
    ],
)
def test_a_command_that_cannot_be_is_one_line(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TTC_API_KEYS", raising=False)
    assert cli.main(argv) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
