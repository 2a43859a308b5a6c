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
import os
import time
import zlib
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from ttc_jax.errors import UserError
from ttc_jax.files import make_folder, remedy
from ttc_jax.results.record_lines import AGAIN, decode, encode
from ttc_jax.results.records import Candidate, Choice, Key, Node, Record

__all__ = ["SYNC_SECONDS", "Candidate", "Choice", "Claim", "Key", "Node", "Record", "ResultsStore"]

SYNC_SECONDS = 1.0


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
        data = b"".join(encode(record, made_with) for record in records)
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
                        record, made_with = decode(line, where)
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
        raise UserError(f"{where}: damaged (its line end was changed); put back a copy, {AGAIN}")
