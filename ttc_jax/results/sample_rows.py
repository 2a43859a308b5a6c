"""One sample as a row of fields: checked, and made into a candidate of a record."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple

from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.results.store import Candidate
from ttc_jax.text import check_name, check_text

_REQUIRED: Final = frozenset({"question", "tokens"})
_ABOUT: Final = frozenset({"level", "question_score", "sequential", "cost"})
_OPTIONAL: Final = frozenset(
    {"answer", "gold", "strategy", "budget", "seed", "text", "log_prob", "finished", "unboxed"}
)
_FIELDS: Final = _REQUIRED | _OPTIONAL | _ABOUT | {"score", "step_scores", "correct"}
LARGEST: Final = 2**63 - 1  # of whole numbers: what tables of other programs hold
LARGEST_COST: Final = 10**38 - 1  # of FLOPs, which are many
_REMEMBERED: Final = 2**14  # texts of each kind: answers repeat, and names do
Key = tuple[str, str, int | None, int]  # question, strategy, budget as given, seed
Read = Callable[[str, str], tuple[str | None, bool]]


class Sample(NamedTuple):
    """A row that has been checked.

    Attributes:
      candidate: its answer is not yet graded where `gold` is not None.
      about: what it says of its question's record; all samples of that must say the same.
      gold: what the answer is to be compared with; None: it says itself whether it is right.
    """

    key: Key
    candidate: Candidate
    about: Mapping[str, Any]
    gold: str | None


def read_sample(row: Mapping[str, Any], number: int, read: Read, *, texts: bool = True) -> Sample:
    """Checks a row.

    Args:
      number: its place in the file, which stands for its answer where answers are not named.
      read: the final answer of a text, given the text in which the right answer stands, and whether
        it is in no box.
      texts: whether the candidate holds its text.

    Raises:
      ValueError: a field that is missing, unknown or of another kind, or fields that do not go
        together. UserError: a text that is none.
    """
    says_more, graded_here = _check_fields(tuple(row))
    return Sample(
        _key(row),
        _candidate(row, number, read if graded_here else None, texts),
        _about(row) if says_more else {},
        _text(row, "gold") if graded_here else None,
    )


@functools.lru_cache
def _check_fields(fields: tuple[str, ...]) -> tuple[bool, bool]:
    """Refuses fields that do not go together; most lines have those of the line before.

    Returns:
      Whether there are any of the record, and whether the answer is to be read and graded.
    """
    if unknown := set(fields) - _FIELDS:
        raise ValueError(f"field {min(unknown)!r} is unknown; choose {', '.join(sorted(_FIELDS))}")
    if missing := _REQUIRED.difference(fields):
        raise ValueError(f"{min(missing)!r} is missing")
    if ("score" in fields) == ("step_scores" in fields):
        raise ValueError("give either 'score' or 'step_scores' ([] without a verifier)")
    graded_here = "gold" in fields and not {"answer", "correct"}.intersection(fields)
    told = "correct" in fields or {"answer", "gold"}.issubset(fields)
    if not told and not (graded_here and "text" in fields):
        raise ValueError("give 'correct', or 'answer' and 'gold', or 'text' and 'gold'")
    return not _ABOUT.isdisjoint(fields), graded_here


def _key(row: Mapping[str, Any]) -> Key:
    return (
        _text(row, "question"),
        _text(row, "strategy") if "strategy" in row else "best_of_n",
        _integer(row, "budget", least=1) if "budget" in row else None,
        _integer(row, "seed") if "seed" in row else 0,
    )


def _about(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row says of its record, as the fields of that."""
    found: dict[str, Any] = {}
    if "level" in row:
        found["level"] = _text(row, "level")
    if "question_score" in row:
        found["question_score"] = _number(row, "question_score")
    if "sequential" in row:
        found["sequential"] = _integer(row, "sequential", least=1)
    if "cost" in row:
        if not isinstance(row["cost"], Mapping):
            raise ValueError(f"cost is {row['cost']!r:.60}; it must be an object of costs by name")
        try:
            costs = {name: _whole(cost) for name, cost in row["cost"].items() if cost is not None}
            for name, cost in costs.items():
                if isinstance(cost, int) and abs(cost) > LARGEST_COST:
                    raise ValueError(f"cost: {name} is {_short(cost)}; it must be below 10^38")
            found["ledger"] = Ledger.from_dict(costs)
        except TypeError as error:
            raise ValueError(f"cost: {error}; it must hold whole numbers by name") from error
    return found


def _candidate(row: Mapping[str, Any], number: int, read: Read | None, texts: bool) -> Candidate:
    """The sample of a row; with `read` its answer is read from its text, and not yet graded."""
    text = _text(row, "text") if "text" in row else ""
    correct, unboxed = False, _flag(row, "unboxed", False)
    if read is not None:
        answer, unboxed = read(text, _text(row, "gold"))
    elif "answer" not in row:
        answer = f"line {number}"
    else:
        answer = None if row["answer"] is None else _text(row, "answer")
    if "correct" in row:
        correct = _flag(row, "correct", False)
    elif read is None:
        correct = answer == _text(row, "gold")
    if correct and answer is None:
        raise ValueError("correct without an answer; a sample whose answer is null is never right")
    return Candidate(
        tokens=(),
        text=text if texts else "",
        finished=_flag(row, "finished", True),
        log_prob=_number(row, "log_prob") if "log_prob" in row else 0.0,
        step_scores=_scores(row),
        answer=answer,
        correct=correct,
        unboxed=unboxed,
        token_count=_integer(row, "tokens", least=0),
    )


def _flag(row: Mapping[str, Any], name: str, default: bool) -> bool:
    value = row.get(name, default)
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; it must be true or false")
    return value


def _number(row: Mapping[str, Any], name: str) -> float:
    value = row[name]
    if not (_is_number(value) and abs(value) <= sys.float_info.max):
        raise ValueError(f"{name} is {value!r}; it must be a finite number")
    return float(value)


def _scores(row: Mapping[str, Any]) -> tuple[float, ...]:
    scores = [row["score"]] if "score" in row else row["step_scores"]
    if not isinstance(scores, list):
        raise ValueError("step_scores must be a list of numbers")
    for score in scores:
        if type(score) is float and 0.0 <= score <= 1.0:  # nearly all are, and there are millions
            continue
        # Whatever is not in the interval, a NaN among it.
        if not (_is_number(score) and 0 <= score <= 1):
            raise ValueError(f"a score is {score!r}; bring scores to [0, 1]")
    return tuple(map(float, scores))


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row[name]
    if not isinstance(value, str):
        raise ValueError(f'{name} is {value!r}; it must be text, as "42"')
    if name == "text":  # of which there are too many, and too long ones, to remember
        check_text(value, name)
        return value
    return _checked(value, name)


@functools.lru_cache(_REMEMBERED)
def _checked(value: str, name: str) -> str:
    """Returns the text, the same object for equal ones, which saves memory.

    Raises:
      UserError: it is none that `name` may hold.
    """
    if name in ("question", "strategy"):
        if not value:
            raise UserError(f'{name} is ""; name the {name}')
        check_name(value, name)
    else:
        check_text(value, name)
    return value


def _integer(row: Mapping[str, Any], name: str, least: int | None = None) -> int:
    value = _whole(row[name])
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} is {value!r:.60}; it must be an integer")
    if abs(value) > LARGEST:
        raise ValueError(f"{name} is {_short(value)}; it must be an integer of 64 bits")
    if least is not None and value < least:
        raise ValueError(f"{name} is {value}; it must be at least {least}")
    return value


def _whole(value: Any) -> Any:
    """Returns the integer that a decimal number of Parquet is; what is none as it is."""
    if isinstance(value, Decimal) and value == value.to_integral_value():
        return int(value)
    return value


def _short(value: int) -> str:
    digits = str(value)
    return digits if len(digits) <= 40 else f"{digits[:20]}… ({len(digits)} characters)"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
