"""Records as files of samples, in the format of `ttc_jax.results.foreign`."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from ttc_jax import files
from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.results.sample_files import Row
from ttc_jax.results.sample_rows import LARGEST
from ttc_jax.results.store import Candidate, Record

if TYPE_CHECKING:
    import pyarrow as pa

_GROUP: Final = 2**14  # rows of a Parquet file that are compressed together


def write_samples(path: Path, records: Sequence[Record]) -> int:
    """Writes a `.parquet` or `.jsonl` file, whole or not at all, and returns the number of samples.

    Raises:
      UserError: the disk is full or not writable; Parquet for a number that it cannot hold.
    """
    rows = itertools.chain.from_iterable(map(_rows, records))
    try:
        with files.replacing(path) as file:
            if path.suffix == ".parquet":
                _write_parquet(file, rows, max((_largest_cost(x) for x in records), default=0))
            else:
                _write_json_lines(file, rows)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; choose another --output") from error
    return sum(len(record.candidates) for record in records)


def _rows(record: Record) -> Iterator[Row]:
    """The samples of a record; what says nothing is left out."""
    about: dict[str, Any] = {
        "question": record.question,
        "strategy": record.strategy,
        "budget": record.budget,
        "seed": record.seed,
        **({"level": record.level} if record.level else {}),
        **({} if record.question_score is None else {"question_score": record.question_score}),
        **({"sequential": record.sequential} if record.sequential > 1 else {}),
        "cost": {name: cost for name, cost in record.ledger.to_dict().items() if cost},
    }
    for candidate in record.candidates:
        yield about | _fields(candidate)


def _fields(candidate: Candidate) -> Row:
    return {
        "answer": None if candidate.answer is None else _text(candidate.answer),
        "correct": bool(candidate.correct),
        "step_scores": [float(score) for score in candidate.step_scores],
        "tokens": candidate.generated,
        "text": _text(candidate.text),
        "log_prob": float(candidate.log_prob),
        **({} if candidate.finished else {"finished": False}),
        **({"unboxed": True} if candidate.unboxed else {}),
    }


def _text(text: str) -> str:
    """A text without halves of surrogate pairs, which a file may not hold."""
    return text.encode("utf-8", "replace").decode()


def _write_json_lines(file: BinaryIO, rows: Iterable[Row]) -> None:
    for row in rows:
        file.write(json.dumps(row, separators=(",", ":"), allow_nan=False).encode() + b"\n")


def _largest_cost(record: Record) -> int:
    return max(vars(record.ledger).values())


def _write_parquet(file: BinaryIO, rows: Iterable[Row], largest_cost: int) -> None:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    schema = _schema(largest_cost)
    with ParquetWriter(file, schema, compression="zstd") as writer:
        rows = iter(rows)
        while group := list(itertools.islice(rows, _GROUP)):
            try:
                table = pa.Table.from_pylist(group, schema)
            except (OverflowError, pa.ArrowInvalid) as error:
                raise UserError(
                    f"{group[0]['question']!r} or a question behind it: a whole number is too "
                    "large for Parquet; choose an --output that ends in .jsonl"
                ) from error
            writer.write_table(table)


def _schema(largest_cost: int) -> pa.Schema:
    """The columns; those that may be left out of a row are null there.

    Costs are integers of 64 bits; where one is larger, as FLOPs may be, decimal numbers of 38
    digits, and exact as well.
    """
    import pyarrow as pa

    text, whole, real, truth = pa.string(), pa.int64(), pa.float64(), pa.bool_()
    cost = whole if largest_cost <= LARGEST else pa.decimal128(38)
    columns = {
        "question": text,
        "strategy": text,
        "budget": whole,
        "seed": whole,
        "level": text,
        "question_score": real,
        "sequential": whole,
        "cost": pa.struct(dict.fromkeys(Ledger().to_dict(), cost)),
        "answer": text,
        "correct": truth,
        "step_scores": pa.list_(real),
        "tokens": whole,
        "text": text,
        "log_prob": real,
        "finished": truth,
        "unboxed": truth,
    }
    return pa.schema(columns)
