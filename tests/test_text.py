"""Texts and names at the doors: JSON rows, questions, samples, and the command line."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ttc_jax import cli
from ttc_jax.errors import UserError
from ttc_jax.results.foreign import read_samples
from ttc_jax.tasks.jsonl import name_field, read_jsonl, text_field
from ttc_jax.tasks.task import Question

SURROGATES = ["\ud800", "a\udc00", "\udfff" * 3, os.fsdecode(b"caf\xe9")]
CONTROLS = ["a\nb", "a\tb", "\0", "\x1b[31m", "a\x7f", "\x85", "\u2028", "\u2029"]
FINE = ["a b", "é", "\N{GRINNING FACE}", "日本", "e\u0301", "a\xa0b", "math/7 (b)"]


@pytest.mark.parametrize("text", [*SURROGATES, *CONTROLS])
def test_names_of_questions_are_printable(text: str) -> None:
    with pytest.raises(UserError, match="question .*: its id holds"):
        Question(text, "1+1?", "2")
    with pytest.raises(UserError, match="question 'q': its level holds"):
        Question("q", "1+1?", "2", level=text)


@pytest.mark.parametrize("field", ["text", "answer", "solution"])
@pytest.mark.parametrize("text", SURROGATES)
def test_texts_of_questions_are_unicode(field: str, text: str) -> None:
    fields: dict[str, Any] = {"id": "q", "text": "1+1?", "answer": "2", field: text}
    with pytest.raises(UserError, match=f"question 'q': its {field} holds what is no Unicode text"):
        Question(**fields)


@pytest.mark.parametrize("field", ["id", "text", "answer", "level", "solution"])
@pytest.mark.parametrize("value", [5, None, b"a", ["a"]])
def test_fields_of_questions_are_text(field: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"its {field} is .*; it must be text"):
        Question(**{"id": "q", "text": "1+1?", "answer": "2", field: value})


def test_whatever_else_may_be_asked() -> None:
    for text in FINE:
        assert Question(text, text, text, text, text).id == text
    for text in CONTROLS:
        assert Question("q", text, text, solution=text).text == text


def rows(path: Path, line: bytes) -> Path:
    path.write_bytes(line + b"\n")
    return path


@pytest.mark.parametrize("text", SURROGATES)
def test_rows_of_files_are_unicode(tmp_path: Path, text: str) -> None:
    path = rows(tmp_path / "q.jsonl", json.dumps({"question": text, "other": text}).encode())
    [(where, row)] = read_jsonl(path)
    with pytest.raises(UserError, match=r"q.jsonl:1: field 'question' holds what is no Unicode"):
        text_field(row, "question", where)


@pytest.mark.parametrize(
    "line", [b'{"question": "\xed\xa0\x80"}', b'{"question": "\xff"}', '{"a": 1}'.encode("utf-16")]
)
def test_rows_of_files_are_utf_8(tmp_path: Path, line: bytes) -> None:
    with pytest.raises(UserError, match=r"q.jsonl:1: not JSON"):
        list(read_jsonl(rows(tmp_path / "q.jsonl", line)))


@pytest.mark.parametrize("text", [*SURROGATES, *CONTROLS])
def test_names_in_files_are_printable(tmp_path: Path, text: str) -> None:
    [(where, row)] = read_jsonl(rows(tmp_path / "q.jsonl", json.dumps({"id": f"a{text}"}).encode()))
    with pytest.raises(UserError, match=r"q.jsonl:1: field 'id' holds"):
        name_field(row, "id", where)


@pytest.mark.parametrize("field", ["question", "strategy"])
@pytest.mark.parametrize("text", ["\ud800", "a\x1b[2J"])
def test_names_of_foreign_samples_are_printable(tmp_path: Path, field: str, text: str) -> None:
    sample = {"question": "q", "strategy": "beam", "correct": True, "score": 1, "tokens": 1}
    path = rows(tmp_path / "s.jsonl", json.dumps({**sample, field: text}).encode())
    with pytest.raises(UserError, match=rf"s.jsonl:1: {field} holds"):
        read_samples(path)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["run", "--config=configs/math.py", f"--workdir={SURROGATES[3]}"],
            "argument 3, '--workdir",
        ),
        (["solve", SURROGATES[0], "--config=configs/countdown.py:solve"], "argument 2, '\\ud800'"),
        (["run", "--config=configs/countdown.py", "--workdir=a\x1b[2Jb"], "--workdir=a\\x1b[2Jb"),
    ],
)
def test_arguments_are_unicode_and_workdirs_printable(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.rstrip("\n").isprintable()
