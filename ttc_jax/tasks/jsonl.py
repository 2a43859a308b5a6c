"""Rows of JSONL files, with errors that name the file and the line."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from ttc_jax.errors import UserError
from ttc_jax.text import check_name, check_text

Row = Mapping[str, Any]


def read_jsonl(path: str | PathLike[str]) -> Iterator[tuple[str, Row]]:
    """The rows of a file, each with where it stands ("FILE:LINE"); blank lines are skipped.

    A file that is one JSON list of rows is read too; there the row's number stands for the line.

    Raises:
        UserError: There is no such file, it cannot be read, or a line is not a JSON object in
            UTF-8.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: not a file")  # opening a named pipe would wait for ever
    try:
        lines = path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    with lines:
        is_list = lines.peek(1).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
        yield from (
            _parse_list(lines.read(), str(path)) if is_list else parse_jsonl(lines, str(path))
        )


def _parse_list(data: bytes, source: str) -> Iterator[tuple[str, Row]]:
    """The rows of one JSON list."""
    try:
        rows = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source}:1: not JSON: {error}") from error
    for i, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise UserError(f"{source}:{i}: expected a JSON object, found {str(row)[:40]!r}")
        yield f"{source}:{i}", row


def parse_jsonl(lines: Iterable[bytes], source: str) -> Iterator[tuple[str, Row]]:
    """The rows of lines, as `read_jsonl`; `source` is what errors call the file."""
    for i, line in enumerate(lines, start=1):
        text = line.removeprefix(b"\xef\xbb\xbf") if i == 1 else line
        if not text.strip():
            continue
        try:
            row = json.loads(text.decode())  # of bytes it would take surrogates, and UTF-16
        except (ValueError, RecursionError) as error:
            raise UserError(f"{source}:{i}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise UserError(f"{source}:{i}: expected a JSON object, found {text[:40]!r}")
        yield f"{source}:{i}", row


def text_field(row: Row, name: str, where: str) -> str:
    """A field that must hold text; a whole number is taken as its numeral (27.0 as "27").

    Raises:
        UserError: It is missing, empty, of another type or no Unicode.
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
    check_text(value, f"{where}: field {name!r}")
    return value


def name_field(row: Row, name: str, where: str) -> str:
    """As `text_field`, for a name: it must be printable."""
    value = text_field(row, name, where)
    check_name(value, f"{where}: field {name!r}")
    return value


def optional_field(
    row: Row, name: str, where: str, read: Callable[[Row, str, str], str] = text_field
) -> str:
    """As `read`, and "" where the field is missing, null or ""."""
    return "" if row.get(name) in (None, "") else read(row, name, where)
