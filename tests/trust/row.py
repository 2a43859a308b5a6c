"""A row of the table of bad inputs, and commands that rows begin with."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

FIFO: Final = object()  # instead of a file's content: a named pipe
FOLDER: Final = object()  # ... a folder

A = "configs/countdown.py"
RUN = f"run --config={A}:best_of_n --workdir=work"
SWEEP = f"sweep --config={A}:search --workdir=work"
COLLECT = f"collect --config={A}:rollouts --workdir=work"
TRAIN = f"train --config={A}:prm --workdir=work"
SFT = f"train --config={A}:generator --workdir=work"
POLICY = f"policy --config={A}:policy --workdir=work"
FOLLOW = f"run --config={A}:compute_optimal --workdir=work"
REPORT = f"report --config={A}:report --workdir=work --config.data.policy= --config.data.search="
SOLVE = f"solve 1+1 --config={A}:solve"
GATHER = "gather --config=gather.py --workdir=work"
COMPILE = f"compile --config={A}:best_of_n --topology=v5e:2x4"
STAGES = f"run --config={A} --workdir=work"
MATH = "run --config=configs/math.py:smollm2 --workdir=work"
GSM8K = "run --config=configs/gsm8k.py:smollm2 --workdir=work"

Content = str | bytes | object


@dataclasses.dataclass(frozen=True)
class BadInput:
    """A command with a mistake in it.

    Attributes:
      command: the arguments of `ttc`, as in a shell; it runs in a folder with `configs` in it.
      named: what the one line on stderr holds.
      files: written first, path -> content.
      name: of the test.
    """

    command: str
    named: str
    files: Mapping[str, Content] = dataclasses.field(default_factory=dict)
    name: str = ""


def rows(command: str, *about: tuple[str, str]) -> list[BadInput]:
    """Rows of one command: what is added to it, and what is named."""
    return [BadInput(f"{command} {more}", named) for more, named in about]


def with_file(
    command: str, path: str, contents: Iterable[tuple[Content, str]], **others: Content
) -> list[BadInput]:
    """Rows of one command that reads a file: its content, and what is named."""
    return [BadInput(command, named, {path: content, **others}) for content, named in contents]


def text(value: Any) -> str:
    """JSON, with NaN and infinities as Python writes them."""
    return json.dumps(value)


def changed(value: Any, path: str, new: Any) -> Any:
    """A copy of nested data with one place changed; `...` removes it."""
    first, _, rest = path.partition(".")
    key: Any = int(first) if isinstance(value, list) else first
    copy = value.copy()
    if rest:
        copy[key] = changed(copy[key], rest, new)
    elif new is ...:
        del copy[key]
    else:
        copy[key] = new
    return copy
