"""The jobs that `tests.bench.interrupt` interrupts, as small as can be, and how they are started.

A server process imports everything once and forks for each start: that is where most of the time of
so small a job goes. What is forked is the command itself, in a process group of its own.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.flags import xla_flags

ROOT = Path(__file__).parents[2]
_CONFIG = "--config=configs/countdown.py"
_FEW = ("--config.sampling.max_new_tokens=48", "--config.execution.rows=8")
_LIGHT = "confidence:log_prob"  # a verifier that has no model
_SEARCH = (f"{_CONFIG}:best_of_n", "--config.task.size=12", "--config.sampling.n=4", *_FEW)
_SMALL = {"width": 16, "depth": 1, "heads": 2, "kv_heads": 1, "head_size": 8, "ffn_width": 32}
_STAGES = {
    "search": {
        "limit": 10,
        "sweep.budgets": 4,
        "sweep.difficulty.samples": 4,
        "execution.rows": 16,
        "verifier.path": _LIGHT,
    },
    "large": {"limit": 10, "generator.path": "embedded:generator"},
    "policy": {"policy.budgets": 4, "policy.resamples": 20, "selection.subsets": 4},
    "chains": {"limit": 4, "search.revisions": 2, "verifier.path": _LIGHT},
}
JOBS: dict[str, tuple[str, ...]] = {
    "run": ("run", *_SEARCH, "--config.search.trees=2"),
    "sweep": (
        "sweep",
        "--config=tests/bench/interrupt_sweep.py",
        "--config.task.size=8",
        f"--config.verifier.path={_LIGHT}",
        "--config.sweep.budgets=4",
        "--config.sweep.seeds=0",
        "--config.sweep.difficulty.samples=4",
        "--config.execution.rows=8",
        "--config.selection.subsets=4",
        _FEW[0],
    ),
    "collect": (
        "collect",
        f"{_CONFIG}:rollouts",
        "--config.task.size=12",
        "--config.sampling.n=2",
        "--config.rollouts.ends=2",
        "--config.rollouts.rows_per_question=4",
        *_FEW,
    ),
    "train": (
        "train",
        f"{_CONFIG}:generator",
        "--config.task.size=100",
        "--config.data.held_out=0.1",
        *(f"--config.model.{name}={value}" for name, value in _SMALL.items()),
        "--config.train.steps=20",
        "--config.train.evaluate_every=4",
        "--config.train.batch_tokens=320",
        "--config.train.lengths=80",
        "--config.train.dropout=0.1",
    ),
    "pipeline": (
        "run",
        f"{_CONFIG}:quickstart",
        *(
            f"--config.stage.{stage}.{name}={value}"
            for stage, fields in _STAGES.items()
            for name, value in fields.items()
        ),
        *(
            f"--config.stage.{stage}.sampling.max_new_tokens=48"
            for stage in ("search", "large", "chains")
        ),
    ),
    "hosts": ("run", *_SEARCH, "--config.verifier.path="),
}


def environment(cache: Path) -> dict[str, str]:
    """As users have it, programs that are compiled are kept; and they are compiled quickly."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": xla_flags(devices=1),
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",
        "JAX_ENABLE_COMPILATION_CACHE": "true",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


class Process:
    """A command that runs, forked by a server or, without one, in a Python of its own."""

    def __init__(self, arguments: Sequence[str], log: Path, server: Server | None, env: Any):
        self._server, self._code = server, None
        if server is not None:
            self.pid: int = server.ask({"start": list(arguments), "log": str(log)})
            return
        command = [sys.executable, "-m", "ttc_jax.cli", *arguments]
        with log.open("ab") as out:
            self._own = subprocess.Popen(
                command, cwd=ROOT, env=env, stdout=out, stderr=out, process_group=0
            )
        self.pid = self._own.pid

    def poll(self) -> int | None:
        """The exit code as `subprocess` has it; None while the command runs."""
        if self._code is None:
            self._code = self._server.ask({"poll": self.pid}) if self._server else self._own.poll()
        return self._code

    def cpu(self) -> float:
        """Seconds of processor time that the command has taken so far; 0 once it is gone."""
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return 0.0

    def signal(self, number: int) -> bool:
        """Signals the process group, and returns whether the command still ran."""
        if self.poll() is not None:
            return False
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:  # it has not yet left its parent's group
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
        return True


class Server:
    """The process that forks."""

    def __init__(self, env: dict[str, str]):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.interrupt_jobs"],
            cwd=ROOT,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, request: Any) -> Any:
        """The reply to a request."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def _serve() -> None:
    from ttc_jax import cli

    for job in ("run", "sweep", "collect", "train", "policy", "report"):
        __import__(f"ttc_jax.jobs.{job}")
    import matplotlib.pyplot as _  # noqa: F401

    imports = time.process_time()
    logging.root.handlers.clear()  # of imports, which a command does after it has set up its own
    replies = os.fdopen(os.dup(1), "w")
    warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
    warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)
    while line := sys.stdin.readline():
        request = json.loads(line)
        if "start" in request:
            if (pid := os.fork()) == 0:
                _become(request["log"])
                sys.argv = ["ttc", *request["start"]]
                sys.exit(cli.main())
            answer: float | None = pid
        elif "imports" in request:
            answer = imports
        else:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        replies.write(json.dumps(answer) + "\n")
        replies.flush()


def _become(log: str) -> None:
    """Makes a forked process a group of its own, whose output goes to a file."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, target in ((nothing, 0), (out, 1), (out, 2)):
        os.dup2(descriptor, target)


if __name__ == "__main__":
    _serve()
