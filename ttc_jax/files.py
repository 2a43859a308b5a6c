"""Files on disk: written whole or not at all, checked when read, and a lock on a folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import math
import os
import re
import secrets
import socket
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ttc_jax.errors import UserError

CHECKSUMS = "checksums.json"
_CHECKSUM = "checksum"
_DRAFT = re.compile(r"\..+\.[0-9a-f]{8}\.draft")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """The folder of what is kept to save time alone: ttc_jax in $XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ttc_jax"


def refuse_url(path: str | Path, name: str) -> None:
    """Refuses "gs://BUCKET/FOLDER" and the like, of which a folder named "gs:" would be made.

    Object stores know neither appending nor locks, which a workdir needs.

    Args:
        name: what errors call it, such as "--workdir".

    Raises:
        UserError: `path` is a URL.
    """
    if _URL.match(str(path)):
        scheme, _, rest = str(path).partition(":")
        raise UserError(
            f"{name}={scheme}://{rest.lstrip('/')}: must be a folder of this machine; mount the "
            "bucket (gcsfuse, s3fs) and give the path that it has then, or copy results there later"
        )


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it.

    Raises:
        UserError: a URL.
        OSError: it cannot be made.
    """
    refuse_url(folder, "folder")
    folder.mkdir(parents=True, exist_ok=True)


def replace(path: Path, data: bytes) -> None:
    """Replaces a file at once: a reader sees the old one or the new one, never a half.

    Each writer has a draft of its own beside it. Drafts that killed writers left are removed.

    Raises:
        OSError: the disk is full or not writable; the old file is then still there.
    """
    with replacing(path) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which replaces another at the end of the block; not after an error.

    Raises:
        OSError: as `replace`.
    """
    make_folder(path.parent)
    draft, descriptor = _draft(path)
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):
        _sync_folder(path.parent)
        for other in path.parent.glob(f".{_literal(path.name)}.????????.draft"):
            with other.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                other.unlink()


def write(path: Path, data: bytes | str) -> Path:
    """Writes a file as `replace` does, text as UTF-8, and returns its path.

    Raises:
        UserError: the disk is full or not writable; an old file is then still there.
    """
    try:
        replace(path, data.encode() if isinstance(data, str) else data)
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}; {remedy(error)}, then run the same command again"
        ) from error
    return path


def disk_is_full(error: BaseException | None) -> bool:
    """Returns whether an error, or one that led to it, says that the disk is full.

    Libraries wrap it, some as text only.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if os.strerror(errno.ENOSPC) in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def remedy(error: OSError) -> str:
    """What to do about an error of the disk: making room helps only where it is full."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "make room or choose another --workdir" if full else "choose another --workdir"


def contents(path: Path) -> bytes:
    """The bytes of a file; of nothing else, since reading a named pipe would wait for ever.

    Raises:
        OSError: it cannot be read, or is no file.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "Not a file")
    return path.read_bytes()


def write_json(path: Path, value: Mapping[str, Any]) -> Path:
    """Writes a JSON file as `write` does, with a checksum that `read_json` compares."""
    found = {**value, _CHECKSUM: _checksum(value)}
    return write(path, json.dumps(found, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, advice: str = "copy it anew, or delete it") -> dict[str, Any]:
    """The object in a JSON file, without its checksum; older files and foreign ones have none.

    Args:
        advice: what to do about a file that cannot be read.

    Raises:
        UserError: no such file, no JSON object, or one that does not fit its checksum.
    """
    try:
        found = json.loads(contents(path), parse_constant=_finite, parse_float=_finite)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; {advice}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}): {advice}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} is not a JSON object: {advice}")
    checksum = found.pop(_CHECKSUM, None)
    if checksum is not None and checksum != _checksum(found):
        raise UserError(
            f"{path} is not as it was written (its checksum does not fit), so the disk or a hand "
            f"has changed it: {advice}"
        )
    return found


def seal(folder: Path) -> None:
    """Writes the checksums of all files below a folder to `checksums.json` there.

    Drafts that killed writers left have none: the next writer removes them.
    """
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not _DRAFT.fullmatch(path.name)
    )
    sums = {name: _checksum_of_file(folder / name) for name in names if name != CHECKSUMS}
    write_json(folder / CHECKSUMS, {"files": sums})


def check_seal(folder: Path, advice: str) -> None:
    """Compares a folder's files with their checksums, where it has any.

    Raises:
        UserError: a file that is lost or was changed; names it.
    """
    if not (folder / CHECKSUMS).exists():
        return
    for name, checksum in read_json(folder / CHECKSUMS, advice).get("files", {}).items():
        try:
            found = _checksum_of_file(folder / name)
        except OSError as error:
            raise UserError(f"{folder / name}: {error.strerror}; {advice}") from error
        if found != checksum:
            raise UserError(
                f"{folder / name} is damaged (its checksum was {checksum}, now {found}): {advice}"
            )


@contextlib.contextmanager
def locked(path: Path, refusal: str) -> Iterator[None]:
    """Holds an exclusive lock, which the kernel releases however this process ends.

    The file is removed at the end, and so are the folders that were made for it, if nothing else
    came into them. On a disk without locks, as some network disks are, a warning is logged: there
    one process at a time is up to the user.

    Args:
        path: of the lock's file.
        refusal: what to say where another process holds the lock; behind it comes which.

    Raises:
        UserError: another process holds the lock, or the file cannot be made.
    """
    missing = [x for x in (path.parent, *path.parent.parents) if not x.exists()]
    try:
        make_folder(path.parent)
        descriptor = _lock(path, refusal)
    except OSError as error:
        raise UserError(f"{path.parent}: {error.strerror}; choose another --workdir") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)
        with contextlib.suppress(OSError):
            for folder in missing:
                folder.rmdir()


def _draft(path: Path) -> tuple[Path, int]:
    """A new file beside `path`, and its descriptor, with a lock that says that it has a writer."""
    while True:
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.draft")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:  # nobody has removed it before it was locked
            return draft, descriptor
        os.close(descriptor)


def _lock(path: Path, refusal: str) -> int:
    """The descriptor of the locked file."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
            os.close(descriptor)
            raise UserError(f"{refusal} ({holder or 'it has just begun'})") from None
        except OSError as error:
            _log.warning("%s: no locks on this disk (%s): start one process", path, error.strerror)
            return descriptor
        # Whoever held the lock may have removed the file after we had opened it.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                break
        os.close(descriptor)
    with contextlib.suppress(OSError):  # on a full disk nobody can tell who holds it
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
    return descriptor


def _finite(text: str) -> float:
    """A number in JSON; NaN and infinities, which Python reads and writes there, are none."""
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is no finite number")
    return value


def _checksum(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, separators=(",", ":"))
    return f"{zlib.crc32(text.encode('ascii')):08x}"


def _checksum_of_file(path: Path) -> str:
    found = 0
    with path.open("rb") as file:
        while block := file.read(2**20):
            found = zlib.crc32(block, found)
    return f"{path.stat().st_size}-{found:08x}"


def _literal(name: str) -> str:
    """A name as a pattern that matches it alone."""
    return re.sub(r"([*?[])", r"[\1]", name)


def _sync_folder(folder: Path) -> None:
    """Makes a renaming in it last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
