"""Digests of the files of a model folder, so that a damaged one is named and never loaded."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath

from ttc_jax.errors import UserError
from ttc_jax.models import hub

DIGESTS = "digests.json"
ANEW = "copy the folder anew"


def write(folder: Path, part: str) -> None:
    """Writes the digests of all files below the folder's subfolder `part`."""
    files = sorted(path for path in (folder / part).rglob("*") if path.is_file())
    digests = {path.relative_to(folder).as_posix(): _digest(path) for path in files}
    (folder / DIGESTS).write_text(json.dumps(digests, indent=2) + "\n", encoding="utf-8")


def check(folder: Path) -> None:
    """Compares the files with the digests, if the folder has them.

    Raises:
      UserError: names the first file that is missing or has changed.
    """
    file = folder / DIGESTS
    if not file.exists():
        return
    for name, digest in hub.read_json(file).items():
        path, parts = folder / name, PurePosixPath(name).parts
        if len(parts) < 2 or parts[0] == "/" or ".." in parts or not isinstance(digest, str):
            raise UserError(f"{file}: damaged; {ANEW}")
        if not path.is_file():
            raise UserError(f"{path}: missing; {ANEW}")
        if _digest(path) != digest:
            raise UserError(f"{path}: damaged, it is not what was saved; {ANEW}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
