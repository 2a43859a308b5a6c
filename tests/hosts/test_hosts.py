"""Two processes of four devices each on loopback: the results of one, and who is to blame."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import pytest

from tests.flags import xla_flags
from tests.hosts.ports import free_port
from ttc_jax.config import load_config
from ttc_jax.errors import UserError
from ttc_jax.hosts import hosts
from ttc_jax.jobs import run, train

ROOT = Path(__file__).parents[2]
QUESTIONS = 24
RUN = (
    "run",
    f"--config={ROOT}/configs/countdown.py:best_of_n",
    f"--config.limit={QUESTIONS}",
    "--config.verifier.path=",
    "--config.sampling.n=4",
    "--config.execution.rows=4",
)
TRAIN = (
    "train",
    f"--config={ROOT}/configs/countdown.py:generator",
    "--config.task.size=100",
    "--config.data.held_out=0.1",
    "--config.model.width=16",
    "--config.model.depth=1",
    "--config.model.heads=2",
    "--config.model.kv_heads=1",
    "--config.model.head_size=8",
    "--config.model.ffn_width=32",
    "--config.train.steps=2",
    "--config.train.evaluate_every=2",
    "--config.train.learning_rate=0.03",
    "--config.train.batch_tokens=1280",
    "--config.train.lengths=80",
    "--config.execution.mesh.data=8",
)
MEMBER = """
import sys
import time
from pathlib import Path
from ttc_jax.hosts import hosts
from ttc_jax.hosts import roll_call

roll_call._SHARED = 0.2
index, port, workdir = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
here = hosts.HostId(index, 2, ("127.0.0.1", port))
with hosts.together(here, {}, workdir, timeout=float(sys.argv[4])):
    import jax

    print(hosts.index(), hosts.count(), len(jax.devices()), len(jax.local_devices()), flush=True)
    time.sleep(100)
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    """Four devices a process; what one has compiled the next one reads."""
    return {
        **os.environ,
        "XLA_FLAGS": xla_flags(devices=4),
        "JAX_ENABLE_COMPILATION_CACHE": "true",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
    }


@pytest.fixture
def start(environment):
    """Starts Python with arguments; what still runs at the end is killed."""
    started = []

    def process(*arguments: object) -> subprocess.Popen[str]:
        one = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        started.append(one)
        return one

    yield process
    for one in started:
        one.kill()
        one.communicate()


def command(job: Sequence[str], workdir: Path, *flags: str) -> list[str]:
    return ["-m", "ttc_jax.cli", *job, f"--workdir={workdir}", *flags]


def here(job: Sequence[str], workdir: Path) -> None:
    """Does a job in this process, on its eight devices."""
    name, spec, *overrides = job
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # for optax
        {"run": run, "train": train}[name].main(
            load_config(spec.partition("=")[2], overrides), workdir
        )


def pair(start, job: Sequence[str], workdir: Path, *flags: Sequence[str]) -> list[Any]:
    """Both hosts of a job; `flags` are those of the one and of the other."""
    port = free_port()
    return [
        start(
            *command(job, workdir, "--hosts=2", f"--host={index}"),
            f"--coordinator=127.0.0.1:{port}",
            *(flags[index] if flags else ()),
        )
        for index in range(2)
    ]


def ended(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """The exit code, and the lines of stderr that are no progress."""
    _, text = process.communicate(timeout=240)
    lines = [line for line in text.replace("\r", "\n").split("\n") if line.strip()]
    return process.returncode, [line for line in lines if not line.startswith("search: ")]


def shards(workdir: Path) -> list[int]:
    return [x.read_bytes().count(b"\n") for x in sorted((workdir / "results").glob("*.jsonl"))]


def test_two_hosts_find_what_one_does_and_one_goes_on_where_two_were_killed(start, tmp_path):
    alone, whole, killed = (tmp_path / name for name in ("alone", "whole", "killed"))
    here(RUN, alone)
    for host in pair(start, RUN, whole):
        assert ended(host) == (0, [])
    assert shards(whole) == [QUESTIONS // 2] * 2
    assert (whole / "summary.json").read_bytes() == (alone / "summary.json").read_bytes()

    survivor, victim = pair(start, RUN, killed)
    shard = killed / "results" / "00001.jsonl"
    while not (shard.exists() and shard.read_bytes()):
        assert survivor.poll() is None
        assert victim.poll() is None
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    code, [line] = ended(survivor)
    assert code == 2
    assert line.startswith("ttc: host 1 (")
    assert "is gone" in line
    before = {path: path.read_bytes() for path in (killed / "results").iterdir()}
    assert 0 < shards(killed)[-1] < QUESTIONS // 2
    assert not (killed / "summary.json").exists()

    assert ended(start(*command(RUN, killed))) == (0, [])
    assert sum(shards(killed)) == QUESTIONS
    for path, content in before.items():
        whole_lines = content[: content.rfind(b"\n") + 1]
        assert path.read_bytes().startswith(whole_lines)
    assert (killed / "summary.json").read_bytes() == (alone / "summary.json").read_bytes()


def test_the_death_of_the_first_host_is_told_too(start, tmp_path):
    port = free_port()
    first, second = (start("-c", MEMBER, index, port, tmp_path, 300) for index in range(2))
    assert [x.stdout.readline().split() for x in (first, second)] == [
        ["0", "2", "8", "4"],
        ["1", "2", "8", "4"],
    ]
    first.kill()
    code, [line] = ended(second)
    assert code == 2
    assert line.startswith("ttc: host 0 (127.0.0.1) is gone")


def test_a_workdir_that_is_not_shared(start, tmp_path):
    port = free_port()
    folders = (tmp_path / str(index) for index in range(2))
    first, second = (start("-c", MEMBER, i, port, x, 8) for i, x in enumerate(folders))
    code, lines = ended(second)
    assert code == 1
    assert "must share it" in lines[-1]
    code, lines = ended(first)
    assert code == 1
    assert "host 1, as it says: --workdir=" in lines[0]
    assert "host 1 of 2 did not come up in time" in lines[-1]
    assert not list((tmp_path / "0").iterdir())


def test_training_over_two_hosts_has_the_losses_of_one(start, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for host in pair(start, TRAIN, two):
        assert host.wait(240) == 0, host.stderr.read()
    here(TRAIN, one)
    found = [
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (one, two)
    ]
    assert len(found[0]) == 1
    for alone, shared in zip(*found, strict=True):
        assert shared == pytest.approx(alone, rel=1e-4)
    assert (two / "model" / "model.json").exists()


def test_hosts_that_disagree(start, tmp_path):
    for host in pair(start, RUN, tmp_path, (), ("--config.seed=1",)):
        code, [line] = ended(host)
        assert code == 2
        assert line.startswith(
            "ttc: the hosts disagree on --config.seed: 0 at host 0, 1 at host 1 ("
        )
    assert not list(tmp_path.iterdir())


def test_hosts_that_do_not_come_up(start, tmp_path):
    soon = "--hosts_timeout=0.5"
    flags = ("--hosts=3", soon)
    ports = free_port(), free_port()
    first, second = (
        start(
            *command(RUN, tmp_path, *flags),
            f"--host={index}",
            f"--coordinator=127.0.0.1:{ports[index]}",
        )
        for index in range(2)
    )
    code, [line] = ended(first)
    assert code == 2
    assert line.startswith("ttc: hosts 1, 2 of 3 did not come up in time")
    code, [line] = ended(second)
    assert code == 2
    assert line.startswith("ttc: host 0 of 3 did not come up in time at --coordinator=127.0.0.1:")


def test_a_port_that_is_taken(tmp_path):
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        here = hosts.HostId(0, 2, ("127.0.0.1", port))
        with (
            pytest.raises(UserError, match=f"port {port} or .* cannot be used"),
            hosts.together(here, {}, tmp_path, timeout=1),
        ):
            pass


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("two", "0", "a:1"), "--hosts=two: must be auto or the number of hosts"),
        (("0", "0", "a:1"), "--hosts=0: must be auto or"),
        (("2", "2", "a:1"), "--host=2: must be this host's index, 0 to 1"),
        (("2", "0", ""), "--coordinator=: must be the first host's ADDRESS:PORT"),
        (("2", "0", "a:x"), "--coordinator=a:x: must be"),
        (("auto", "", ""), "--hosts=auto: neither a TPU pod nor"),
    ],
)
def test_flags_that_do_not_fit(flags, message):
    with pytest.raises(UserError) as error:
        hosts.place(*flags, timeout=1)
    assert str(error.value).startswith(message)


def test_places():
    assert hosts.place("1", "0", "", 1) is None
    assert hosts.place("3", "2", "a:80", 1) == hosts.HostId(2, 3, ("a", 80))
    assert (hosts.index(), hosts.count(), hosts.is_first()) == (0, 1, True)
    assert hosts.mine("abc") == ["a", "b", "c"]
    hosts.wait("nobody")
