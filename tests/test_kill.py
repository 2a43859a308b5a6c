"""A killed run goes on where it was, and ends as if it had never been killed, to the bit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.flags import xla_flags

FEW = ("--config.task.size=24", "--config.sampling.n=4", "--config.execution.rows=8")


def start(workdir: Path) -> subprocess.Popen[bytes]:
    command = (
        "import sys; from ttc_jax.cli import main; sys.exit(main(sys.argv[1:]))",
        "run",
        "--config=configs/countdown.py:best_of_n",
        f"--workdir={workdir}",
        *FEW,
    )
    # As users have it: what one run has compiled the next ones find.
    folder = str(workdir.parent / "xla")
    cache = {"JAX_ENABLE_COMPILATION_CACHE": "true", "JAX_COMPILATION_CACHE_DIR": folder}
    return subprocess.Popen(
        [sys.executable, "-c", *command],
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "XLA_FLAGS": xla_flags(devices=1), **cache},
    )


def records(workdir: Path) -> list[dict]:
    lines = [
        line
        for path in sorted((workdir / "results").glob("*.jsonl"))
        for line in path.read_text().split("\n")[:-1]
    ]
    return [json.loads(line) for line in lines]


def by_question(records: list[dict]) -> dict[str, dict]:
    """All but the seconds, which are the machine's, and the checksum, which covers them."""
    return {record["question"]: record | {"seconds": 0, "crc32": ""} for record in records}


def test_run_killed_in_the_middle_ends_with_the_same_records_and_summary(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run = start(killed)
    while not records(killed):
        assert run.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    before = records(killed)
    assert 0 < len(before) < 24

    assert start(killed).wait() == 0
    assert start(whole).wait() == 0
    after = records(killed)
    assert after[: len(before)] == before
    assert len({record["question"] for record in after}) == len(after) == 24
    assert by_question(after) == by_question(records(whole))
    assert (killed / "summary.json").read_bytes() == (whole / "summary.json").read_bytes()
