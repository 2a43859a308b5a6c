"""Runs that go on after a kill store the same bytes as those that were never killed.

Jobs that ask for the same search share its compiled programs here, for speed; what they ask for is
up to them. That another process compiles the same is shown by `test_kill` and `test_hosts`.
"""

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ml_collections import ConfigDict

from tests.jobs.conftest import configure
from tests.sampling.oracle import tiny_generator
from tests.search.toy import SHALLOW, marked_prm
from ttc_jax.experiments import build
from ttc_jax.hosts import hosts
from ttc_jax.jobs import collect, run, sweep
from ttc_jax.models.checkpoints import save_model
from ttc_jax.models.tokenizers import CharTokenizer
from ttc_jax.tasks.countdown import PIECES
from ttc_jax.verifiers.prm import save_prm

QUESTIONS = 8
N = 4
LARGE = 2 * QUESTIONS  # slots: a batch that were cut to what is left would shrink
SEARCH = ("generator", "verifier", "sampling", "search", "prompt", "step_delimiter")
SEARCH += ("execution", "seed")
CLAIM = ("config.json", "inputs.json")
Records = dict[tuple[str, str, int, int], bytes]


@pytest.fixture(scope="module", autouse=True)
def compiled_once() -> Iterator[None]:
    """Jobs that ask for the same search of as many questions, or the same collector, get it."""
    make_recorder, make_collector = build.recorder, collect.build
    made: dict[str, Any] = {}

    def recorder(config: ConfigDict, *args, questions: int | None = None):
        key = f"{questions} questions: {[config[name] for name in SEARCH]}"
        if key not in made:
            made[key] = make_recorder(config, *args, questions=questions)
        return made[key]

    def collector(config: ConfigDict, *args):
        if str(config) not in made:
            made[str(config)] = make_collector(config, *args)
        return made[str(config)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "recorder", recorder)
        patch.setattr(collect, "build", collector)
        yield


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A generator and a PRM that are random: answers of all lengths, and scores of all kinds."""
    folder, tokenizer = tmp_path_factory.mktemp("models"), CharTokenizer(PIECES)
    shape = dataclasses.replace(SHALLOW, vocab_size=tokenizer.vocab_size)
    save_model(folder / "generator", tiny_generator(shape), tokenizer=tokenizer, metadata={})
    save_prm(folder / "prm", marked_prm(shape), {})
    return folder


def small(variant: str, models: Path, **changes) -> ConfigDict:
    return configure(
        variant,
        task__size=QUESTIONS,
        generator__path=models / "generator",
        sampling__max_new_tokens=24,
        **changes,
    )


@pytest.fixture(scope="module")
def run_config(models: Path) -> ConfigDict:
    sizes = {"sampling__n": N, "execution__rows": N * LARGE}
    return small("best_of_n", models, verifier__path=models / "prm", search__trees=2, **sizes)


@pytest.fixture(scope="module")
def finished_run(run_config: ConfigDict, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("run")
    run.main(run_config, workdir)
    return workdir


@pytest.fixture(scope="module")
def sweep_config(models: Path) -> ConfigDict:
    """The search of `run_config`, as a cell of a sweep."""
    grid = {"sweep__budgets": N, "sweep__seeds": "0", "sweep__difficulty__samples": 0}
    prm, rows = models / "prm", N * LARGE
    config = small(
        "search", models, verifier__path=prm, search__trees=2, execution__rows=rows, **grid
    )
    with config.unlocked():
        config.sweep.strategies = ConfigDict({"best_of_n": config.sweep.strategies.best_of_n})
    return config


@pytest.fixture(scope="module")
def collect_config(models: Path) -> ConfigDict:
    sizes = {"rollouts__ends": 2, "rollouts__rows_per_question": 4}
    return small("rollouts", models, sampling__n=4, execution__rows=16, **sizes)


def stored(workdir: Path, *, torn: bool = False) -> Records:
    """The stored lines by their keys, all but the seconds that they took, and their checksums."""
    found: Records = {}
    for path in sorted((workdir / "results").glob("*.jsonl")):
        for line in path.read_bytes().splitlines(keepends=True):
            if torn and not line.endswith(b"\n"):
                continue
            record = json.loads(line)
            key = record["question"], record["strategy"], record["budget"], record["seed"]
            assert key not in found
            found[key], count = re.subn(rb'"seconds":[^,]*,|,"crc32":"\w{8}"', b"", line)
            assert count == 2
    return found


def claimed(whole: Path, workdir: Path) -> None:
    """The workdir as one that a run has claimed."""
    workdir.mkdir(exist_ok=True)
    for name in CLAIM:
        (workdir / name).write_bytes((whole / name).read_bytes())


def killed(whole: Path, workdir: Path, left: int) -> None:
    """The workdir as a kill leaves it when all but `left` records are stored, one of them torn."""
    claimed(whole, workdir)
    lines = (whole / "results" / "00000.jsonl").read_bytes().splitlines(keepends=True)
    kept, torn = lines[: len(lines) - left], lines[len(lines) - left]
    (workdir / "results").mkdir()
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


def test_the_records_are_worth_comparing(finished_run: Path):
    records = [json.loads(line) for line in stored(finished_run).values()]
    candidates = [candidate for record in records for candidate in record["candidates"]]
    assert len(records) == QUESTIONS
    assert len({len(candidate["tokens"]) for candidate in candidates}) > 2
    assert len({score for candidate in candidates for score in candidate["step_scores"]}) > N
    assert sum(bool(record["tree"]) for record in records) == 2


def test_a_killed_sweep(sweep_config, tmp_path: Path):
    sweep.main(sweep_config, tmp_path / "whole")
    check(sweep, sweep_config, tmp_path / "whole", tmp_path / "killed", 1)


def test_a_killed_collection(collect_config, tmp_path: Path):
    collect.main(collect_config, tmp_path / "whole")
    check(collect, collect_config, tmp_path / "whole", tmp_path / "killed", 2)


def test_one_of_several_hosts_stores_the_same_bytes(
    run_config, finished_run: Path, tmp_path: Path, monkeypatch
):
    claimed(finished_run, tmp_path)  # as the first host does
    monkeypatch.setattr(hosts, "count", lambda: 3)
    monkeypatch.setattr(hosts, "index", lambda: 1)
    run.main(run_config, tmp_path)
    found = stored(tmp_path)
    assert len(found) == 3
    assert found.items() <= stored(finished_run).items()
