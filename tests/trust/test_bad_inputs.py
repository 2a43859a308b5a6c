"""Every bad input is exit code 2 and one line that names what is wrong with it."""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
import re
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.trust.bad_inputs import FIFO, FOLDER, INPUTS, BadInput
from ttc_jax import cli, jobs

for job in pkgutil.iter_modules(jobs.__path__):  # before time is taken
    importlib.import_module(f"{jobs.__name__}.{job.name}")
ROOT = Path(__file__).parents[2]
SECONDS = 60
LOG = re.compile(r"\d\d:\d\d:\d\d ")  # of a line that reports progress


def write(path: Path, content: str | bytes | object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if content is FOLDER:
        path.mkdir()
    elif content is FIFO:
        os.mkfifo(path)
    elif isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        assert isinstance(content, bytes)
        path.write_bytes(content)


@contextlib.contextmanager
def within(seconds: int) -> Iterator[None]:
    """Ends what hangs, or what was taken for good and is now at work."""

    def end(*_: object) -> None:
        raise TimeoutError("not refused: still at work")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("bad", INPUTS, ids=lambda bad: bad.name)
def test_bad_input(
    bad: BadInput,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for name, content in bad.files.items():
        write(tmp_path / name, content)
    with within(SECONDS):
        code = cli.main(shlex.split(bad.command))
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if not LOG.match(line)]
    assert len(lines) == 1, lines
    assert bad.named in lines[0]
    assert lines[0].startswith("ttc: ")
    assert "Traceback" not in printed.err
    assert code == 2


def test_the_table_is_large() -> None:
    assert len(INPUTS) >= 400
    assert len({bad.name for bad in INPUTS}) == len(INPUTS)
