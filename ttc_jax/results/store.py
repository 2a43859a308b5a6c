"""The results store: one JSON line a record, append-only, whole after a kill or a full disk.

A record is written once and never changed. The files are ASCII, so that line separators and lone
surrogates in model output cannot break a line, and floats come back bit for bit.
"""

import contextlib
import fcntl
import json
import math
import numbers
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError

Key = tuple[str, str, int, int]
SYNC_SECONDS = 1.0


@dataclass(frozen=True)
class Candidate:
    """One sampled answer of a question and what became of it."""

    tokens: tuple[int, ...]  # [T] generated tokens, the end token included
    text: str
    finished: bool  # False: cut off by the length limit
    log_prob: float  # nats: sum of the drawn tokens' log-probabilities under the base model
    step_scores: tuple[float, ...]  # [R] the verifier's score of each step; () without a verifier
    answer: str | None  # canonical final answer: equal answers vote together
    correct: bool
    step_values: tuple[float, ...] = ()  # [R] share of rollouts from each step that end correctly
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


class ResultsStore:
    """Records under `<workdir>/results/`, one append-only file a shard (one shard a host).

    A shard may end in a torn line after a kill: reading leaves it out, and the next `append` to
    that shard cuts it off. Should two runs store the same key, the first one read counts.
    """

    def __init__(self, workdir: Path, shard: int = 0):
        self.workdir = Path(workdir)
        self._folder = self.workdir / "results"
        self._path = self._folder / f"{shard:05d}.jsonl"
        self._synced = -math.inf  # when this file last was

    def append(self, records: Sequence[Record]) -> None:
        """Stores records, so that a kill does not lose them; on an error none of them is stored.

        They are synced to the disk about once a second: what a power cut loses is done again.

        Raises:
            UserError: a value that must not be stored, such as a NaN score (names the question), or
                a full or unwritable disk. Records stored earlier stay as they are.
        """
        data = "".join(_encode(record) + "\n" for record in records).encode("ascii")
        if not data:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._write(data)
        except OSError as error:
            raise UserError(
                f"{self._path}: {error.strerror}; earlier records are safe: make room or choose "
                "another --workdir, then run the same command again"
            ) from error

    def read(self) -> list[Record]:
        """All records of all shards, shard by shard in the order they were stored.

        Raises:
            UserError: a whole line that is not a record (file:line), or an unreadable file.
        """
        records: dict[Key, Record] = {}
        for record in self._records():
            records.setdefault(record.key, record)
        return list(records.values())

    def done(self) -> set[Key]:
        """The (question, strategy, budget, seed) of every stored record. Raises as `read`."""
        return {record.key for record in self._records()}

    def _write(self, data: bytes) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            # Without the lock a second run on this shard could take our unfinished line for a torn
            # one. Some network disks have no locks; there one run at a time is up to the user.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            start = _whole_lines(descriptor)
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
        for path in sorted(self._folder.glob("*.jsonl")):
            try:
                with path.open("rb") as file:
                    for number, line in enumerate(file, 1):
                        if line.endswith(b"\n"):
                            yield _decode(line, f"{path}:{number}")
            except OSError as error:
                raise UserError(f"{path}: {error.strerror}; it must be readable") from error


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


def _encode(record: Record) -> str:
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
    return json.dumps(row, separators=(",", ":"), allow_nan=False)


def _decode(line: bytes, where: str) -> Record:
    try:
        record = _record(json.loads(line))
        if not (problem := _problem(record)):
            return record
    except (ValueError, KeyError, TypeError, RecursionError) as error:
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
