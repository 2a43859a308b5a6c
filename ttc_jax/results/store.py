"""The results store: one JSON line a record, append-only, whole after a kill or a full disk.

A record is written once and never changed. The files are ASCII, so that line separators and lone
surrogates in model output cannot break a line, and floats come back bit for bit. Each line ends
with a checksum of all before it, and before that it has the digests of the config and of the inputs
that the record was made with; lines of older versions have neither, and are read as they are.
"""

import contextlib
import fcntl
import gzip
import json
import math
import numbers
import os
import time
import zlib
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.files import make_folder, remedy

Key = tuple[str, str, int, int]
SYNC_SECONDS = 1.0
_MADE_WITH, _CHECKSUM = "made_with", "crc32"  # the last fields of a line
_MARK = f',"{_CHECKSUM}":"'.encode()
_AGAIN = "or delete this line and run again"
_END = len(_MARK) + 8 + len(b'"}')  # bytes of a line's checksum


@dataclass(frozen=True, slots=True)  # of which a million may be held
class Candidate:
    """One sampled answer of a question and what became of it."""

    tokens: tuple[int, ...]  # [T] generated tokens, the end token included
    text: str
    finished: bool  # False: cut off by the length limit
    log_prob: float  # nats: sum of the drawn tokens' log-probabilities under the base model
    step_scores: tuple[float, ...]  # [steps] the verifier's score of each; () without a verifier
    answer: str | None  # canonical final answer: equal answers vote together
    correct: bool
    step_values: tuple[float, ...] = ()  # [steps] share of rollouts from each that end correctly
    unboxed: bool = False  # the answer was read from a text without a box (see `Verdict`)


@dataclass(frozen=True)
class Node:
    """One step of a search tree.

    One that has no children, and ends no candidate, was pruned: its row went on from another.
    """

    parent: int  # index of the node before it; -1: an answer begins here
    round: int  # of the search; the steps of an answer that is written in one go share theirs
    text: str
    score: float | None  # the verifier's; None: not scored
    candidate: int | None  # index of the one that ends here


@dataclass(frozen=True)
class Record:
    """What one strategy made of one question with one budget and seed."""

    question: str  # Question.id
    strategy: str
    budget: int  # generations that were paid for: N, or N (k + 1) with lookahead
    seed: int
    candidates: tuple[Candidate, ...]  # [N], chain by chain where answers are revised
    ledger: Ledger
    level: str = ""  # the data set's own difficulty label
    seconds: float = 0.0  # share of the wall time; never in summary.json, which must repeat
    question_score: float | None = None  # the verifier's, of the question alone
    sequential: int = 1  # s: each chain holds so many answers, and an answer sees those before it
    tree: tuple[Node, ...] = ()  # parents before children; () where it was not kept

    @property
    def key(self) -> Key:
        """(question, strategy, budget, seed): equal keys are the same work."""
        return self.question, self.strategy, self.budget, self.seed


class Claim(Protocol):
    """What the records of a workdir were made with; see `ttc_jax.experiments.workdir.Claim`."""

    @property
    def digests(self) -> Mapping[str, str]:
        """By dotted field, and of the config as "config"."""
        ...


class ResultsStore:
    """Records under `<workdir>/results/`, one append-only file a shard (one shard a host).

    A shard may end in a torn line after a kill: reading leaves it out, and the next `append` to
    that shard cuts it off. Should two runs store the same key, the first one read counts. A shard
    may be compressed with gzip once nothing is to be appended to it: `00000.jsonl.gz`.

    Args:
        claim: what records are made with: it is stored with them, and those that were made with
            something else are refused. Without one all that say it must agree.
    """

    def __init__(self, workdir: Path, shard: int = 0, claim: Claim | None = None):
        self.workdir = Path(workdir)
        self._folder = self.workdir / "results"
        self._path = self._folder / f"{shard:05d}.jsonl"
        self._claim = claim
        self._synced = -math.inf  # when this file last was

    def append(self, records: Sequence[Record]) -> None:
        """Stores records, so that a kill does not lose them; on an error none of them is stored.

        They are synced to the disk about once a second: what a power cut loses is done again.

        Raises:
            UserError: a value that must not be stored, such as a NaN score (names the question), or
                a full or unwritable disk. Records stored earlier stay as they are.
        """
        made_with = {} if self._claim is None else dict(self._claim.digests)
        data = b"".join(_sealed(_encode(record, made_with)) for record in records)
        if not data:
            return
        try:
            make_folder(self._folder)
            self._write(data)
        except OSError as error:
            raise UserError(
                f"{self._path}: {error.strerror}; earlier records are safe: {remedy(error)}, "
                "then run the same command again"
            ) from error

    def read(self) -> list[Record]:
        """All records of all shards, shard by shard in the order they were stored.

        Raises:
            UserError: a whole line that is not a record, is damaged, or was made with another
                config or other inputs (file:line), or an unreadable file.
        """
        records: dict[Key, Record] = {}
        for record in self._records():
            records.setdefault(record.key, record)
        return list(records.values())

    def done(self, questions: Container[str] | None = None) -> set[Key]:
        """The (question, strategy, budget, seed) of every stored record.

        Args:
            questions: ids that there are; None: any.

        Raises:
            UserError: as `read`, and a record of a question that there is not.
        """
        found = {record.key for record in self._records()}
        if questions is not None:
            for question, *_ in sorted(found):
                if question not in questions:
                    raise UserError(
                        f"{self._folder}: holds answers to {question!r}, which is no question of "
                        "this task and split; put the task back as it was, or use another --workdir"
                    )
        return found

    def _write(self, data: bytes) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            # Without the lock a second run on this shard could take our unfinished line for a torn
            # one. Some network disks have no locks; there one run at a time is up to the user.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            start = _whole_lines(descriptor)
            torn = os.pread(descriptor, os.fstat(descriptor).st_size - start, start)
            _refuse_damaged_end(torn, str(self._path))
            try:
                os.ftruncate(descriptor, start)
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                # A disk syncs some ten times a second, a search answers faster.
                if time.monotonic() - self._synced >= SYNC_SECONDS:
                    os.fsync(descriptor)
                    self._synced = time.monotonic()
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, start)
                raise
        finally:
            os.close(descriptor)

    def _records(self) -> Iterator[Record]:
        agreed = None if self._claim is None else dict(self._claim.digests)
        seen: dict[str, str] = {}  # the last that agreed
        for path in sorted(self._folder.glob("*.jsonl*")):
            if path.suffix not in (".jsonl", ".gz"):
                continue
            try:
                with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                    for number, line in enumerate(file, 1):
                        where = f"{path}:{number}"
                        if not line.endswith(b"\n"):
                            _refuse_damaged_end(line, where)
                            continue
                        record, made_with = _decode(line, where)
                        if made_with and made_with != seen:
                            agreed = made_with if agreed is None else agreed
                            self._refuse_others(made_with, agreed, where)
                            seen = made_with
                        yield record
            except (OSError, EOFError, zlib.error) as error:
                reason = getattr(error, "strerror", None) or error
                raise UserError(
                    f"{path}: {reason}; it must be readable and whole: put back a copy, or delete "
                    "it and run again"
                ) from error

    def _refuse_others(
        self, made_with: Mapping[str, str], agreed: Mapping[str, str], where: str
    ) -> None:
        for name in sorted(made_with.keys() & agreed.keys()):
            was, now = made_with[name], agreed[name]
            if was == now:
                continue
            what = "another config" if name == "config" else f"another content of {name}"
            if self._claim is None:
                raise UserError(
                    f"{where}: made with {what} than the records before it ({now} there, {was} "
                    "here); keep the records of each in a workdir of its own"
                )
            raise UserError(
                f"{where}: made with {what} (was {was}, now {now}); put it back, or use another "
                f"--workdir than {self._folder.parent}"
            )


def _whole_lines(descriptor: int) -> int:
    """Bytes up to and with the last line end."""
    end = os.fstat(descriptor).st_size
    while end > 0:
        start = max(0, end - 65536)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _refuse_damaged_end(line: bytes, where: str) -> None:
    """Refuses a last line without its line end that a kill cannot have left.

    What a kill leaves is the beginning of a line, not a whole one with another last byte.
    """
    if line[:1] != b"{":
        return
    with contextlib.suppress(ValueError, RecursionError):
        json.loads(line[:-1])
        raise UserError(f"{where}: damaged (its line end was changed); put back a copy, {_AGAIN}")


def _sealed(row: str) -> bytes:
    """The line of a JSON object, with a checksum as its last field."""
    body = row[:-1].encode("ascii")
    return b'%b%b%08x"}\n' % (body, _MARK, zlib.crc32(body))


def _encode(record: Record, made_with: Mapping[str, str] | None = None) -> str:
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
        "candidates": [
            {
                "tokens": [int(token) for token in candidate.tokens],
                "text": candidate.text,
                "finished": bool(candidate.finished),
                "log_prob": float(candidate.log_prob),
                "step_scores": [float(score) for score in candidate.step_scores],
                "answer": candidate.answer,
                "correct": bool(candidate.correct),
                "step_values": [float(value) for value in candidate.step_values],
                **({"unboxed": True} if candidate.unboxed else {}),
            }
            for candidate in record.candidates
        ],
        "tree": [vars(node) for node in record.tree],
    }
    if made_with:
        row[_MADE_WITH] = dict(made_with)
    return json.dumps(row, separators=(",", ":"), allow_nan=False)


def _decode(line: bytes, where: str) -> tuple[Record, dict[str, str]]:
    """The record in a whole line, and what it was made with."""
    body, end = line[: -_END - 1], line[-_END - 1 :]
    checked = end.startswith(_MARK) and end.endswith(b'"}\n')
    if checked and end[len(_MARK) : -3] != b"%08x" % zlib.crc32(body):
        raise UserError(f"{where}: damaged (its checksum does not fit); put back a copy, {_AGAIN}")
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
    candidates = tuple(
        Candidate(
            **candidate
            | {
                "tokens": tuple(candidate["tokens"]),
                "step_scores": tuple(candidate["step_scores"]),
                "step_values": tuple(candidate.get("step_values", ())),
            }
        )
        for candidate in row["candidates"]
    )
    tree = tuple(Node(**node) for node in row.get("tree", ()))
    ledger = Ledger.from_dict(row["ledger"])
    return Record(**row | {"candidates": candidates, "ledger": ledger, "tree": tree})


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
        where = f"candidate {index}: "
        if not _all(candidate.tokens, numbers.Integral):
            return where + "tokens must be integers"
        if not (_all((candidate.text,), str) and _all((candidate.answer,), (str, type(None)))):
            return where + "text and answer must be text"
        if not _all((candidate.finished, candidate.correct), (bool, np.bool_)):
            return where + "finished and correct must be true or false"
        if not isinstance(candidate.unboxed, bool):
            return where + "unboxed must be true or false"
        if not _finite((candidate.log_prob,)):
            return where + f"log_prob is {candidate.log_prob}"
        for name in ("step_scores", "step_values"):
            if not _finite(values := getattr(candidate, name)):
                return where + f"{name} is {values}"
    for index, node in enumerate(record.tree):
        if problem := _problem_of_node(node, index, len(record.candidates)):
            return f"tree, node {index}: {problem}"
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
