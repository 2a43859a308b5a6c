"""Rows of JSONL files, with errors that name the file and the line."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from ttc_jax.errors import UserError
from ttc_jax.tasks.task import Question

Row = Mapping[str, Any]


def read_jsonl(path: str | PathLike[str]) -> Iterator[tuple[str, Row]]:
    """The rows of a file, each with where it stands ("FILE:LINE"); blank lines are skipped.

    Raises:
        UserError: There is no such file, it cannot be read, or a line is not a JSON object in
            UTF-8.
    """
    path = Path(path)
    try:
        lines = path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    with lines:
        yield from parse_jsonl(lines, str(path))


def parse_jsonl(lines: Iterable[bytes], source: str) -> Iterator[tuple[str, Row]]:
    """The rows of lines, as `read_jsonl`; `source` is what errors call the file."""
    for i, line in enumerate(lines, start=1):
        text = line.removeprefix(b"\xef\xbb\xbf") if i == 1 else line
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{source}:{i}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise UserError(f"{source}:{i}: expected a JSON object, found {text[:40]!r}")
        yield f"{source}:{i}", row


def text_field(row: Row, name: str, where: str) -> str:
    """A field that must hold text; a whole number is taken as its numeral (27.0 as "27").

    Raises:
        UserError: It is missing, empty or of another type.
    """
    if name not in row:
        raise UserError(f"{where}: field {name!r} is missing; found {', '.join(row) or 'none'}")
    value = row[name]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise UserError(f"{where}: field {name!r} must be text, found {type(value).__name__}")
    if not value.strip():
        raise UserError(f"{where}: field {name!r} is empty")
    return value


def load_questions(
    data_set: str,
    split: str,
    files: Mapping[str, str | PathLike[str]],
    to_question: Callable[[int, Row, str], Question],
) -> list[Question]:
    """The questions of a split, from its file or, when no split has a file, from TFDS.

    Args:
        data_set: A module of `ttc_jax.tasks.builders`.
        split: One of the names in `files`.
        files: A JSONL file for each split; "" for none.
        to_question: Makes a question from a row's number in the split, the row, and where it is.

    Raises:
        UserError: Of the split, the file, a row or the download; two questions have one id; or
            there are none.
    """
    if split not in files:
        raise UserError(f"{data_set} has no split {split!r}: choose from {', '.join(files)}")
    if files[split]:
        source, rows = str(files[split]), read_jsonl(files[split])
    elif any(files.values()):
        # Rows from elsewhere beside the user's own files could hold the same questions.
        raise UserError(f"{data_set}: files are given, but none for the split {split!r}: add one")
    else:
        from ttc_jax.tasks.builders import read_split

        source, rows = f"{data_set}/{split}", read_split(data_set, split)
    questions: dict[str, Question] = {}
    for i, (where, row) in enumerate(rows):
        question = to_question(i, row, where)
        if question.id in questions:
            raise UserError(f"{where}: a second question with the id {question.id!r}")
        questions[question.id] = question
    if not questions:
        raise UserError(f"{source}: no questions in it")
    return list(questions.values())
