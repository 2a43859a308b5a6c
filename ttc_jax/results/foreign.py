"""Samples that were drawn and scored elsewhere, as JSON lines: policies and reports without models.

A `.jsonl` file holds one sampled answer a line, in any order; samples of a question keep theirs.

    {"question": "math/7", "answer": "42", "gold": "42", "score": 0.93, "tokens": 310}
    {"question": "math/7", "answer": "41", "correct": false, "step_scores": [0.8, 0.1], "tokens": 9}

Fields of every line:

    question     text: the question's id
    tokens       integer: tokens that were generated for this answer
    score        number in [0, 1]: the verifier's of the whole answer; or instead of it
    step_scores  list of numbers in [0, 1]: of each step; [] without a verifier
    correct      true or false; where it is not given, whether "answer" and "gold" are the same text

Fields that may be left out:

    answer       the final answer in canonical form, as equal texts vote together; null: the sample
                 holds none, and is never right. A file that names no answers is read as if all were
                 different: every vote then falls to the sample of the highest score.
    gold         the right answer, as text
    strategy     "best_of_n": independent samples. "difficulty" names samples that say how hard a
                 question is and are not scored themselves; any other name is a search of yours
    budget       generations that the samples of this question, strategy and seed cost together;
                 default: their number. Give it where a strategy was run at several budgets
    seed         integer, 0: repetitions of the whole experiment
    text         the sample itself
    log_prob     its log-probability, in nats

Questions of one strategy, budget and seed have equally many samples. From the outputs of vLLM, with
`score(text)` a reward model's and `final(text)` its answer:

    for request, question in zip(llm.generate(prompts, params), questions):
        for sample in request.outputs:
            row = {"question": question.id, "answer": final(sample.text), "gold": question.gold,
                   "score": score(sample.text), "tokens": len(sample.token_ids)}
            print(json.dumps(row), file=file)
"""

from __future__ import annotations

import codecs
import contextlib
import dataclasses
import functools
import gc
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic_core import from_json

from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.results.store import Candidate, Record, ResultsStore
from ttc_jax.text import check_name, check_text

_REQUIRED: Final = frozenset({"question", "tokens"})
_OPTIONAL: Final = frozenset({"answer", "gold", "strategy", "budget", "seed", "text", "log_prob"})
_FIELDS: Final = _REQUIRED | _OPTIONAL | {"score", "step_scores", "correct"}
_REMEMBERED: Final = 2**14  # texts of each kind: answers repeat, and names do
_Key = tuple[str, str, int | None, int]  # question, strategy, budget as given, seed


@dataclasses.dataclass
class _Group:
    """Samples that become one record."""

    candidates: list[Candidate] = dataclasses.field(default_factory=list)
    tokens: int = 0
    line: int = 0  # of the last sample


def read_records(path: Path) -> list[Record]:
    """Records of a workdir, or of a `.jsonl` file of samples that were scored elsewhere.

    Raises:
      UserError: a file of another kind, and as `ResultsStore.read` and `read_samples`.
    """
    path = Path(path)
    if is_file_of_samples(path):
        return read_samples(path)
    if path.is_file():
        raise UserError(f"{path}: neither a workdir nor a .jsonl file of samples")
    return ResultsStore(path).read()


def is_file_of_samples(path: Path) -> bool:
    """Whether the path says so; what is not there may be either."""
    return path.suffix == ".jsonl" and not path.is_dir()


def read_samples(path: Path) -> list[Record]:
    """Records of a file in the format above, in the order in which their first samples stand.

    Args:
      path: is read line by line; a million samples are well.

    Raises:
      UserError: an unreadable or empty file, or a line that the format does not allow (file:line).
    """
    groups: dict[_Key, _Group] = {}
    answers_named = None
    path = Path(path)
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: not a file")  # opening a named pipe would wait for ever
    try:
        with path.open("rb") as file, _no_collection():
            for number, line in enumerate(file, 1):
                if line.isspace():
                    continue
                try:
                    row = _row(line)
                    key = _key(row)
                    group = groups.get(key)
                    if group is None:
                        group = groups[key] = _Group()
                    group.candidates.append(_candidate(row, number))
                    group.tokens += _integer(row, "tokens", least=0)
                    group.line = number
                    if answers_named is not ("answer" in row):
                        if answers_named is not None:
                            raise ValueError("'answer' is named on some lines and not on others")
                        answers_named = "answer" in row
                except (UserError, ValueError, RecursionError) as error:
                    raise UserError(f"{path}:{number}: {error}; mend this line") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; it must be a readable file") from error
    if not groups:
        raise UserError(f"{path}: holds no samples; write one JSON object a line")
    return _records(path, groups)


def _records(path: Path, groups: Mapping[_Key, _Group]) -> list[Record]:
    records: dict[tuple[str, str, int, int], Record] = {}
    first: dict[tuple[str, int | None, int], tuple[str, int]] = {}
    for (question, strategy, given, seed), group in groups.items():
        count, where = len(group.candidates), f"{path}:{group.line}"
        other, expected = first.setdefault((strategy, given, seed), (question, count))
        if count != expected:
            raise UserError(
                f"{where}: {question!r} has {count} samples of {strategy!r}, seed {seed}, and "
                f"{other!r} has {expected}; all questions need equally many"
            )
        budget = count if given is None else given
        if budget < count:
            raise UserError(
                f"{where}: {question!r} has {count} samples of {strategy!r} at budget {budget}; "
                "budget counts all generations of the question"
            )
        cost = Ledger(generations=budget, decode_tokens=group.tokens)
        record = Record(question, strategy, budget, seed, tuple(group.candidates), cost)
        if record.key in records:
            raise UserError(
                f"{where}: {question!r} has samples of {strategy!r}, seed {seed}, with and without "
                f"budget {budget}; name it on all lines or on none"
            )
        records[record.key] = record
    return list(records.values())


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Looks for no cycles of objects meanwhile: of a million samples none is in one."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _row(line: bytes) -> dict[str, Any]:
    line = line.removeprefix(codecs.BOM_UTF8)
    try:
        row = from_json(line)  # three times as fast as json
    except ValueError:  # which says better what is wrong, and lets halves of surrogate pairs pass
        row = json.loads(line.decode())
    if not isinstance(row, dict):
        raise ValueError("not an object of fields, as {...}")
    _check_fields(tuple(row))
    return row


@functools.lru_cache
def _check_fields(fields: tuple[str, ...]) -> None:
    """Refuses fields that do not go together; most lines have those of the line before."""
    if unknown := set(fields) - _FIELDS:
        raise ValueError(f"field {min(unknown)!r} is unknown; choose {', '.join(sorted(_FIELDS))}")
    if missing := _REQUIRED.difference(fields):
        raise ValueError(f"{min(missing)!r} is missing")
    if ("score" in fields) == ("step_scores" in fields):
        raise ValueError("give either 'score' or 'step_scores' ([] without a verifier)")
    if "correct" not in fields and not {"answer", "gold"}.issubset(fields):
        raise ValueError("give 'correct', or 'answer' and 'gold'")


def _key(row: Mapping[str, Any]) -> _Key:
    return (
        _text(row, "question"),
        _text(row, "strategy") if "strategy" in row else "best_of_n",
        _integer(row, "budget", least=1) if "budget" in row else None,
        _integer(row, "seed") if "seed" in row else 0,
    )


def _candidate(row: Mapping[str, Any], number: int) -> Candidate:
    """The sample of a line; its number stands for its answer where answers are not named."""
    if "answer" not in row:
        answer = f"line {number}"
    else:
        answer = None if row["answer"] is None else _text(row, "answer")
    if "correct" in row:
        correct = row["correct"]
        if not isinstance(correct, bool):
            raise ValueError(f"correct is {correct!r}; it must be true or false")
    else:
        correct = answer == _text(row, "gold")
    if correct and answer is None:
        raise ValueError("correct without an answer; a sample whose answer is null is never right")
    log_prob = 0.0
    if "log_prob" in row:
        log_prob = row["log_prob"]
        if not (_is_number(log_prob) and abs(log_prob) <= sys.float_info.max):
            raise ValueError(f"log_prob is {log_prob!r}; it must be a finite number")
        log_prob = float(log_prob)
    return Candidate(
        tokens=(),
        text=_text(row, "text") if "text" in row else "",
        finished=True,
        log_prob=log_prob,
        step_scores=_scores(row),
        answer=answer,
        correct=correct,
    )


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
    value = row[name]
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; it must be an integer")
    if least is not None and value < least:
        raise ValueError(f"{name} is {value}; it must be at least {least}")
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
