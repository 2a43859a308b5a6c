"""Runs that go on after a kill store the same bytes as those that were never killed."""

import json
import re
from pathlib import Path
from types import ModuleType

import pytest
from ml_collections import ConfigDict

from tests.jobs.conftest import configure
from ttc_jax.jobs import collect, run, sweep
from ttc_jax.parallel import hosts

QUESTIONS = 8
N = 16
LARGE = 2 * QUESTIONS  # slots: a batch that were cut to what is left would shrink
Records = dict[tuple[str, str, int, int], bytes]


def small(variant: str, generator: Path, **changes) -> ConfigDict:
    return configure(
        variant,
        task__size=QUESTIONS,
        generator__path=generator / "model",
        sampling__max_new_tokens=24,
        **changes,
    )


@pytest.fixture(scope="module")
def run_config(trained_generator: Path, trained_prm: Path) -> ConfigDict:
    prm = trained_prm / "model"
    sizes = {"sampling__n": N, "sampling__questions_per_batch": LARGE}
    return small("best_of_n", trained_generator, verifier__path=prm, search__trees=2, **sizes)


@pytest.fixture(scope="module")
def finished_run(run_config: ConfigDict, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("run")
    run.main(run_config, workdir)
    return workdir


@pytest.fixture(scope="module")
def sweep_config(trained_generator: Path, trained_prm: Path) -> ConfigDict:
    grid = {"sweep__budgets": N, "sweep__seeds": "0", "sweep__difficulty__samples": 0}
    prm = trained_prm / "model"
    config = small("search", trained_generator, verifier__path=prm, sweep__rows=N * LARGE, **grid)
    with config.unlocked():
        config.sweep.strategies = ConfigDict({"best_of_n": config.sweep.strategies.best_of_n})
    return config


@pytest.fixture(scope="module")
def collect_config(trained_generator: Path) -> ConfigDict:
    sizes = {"rollouts__ends": 2, "rollouts__questions_per_batch": 3, "rollouts__rows": 4}
    sampling = {"sampling__n": 4, "sampling__questions_per_batch": 5}
    return small("rollouts", trained_generator, **sizes, **sampling)


def stored(workdir: Path, *, torn: bool = False) -> Records:
    """The stored lines by their keys, all but the seconds that they took."""
    found: Records = {}
    for path in sorted((workdir / "results").glob("*.jsonl")):
        for line in path.read_bytes().splitlines(keepends=True):
            if torn and not line.endswith(b"\n"):
                continue
            record = json.loads(line)
            key = record["question"], record["strategy"], record["budget"], record["seed"]
            assert key not in found
            found[key], count = re.subn(rb'"seconds":[^,]*,', b"", line)
            assert count == 1
    return found


def killed(whole: Path, workdir: Path, left: int) -> None:
    """The workdir as a kill leaves it when all but `left` records are stored, one of them torn."""
    (workdir / "results").mkdir(parents=True)
    (workdir / "config.json").write_bytes((whole / "config.json").read_bytes())
    lines = (whole / "results" / "00000.jsonl").read_bytes().splitlines(keepends=True)
    kept, torn = lines[: len(lines) - left], lines[len(lines) - left]
    (workdir / "results" / "00000.jsonl").write_bytes(b"".join(kept) + torn[: len(torn) // 2])


def check(job: ModuleType, config: ConfigDict, whole: Path, workdir: Path, left: int) -> None:
    """Goes on with what `killed` leaves."""
    killed(whole, workdir, left)
    assert len(stored(workdir, torn=True)) == len(stored(whole)) - left
    job.main(config, workdir)
    assert stored(workdir) == stored(whole)
    assert (workdir / "summary.json").read_bytes() == (whole / "summary.json").read_bytes()


@pytest.mark.parametrize("left", [1, 2, 7])
def test_a_killed_run(run_config, finished_run: Path, tmp_path: Path, left: int):
    check(run, run_config, finished_run, tmp_path, left)


def test_a_killed_sweep(sweep_config, tmp_path: Path):
    sweep.main(sweep_config, tmp_path / "whole")
    check(sweep, sweep_config, tmp_path / "whole", tmp_path / "killed", 1)


def test_a_killed_collection(collect_config, tmp_path: Path):
    collect.main(collect_config, tmp_path / "whole")
    check(collect, collect_config, tmp_path / "whole", tmp_path / "killed", 2)


def test_one_of_several_hosts_stores_the_same_bytes(
    run_config, finished_run: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(hosts, "count", lambda: 3)
    monkeypatch.setattr(hosts, "index", lambda: 1)
    run.main(run_config, tmp_path)
    found = stored(tmp_path)
    assert len(found) == 3
    assert found.items() <= stored(finished_run).items()
