"""Compares the workdirs of two runs of the same command: what differs that should not.

Both must have been run at the same path, since some files name it. Files are compared byte by byte,
but for what is the machine's or the moment's: the seconds of records and stages with the checksums
over them, timing.json, and TensorBoard events. Of what Orbax writes, whose files have random names,
the arrays are compared, bit by bit.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from ttc_jax.errors import UserError
from ttc_jax.files import CHECKSUMS
from ttc_jax.results.store import ResultsStore

_SECONDS = re.compile(rb'"seconds":[^,]*,|,"crc32":"\w{8}"')
# A stage's inputs are earlier stages, whose seconds differ, and which are compared themselves.
_OF_STAGE = re.compile(rb'"(seconds_of_last_run|checksum)": [^,\n]*|"inputs": \{[^}]*\}')


def differences(found: Path, reference: Path) -> list[str]:
    """What differs between two workdirs, a line each; none where the runs ended in the same."""
    one, other = dict(_contents(found)), dict(_contents(reference))
    lines = [f"{name} is left behind" for name in sorted(one.keys() - other.keys())]
    lines += [f"{name} is missing" for name in sorted(other.keys() - one.keys())]
    lines += [
        f"{name} differs: {_first(one[name], other[name])}"
        for name in sorted(one.keys() & other.keys())
        if one[name] != other[name]
    ]
    for folder in sorted(found.rglob("results")):
        try:
            ResultsStore(folder.parent).read()
        except UserError as error:
            lines.append(f"{folder.relative_to(found)} cannot be read: {error}")
    return lines


def _contents(workdir: Path) -> Iterator[tuple[str, bytes]]:
    """What must be the same, by the name of its file, folder or array."""
    for folder, names, files in os.walk(workdir):
        here = Path(folder)
        if (here / "_METADATA").exists():  # of Orbax
            yield from _arrays(here, str(here.relative_to(workdir)))
            names.clear()
            continue
        if "tensorboard" in names:
            names.remove("tensorboard")
        for name in names:
            yield f"{(here / name).relative_to(workdir)}/", b""
        for name in files:
            if name not in (CHECKSUMS, "_CHECKPOINT_METADATA"):  # of files that differ
                yield str((here / name).relative_to(workdir)), _lasting(here / name)


def _arrays(folder: Path, name: str) -> Iterator[tuple[str, bytes]]:
    found = ocp.PyTreeCheckpointer().restore(folder)
    for path, array in jax.tree_util.tree_leaves_with_path(found):
        value = np.asarray(array)
        about = f"{value.dtype} {value.shape} ".encode()
        yield f"{name}{jax.tree_util.keystr(path)}", about + value.tobytes()


def _lasting(path: Path) -> bytes:
    """The bytes of a file without what belongs to the machine or the moment."""
    data = path.read_bytes()
    if path.name == "timing.json":
        return b""
    if path.name == "done.json":
        return _OF_STAGE.sub(b"", data)
    if path.parent.name == "results":
        # Questions that are answered together may be stored in another order.
        return b"".join(sorted(_SECONDS.sub(b"", line) for line in data.splitlines(keepends=True)))
    return data


def _first(one: bytes, other: bytes) -> str:
    """Where two contents begin to differ, and what is there."""
    pairs = enumerate(zip(one, other, strict=False))
    at = next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))
    begin = max(0, at - 20)
    return f"byte {at}: {one[begin : at + 40]!r}, not {other[begin : at + 40]!r}"
