"""Stops what writes files at each of its file operations in turn, and lets it run again.

    python -m tests.trust.crashes FOLDER

Each time a forked process begins in a new folder and kills itself before its operation number 0, 1,
2 and so on: opening, renaming or removing a file or making a folder; or from there on the disk is
full, and it must say so in one of the errors that the command tells in one line. Then the same work
is done once more, and must leave what it leaves without a kill, and nothing beside it.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ttc_jax import files
from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.experiments.stages import DONE, run_stages
from ttc_jax.experiments.workdir import Claim
from ttc_jax.results.store import Candidate, Record, ResultsStore

_FULL = 3  # the exit code of a process that says that the disk is full
_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.truncate", "fcntl.flock")


def sealing(folder: Path) -> None:
    """As the end of a checkpoint: checksums once, which the next start compares."""
    (folder / "arrays").mkdir(parents=True, exist_ok=True)
    (folder / "arrays" / "data").write_bytes(b"1234")
    if not (folder / files.CHECKSUMS).exists():
        files.seal(folder)
    files.check_seal(folder, "")


def replacing(folder: Path) -> None:
    """As a summary, which each report writes anew, under a lock."""
    with files.locked(folder / ".lock", "taken"):
        for value in (1, 2):
            files.write_json(folder / "summary.json", {"value": value})
        assert files.read_json(folder / "summary.json") == {"value": 2}


def storing(folder: Path) -> None:
    """As a run: the records that are not there yet."""
    answer = Candidate((1, 2), "1", True, -0.5, (0.5,), "1", True)
    store = ResultsStore(folder)
    done = store.done()
    for index in range(3):
        record = Record(f"q/{index}", "best_of_n", 1, 0, (answer,), Ledger())
        if record.key not in done:
            store.append([record])
    assert len(store.read()) == 3


def claiming(folder: Path) -> None:
    """As the beginning of a job in a folder of its own, with a file that it reads."""
    task = folder.with_name("task.jsonl")
    files.write(task, '{"question": "1+1", "answer": "2"}\n')
    config = ConfigDict({"seed": 0, "task": {"name": "jsonl", "path": str(task)}})
    with files.locked(folder / ".lock", "taken"):
        Claim(folder, config).take()
    Claim(folder, config).take()


def staging(folder: Path) -> None:
    """As a pipeline whose second stage reads what the first one stored."""
    stages = {
        "data": {"job": "sweep", "seed": 0},
        "head": {"job": "policy", "data": {"path": "stage:data"}},
    }

    def work(_: ConfigDict, workdir: Path) -> None:
        storing(workdir)

    config = ConfigDict({"stages": ("data", "head"), "stage": stages})
    run_stages(config, folder, {"sweep": work, "policy": work})


SCENARIOS: dict[str, Callable[[Path], None]] = {
    function.__name__: function for function in (sealing, replacing, storing, claiming, staging)
}


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    found = (x for x in folder.rglob("*") if x.is_file())
    # But for how long a stage took.
    return {str(x.relative_to(folder)): b"" if x.name == DONE else x.read_bytes() for x in found}


def stopped(scenario: Callable[[Path], None], folder: Path, operation: int, *, full: bool) -> bool:
    """Runs a scenario that is stopped at an operation; returns whether it has that many."""
    if (pid := os.fork()) == 0:
        left = itertools.count(operation, -1)

        def kill(event: str, _: Any) -> None:
            if event in _EVENTS and next(left) == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        def fill(event: str, about: Any) -> None:
            creates = event == "os.mkdir" or (event == "open" and about[2] & os.O_CREAT)
            if creates and next(left) <= 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(about[0]))

        sys.addaudithook(fill if full else kill)
        try:
            scenario(folder)
        except (OSError, UserError) as error:
            os._exit(_FULL if os.strerror(errno.ENOSPC) in str(error) else 1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, _FULL if full else -signal.SIGKILL), (scenario.__name__, operation, code)
    return code != 0


def check(name: str, folder: Path, *, full: bool = False) -> int:
    """Goes through all operations of a scenario, and returns how many there are."""
    scenario, whole = SCENARIOS[name], folder / "whole"
    scenario(whole)
    for operation in itertools.count():
        now = folder / "now"
        shutil.rmtree(now, ignore_errors=True)
        if not stopped(scenario, now, operation, full=full):
            return operation
        for _ in range(2):  # twice: what the first leaves must not trouble the next
            scenario(now)
        assert contents(now) == contents(whole), (name, operation, contents(now).keys())
    raise AssertionError


if __name__ == "__main__":
    for name in SCENARIOS:
        killed = check(name, Path(sys.argv[1]) / f"{name}-killed")
        filled = check(name, Path(sys.argv[1]) / f"{name}-filled", full=True)
        print(name, killed, filled)
