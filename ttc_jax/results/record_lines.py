"""Records as lines of JSON, each with a checksum of all before it."""

from __future__ import annotations

import json
import math
import numbers
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.results.records import Candidate, Choice, Node, Record

AGAIN = "or delete this line and run again"
_MADE_WITH, _CHECKSUM = "made_with", "crc32"  # the last fields of a line
_MARK = f',"{_CHECKSUM}":"'.encode()
_END = len(_MARK) + 8 + len(b'"}')  # bytes of a line's checksum


def encode(record: Record, made_with: Mapping[str, str]) -> bytes:
    """The line of a record.

    Args:
        made_with: digests of what it was made with, by name; none: the line does not say.

    Raises:
        UserError: a value that must not be stored, such as a NaN score (names the question).
    """
    return _sealed(_encode(record, made_with))


def _sealed(row: str) -> bytes:
    """The line of a JSON object, with a checksum as its last field."""
    body = row[:-1].encode("ascii")
    return b'%b%b%08x"}\n' % (body, _MARK, zlib.crc32(body))


def _encode(record: Record, made_with: Mapping[str, str]) -> str:
    if problem := _problem(record):
        raise UserError(
            f"question {record.question!r}: {problem}, so its record was not stored; check the "
            "weights of the generator and the verifier"
        )
    row = {
        "question": record.question,
        "strategy": record.strategy,
        "budget": int(record.budget),
        "seed": int(record.seed),
        "sequential": int(record.sequential),
        "level": record.level,
        "seconds": float(record.seconds),
        "question_score": record.question_score,
        "ledger": record.ledger.to_dict(),
        "candidates": [_row_of(candidate) for candidate in record.candidates],
        "tree": [vars(node) for node in record.tree],
    }
    if (choice := record.choice) is not None:
        row["choice"] = vars(choice) | {"chosen": _row_of(choice.chosen)}
    if made_with:
        row[_MADE_WITH] = dict(made_with)
    return json.dumps(row, separators=(",", ":"), allow_nan=False)


def _row_of(candidate: Candidate) -> dict[str, Any]:
    return {
        "tokens": [int(token) for token in candidate.tokens],
        "text": candidate.text,
        "finished": bool(candidate.finished),
        "log_prob": float(candidate.log_prob),
        "step_scores": [float(score) for score in candidate.step_scores],
        "answer": candidate.answer,
        "correct": bool(candidate.correct),
        "step_values": [float(value) for value in candidate.step_values],
        **({"unboxed": True} if candidate.unboxed else {}),
        **({"thought": int(candidate.thought)} if candidate.thought else {}),
        **({"token_count": candidate.token_count} if candidate.token_count else {}),
    }


def decode(line: bytes, where: str) -> tuple[Record, dict[str, str]]:
    """The record in a whole line, and the digests of what it was made with.

    Raises:
        UserError: a line that is not a record, or is damaged; `where` says which.
    """
    body, end = line[: -_END - 1], line[-_END - 1 :]
    checked = end.startswith(_MARK) and end.endswith(b'"}\n')
    if checked and end[len(_MARK) : -3] != b"%08x" % zlib.crc32(body):
        raise UserError(f"{where}: damaged (its checksum does not fit); put back a copy, {AGAIN}")
    try:
        row = json.loads(line)
        if row.pop(_CHECKSUM, "") and not checked:
            raise ValueError(f"the field {_CHECKSUM} does not end it as it was written")
        made_with = row.pop(_MADE_WITH, {})
        if not isinstance(made_with, dict):
            raise ValueError(f"{_MADE_WITH} holds no digests")
        record = _record(row)
        if not (problem := _problem(record)):
            return record, made_with
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        problem = f"{type(error).__name__}: {error}"
    raise UserError(f"{where}: not a record ({problem}); delete this line and run again")


def _record(row: dict[str, Any]) -> Record:
    candidates = tuple(map(_candidate, row["candidates"]))
    tree = tuple(Node(**node) for node in row.get("tree", ()))
    ledger = Ledger.from_dict(row["ledger"])
    choice = None
    if (held := row.get("choice")) is not None:
        texts = tuple(held["texts"])
        choice = Choice(**held | {"chosen": _candidate(held["chosen"]), "texts": texts})
    parts = {"candidates": candidates, "ledger": ledger, "tree": tree, "choice": choice}
    return Record(**row | parts)


def _candidate(row: dict[str, Any]) -> Candidate:
    lists: dict[str, Any] = {
        "tokens": tuple(row["tokens"]),
        "step_scores": tuple(row["step_scores"]),
        "step_values": tuple(row.get("step_values", ())),
    }
    return Candidate(**row | lists)


def _problem(record: Record) -> str:
    """What must not be stored, nor come back, in words; "" for a sound record."""
    ids = (record.question, record.strategy, record.level)
    whole = (record.budget, record.seed, record.sequential)
    if not (_all(ids, str) and _all(whole, numbers.Integral)):
        return "question, strategy and level must be text, budget, seed and sequential integers"
    if record.sequential < 1 or len(record.candidates) % record.sequential:
        return f"{len(record.candidates)} candidates are not chains of {record.sequential}"
    if not _finite((record.seconds,)):
        return f"seconds is {record.seconds}"
    if record.question_score is not None and not _finite((record.question_score,)):
        return f"question_score is {record.question_score}"
    for index, candidate in enumerate(record.candidates):
        if problem := _problem_of_candidate(candidate):
            return f"candidate {index}: {problem}"
    if (choice := record.choice) is not None:
        if problem := _problem_of_candidate(choice.chosen):
            return f"choice: {problem}"
        if not _all(choice.texts, str):
            return "choice: texts must be text"
        if type(choice.unread) is not int or not 0 <= choice.unread <= len(choice.texts):
            return "choice: unread must be a number of its texts"
    for index, node in enumerate(record.tree):
        if problem := _problem_of_node(node, index, len(record.candidates)):
            return f"tree, node {index}: {problem}"
    return ""


def _problem_of_candidate(candidate: Candidate) -> str:
    if not _all(candidate.tokens, numbers.Integral):
        return "tokens must be integers"
    if not (_all((candidate.text,), str) and _all((candidate.answer,), (str, type(None)))):
        return "text and answer must be text"
    if not _all((candidate.finished, candidate.correct), (bool, np.bool_)):
        return "finished and correct must be true or false"
    if not isinstance(candidate.unboxed, bool):
        return "unboxed must be true or false"
    if type(candidate.thought) is not int or not 0 <= candidate.thought <= len(candidate.tokens):
        return "thought must be a number of its tokens"
    if type(candidate.token_count) is not int or candidate.token_count < 0:
        return "token_count must be a number of tokens"
    if not _finite((candidate.log_prob,)):
        return f"log_prob is {candidate.log_prob}"
    for name in ("step_scores", "step_values"):
        if not _finite(values := getattr(candidate, name)):
            return f"{name} is {values}"
    return ""


def _problem_of_node(node: Node, index: int, candidates: int) -> str:
    ends = () if node.candidate is None else (node.candidate,)
    if not (_all((node.parent, node.round, *ends), numbers.Integral) and _all((node.text,), str)):
        return "parent, round and candidate must be integers, text text"
    if not -1 <= node.parent < index:
        return f"its parent is {node.parent}"
    if ends and not 0 <= ends[0] < candidates:
        return f"its candidate is {node.candidate} of {candidates}"
    if node.score is not None and not _finite((node.score,)):
        return f"score is {node.score}"
    return ""


def _all(values: Sequence[Any], kinds: type | tuple[type, ...]) -> bool:
    # By type first: tokens are many, their types few.
    return all(issubclass(kind, kinds) for kind in set(map(type, values)))


def _finite(values: Sequence[Any]) -> bool:
    return _all(values, numbers.Real) and all(map(math.isfinite, values))
