"""The table of bad inputs: a command, what its one line names, and files it reads.

A further one is a further row in `bad_flags` or `bad_data`.
"""

from __future__ import annotations

import dataclasses
from collections import Counter

from tests.trust import bad_data, bad_flags
from tests.trust.row import FIFO, FOLDER, BadInput

__all__ = ["FIFO", "FOLDER", "INPUTS", "BadInput"]


def _named(inputs: list[BadInput]) -> list[BadInput]:
    """The rows with names of their own."""
    found, seen = [], Counter[str]()
    for bad in inputs:
        job = bad.command.split(maxsplit=1)[0] if bad.command.strip() else "none"
        name = f"{job}: {bad.named}"
        seen[name] += 1
        found.append(dataclasses.replace(bad, name=f"{name} {seen[name]}"))
    return found


INPUTS = _named([*bad_flags.BAD, *bad_data.BAD])
