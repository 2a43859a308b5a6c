"""Hashes: numbers and names for texts, and digests of files and folders by their contents.

Whatever is drawn, named or split by a hash is so by one of these, so that it is the same on every
machine and in every run. None of them guards against an attacker but `of_file` and `of_folder`.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import os
import time
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ttc_jax import files

DIGITS = 16  # hexadecimal ones of a file's digest
_REMEMBERED = 64 * 2**20  # bytes from which on a file's digest is remembered
_SETTLED = 2 * 10**9  # ns after which a file's times tell of every further change


def number_of(text: str) -> int:
    """A number below 2^32 that stands for a text: the stream of random numbers of a question."""
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


def bytes_of(data: str | Iterable[bytes], size: int = 8) -> bytes:
    """`size` bytes that stand for a text, or for bytes one behind the other."""
    parts = [data.encode("utf-8", "surrogatepass")] if isinstance(data, str) else data
    found = hashlib.blake2s(digest_size=size)
    for part in parts:
        found.update(part)
    return found.digest()


def name_of(data: str | Iterable[bytes], size: int = 8) -> str:
    """The bytes of `bytes_of`, as hexadecimal digits."""
    return bytes_of(data, size).hex()


def falls_within(text: str, share: float) -> bool:
    """Whether a text is in the share of all texts, 0 to 1, that is held out of something."""
    return int.from_bytes(bytes_of(text)) < share * 2**64


def of_texts(*texts: str) -> str:
    """The digest of several texts, which is another one where they are cut elsewhere."""
    found = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        found.update(len(data).to_bytes(8) + data)
    return found.hexdigest()[:DIGITS]


def of_file(path: Path) -> str:
    """The digest of all bytes of a file.

    That of a large file is remembered in the user's cache folder for as long as the file's device,
    inode, size and times stay as they are: no program can write to a file and leave its ctime. What
    a failing disk changes on its own is therefore not seen until the file is written anew.

    Raises:
        OSError: it cannot be read.
    """
    about = path.stat()
    key = f"{about.st_dev} {about.st_ino} {about.st_size} {about.st_mtime_ns} {about.st_ctime_ns}"
    if about.st_size < _REMEMBERED:
        return _digest(path)
    note = files.cache_folder() / "digests" / of_texts(os.path.realpath(path))
    with contextlib.suppress(OSError, ValueError):
        known, _, digest = note.read_text(encoding="ascii").rpartition(" ")
        if known == key:
            return digest
    digest = _digest(path)
    if time.time_ns() - max(about.st_mtime_ns, about.st_ctime_ns) > _SETTLED:
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time alone
            files.replace(note, f"{key} {digest}".encode("ascii"))
    return digest


def of_folder(folder: Path, patterns: Sequence[str] = ("*",)) -> str:
    """The digest of the names and contents of all files below a folder.

    Args:
        patterns: of the files' paths in it that count.

    Raises:
        OSError: one cannot be read.
    """
    names = sorted(
        name
        for path in folder.rglob("*")
        if path.is_file()
        and any(fnmatch.fnmatch(name := path.relative_to(folder).as_posix(), p) for p in patterns)
    )
    with ThreadPoolExecutor(4) as pool:  # hashlib holds no lock
        digests = list(pool.map(lambda name: of_file(folder / name), names))
    return of_texts(*(text for pair in zip(names, digests, strict=True) for text in pair))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS]
