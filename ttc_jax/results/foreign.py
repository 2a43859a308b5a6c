"""Samples that were drawn and scored elsewhere: policies and reports without models.

A `.jsonl` file holds one sampled answer a line, in any order; samples of a question keep theirs. A
`.parquet` file has the same fields as columns, and null where one is left out. `ttc export` writes
both, and a folder stands for all `.parquet` files in it. What search-and-learn,
lm-evaluation-harness and OpenAI's batches write is read as it is, see `ttc_jax.results.formats`.

    {"question": "math/7", "answer": "42", "gold": "42", "score": 0.93, "tokens": 310}
    {"question": "math/7", "answer": "41", "correct": false, "step_scores": [0.8, 0.1], "tokens": 9}

Fields of every line:

    question     text: the question's id
    tokens       integer: tokens that were generated for this answer; 0: they were not counted
    score        number in [0, 1]: the verifier's of the whole answer; or instead of it
    step_scores  list of numbers in [0, 1]: of each step; [] without a verifier
    correct      true or false; where it is not given, whether "answer" and "gold" are the same
                 text. With neither it nor "answer", the answer is read from "text" and graded as
                 `ttc run` does it: for GSM8K where "gold" holds "####", else for MATH

Fields that may be left out:

    answer       the final answer in canonical form, as equal texts vote together; null: the sample
                 holds none, and is never right. A file that names no answers is read as if all were
                 different: every vote then falls to the sample of the highest score.
    gold         the right answer, as text, or a solution that states it in a box or behind "####"
    strategy     "best_of_n": independent samples. "difficulty" names samples that say how hard a
                 question is and are not scored themselves; any other name is a search of yours
    budget       generations that the samples of this question, strategy and seed cost together;
                 default: their number. Give it where a strategy was run at several budgets
    seed         integer, 0: repetitions of the whole experiment
    text         the sample itself
    log_prob     its log-probability, in nats
    finished     false: it was cut off by the length limit
    unboxed      true: its answer was read from a text without a box

Fields of the question, strategy, budget and seed, the same on all of their lines:

    level            text: the data set's own label of the question's difficulty
    question_score   number: the verifier's of the question alone
    sequential       integer, 1: answers of a chain of revisions, one chain behind the other
    cost             object of whole numbers, see `ttc_jax.compute.ledger.Ledger`; default: "tokens"

Whole numbers have 64 bits, those of cost up to 38 digits.

Questions of one strategy, budget and seed have equally many samples, all of a question in one file.
From the outputs of vLLM, with
`score(text)` a reward model's and `final(text)` its answer:

    for request, question in zip(llm.generate(prompts, params), questions):
        for sample in request.outputs:
            row = {"question": question.id, "answer": final(sample.text), "gold": question.gold,
                   "score": score(sample.text), "tokens": len(sample.token_ids)}
            print(json.dumps(row), file=file)
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.results.formats import Reader, reader_of
from ttc_jax.results.grading import Reading
from ttc_jax.results.sample_files import read_rows, sample_files
from ttc_jax.results.sample_rows import Key, Sample, read_sample
from ttc_jax.results.store import Candidate, Record, ResultsStore


@dataclasses.dataclass
class _Group:
    """Samples that become one record."""

    about: Mapping[str, Any]
    gold: str | None
    path: Path  # of the file that holds all of them
    candidates: list[Candidate] = dataclasses.field(default_factory=list)
    where: str = ""  # the last sample

    def add(self, sample: Sample, where: str) -> None:
        """Adds a sample; ValueError where it does not agree with those before it."""
        if sample.about != self.about or sample.gold != self.gold:
            raise ValueError(
                "level, question_score, sequential, cost or gold differs from that of earlier "
                "samples of this question"
            )
        self.candidates.append(sample.candidate)
        self.where = where

    @property
    def tokens(self) -> int:
        """Of all samples together; 0 where those of one were not counted."""
        counts = [candidate.token_count for candidate in self.candidates]
        return sum(counts) if all(counts) else 0


class _InTwoFiles(UserError):
    """Samples that belong together by what they say, and stand in two files."""


def read_records(path: Path, *, texts: bool = True) -> list[Record]:
    """Records of a workdir, or of files of samples that were scored elsewhere.

    Args:
      texts: see `read_samples`.

    Raises:
      UserError: a file of another kind, and as `ResultsStore.read` and `read_samples`.
    """
    path = Path(path)
    if files := sample_files(path):
        return read_samples(*files, texts=texts)
    if path.is_file():
        raise UserError(f"{path}: neither a workdir nor a .jsonl or .parquet file of samples")
    return ResultsStore(path).read()


def read_samples(*paths: Path, texts: bool = True) -> list[Record]:
    """Records of files of samples, in the order in which their first samples stand.

    Args:
      paths: in the format above, or as other programs write them (`ttc_jax.results.formats`). They
        are read row by row; a million samples are well.
      texts: whether candidates hold theirs, which are most of the memory. Reports need none.

    Raises:
      UserError: an unreadable or empty file, a row that the format does not allow (file:line), a
        file that lacks rows, or samples of one question and strategy in several files.
    """
    groups: dict[Key, _Group] = {}
    alone: dict[str, Path] = {}
    with Reading() as reading, _no_collection():
        for path in map(Path, paths):
            _read_file(path, groups, alone, reading, texts)
        return _records(groups, reading)


def _read_file(
    path: Path, groups: dict[Key, _Group], alone: dict[str, Path], reading: Reading, texts: bool
) -> None:
    """Reads a file into `groups`; `alone` says what files before it hold all of, see `Reader`."""
    samples: Reader | None = None
    answers_named = None
    for number, row in read_rows(path):
        where = f"{path}:{number}"
        if samples is None:
            samples = reader_of(path, row)
            if samples.alone and alone.setdefault(samples.alone, path) is not path:
                raise _in_two_files(path, alone[samples.alone], samples.alone)
        try:
            for ours in samples(row):
                sample = read_sample(ours, number, reading.answer, texts=texts)
                group = groups.get(sample.key)
                if group is None:
                    group = groups[sample.key] = _Group(sample.about, sample.gold, path)
                elif group.path is not path:
                    question, strategy, *_ = sample.key
                    about = f"question {question!r} and strategy {strategy!r}"
                    raise _in_two_files(path, group.path, about)
                group.add(sample, where)
                named = "answer" in ours or sample.gold is not None
                if answers_named is not named:
                    if answers_named is not None:
                        raise ValueError("'answer' is named on some lines and not on others")
                    answers_named = named
        except _InTwoFiles:
            raise
        except (UserError, ValueError, RecursionError) as error:
            raise UserError(f"{where}: {error}; mend this line") from error
    if samples is None:
        raise UserError(f"{path}: holds no samples; write one JSON object a line")
    try:
        samples.end()
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def _in_two_files(path: Path, other: Path, about: str) -> _InTwoFiles:
    return _InTwoFiles(
        f"{path}: holds samples of {about}, and so does {other}; those of two models or two dates "
        "are no one pool: give one of the files alone, or move the other out of the folder"
    )


def _records(groups: Mapping[Key, _Group], reading: Reading) -> list[Record]:
    records: dict[tuple[str, str, int, int], Record] = {}
    first: dict[tuple[str, int | None, int], tuple[str, int]] = {}
    for (question, strategy, given, seed), group in groups.items():
        count, where = len(group.candidates), group.where
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
        if count % group.about.get("sequential", 1):
            raise UserError(
                f"{where}: {question!r} has {count} samples, which are no chains of "
                f"{group.about['sequential']}, as sequential says"
            )
        candidates: Sequence[Candidate] = group.candidates
        if group.gold is not None:
            candidates = reading.graded(group.gold, candidates)
        about = {"ledger": Ledger(generations=budget, decode_tokens=group.tokens), **group.about}
        record = Record(question, strategy, budget, seed, tuple(candidates), **about)
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
