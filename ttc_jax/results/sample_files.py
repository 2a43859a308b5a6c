"""Files of samples: their rows, one at a time, from JSON lines or Parquet."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic_core import from_json

from ttc_jax.errors import UserError

SUFFIXES: Final = (".jsonl", ".parquet")
# What search-and-learn and lm-evaluation-harness call the files in their output folders.
_NAMES: Final = ("**/*_completions.jsonl", "**/samples_*.jsonl", "*.parquet")
_BATCH: Final = 256  # rows of a Parquet file that are held at a time

Row = dict[str, Any]


def sample_files(path: Path) -> list[Path]:
    """The files of samples that a path stands for; none for a workdir.

    A `.jsonl` or `.parquet` file is one, there or not; a folder stands for all `.parquet` files in
    it, and those below it that are named as search-and-learn and lm-evaluation-harness name them.
    """
    if not path.is_dir():
        return [path] if path.suffix in SUFFIXES else []
    if (path / "results").is_dir():
        return []
    return sorted(found for name in _NAMES for found in path.glob(name) if found.is_file())


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """The rows of a file with their numbers from 1; blank lines are skipped.

    Raises:
      UserError: an unreadable file, or a row that is no object of fields (file:line).
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: not a file")  # opening a named pipe would wait for ever
    try:
        yield from _parquet(path) if path.suffix == ".parquet" else _json_lines(path)
    except OSError as error:
        reason = error.strerror or str(error).partition("\n")[0][:200]
        raise UserError(f"{path}: {reason}; it must be a readable file") from error


def _json_lines(path: Path) -> Iterator[tuple[int, Row]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.isspace():
                continue
            try:
                row = _object(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{path}:{number}: {error}; mend this line") from error
            yield number, row


def _object(line: bytes) -> Row:
    line = line.removeprefix(codecs.BOM_UTF8)
    try:
        row = from_json(line)  # three times as fast as json
    except ValueError:  # which says better what is wrong, and lets halves of surrogate pairs pass
        row = json.loads(line.decode())
    if not isinstance(row, dict):
        raise ValueError("not an object of fields, as {...}")
    return row


def _parquet(path: Path) -> Iterator[tuple[int, Row]]:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    # Every row has all columns: what is left out of one is null, but an answer that
                    # is null is none.
                    yield number, {k: x for k, x in row.items() if x is not None or k == "answer"}
    except (pa.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise UserError(f"{path}: not Parquet, or damaged ({reason}); copy it anew") from error
