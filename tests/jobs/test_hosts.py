"""Several hosts under one command: each takes a share, the first reports; without any model."""

import json
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.jobs.conftest import Answers, configure, replace_recorder
from ttc_jax.errors import UserError
from ttc_jax.experiments import workdir
from ttc_jax.hosts import hosts
from ttc_jax.jobs import run, sweep
from ttc_jax.results.store import ResultsStore

QUESTIONS, HOSTS = 10, 3


@pytest.fixture(autouse=True)
def no_model(monkeypatch) -> None:
    replace_recorder(monkeypatch, Answers.of)


def as_host(patch: pytest.MonkeyPatch, host: int, count: int = HOSTS) -> None:
    patch.setattr(hosts, "index", lambda: host)
    patch.setattr(hosts, "count", lambda: count)
    patch.setattr(workdir, "VISIBLE", 0.0)  # the first host, which claims it, comes last here


def shards(folder: Path) -> list[int]:
    return [x.read_bytes().count(b"\n") for x in sorted((folder / "results").iterdir())]


def small(variant: str, **changes) -> ConfigDict:
    config = configure(variant, task__size=QUESTIONS, selection__subsets=4, **changes)
    if variant == "search":
        names = set(config.sweep.strategies) - {"best_of_n", "beam_4"}
        with config.unlocked():
            for name in names:
                del config.sweep.strategies[name]
    return config


@pytest.mark.parametrize("job", [run, sweep])
def test_hosts_share_the_questions(job, tmp_path, monkeypatch):
    config = {
        run: small("best_of_n", sampling__n=4),
        sweep: small("search", sweep__budgets="4", sweep__seeds="0,1"),  # and the difficulty's
    }[job]
    for host in (2, 1, 0):
        as_host(monkeypatch, host)
        job.main(config, tmp_path / "shared")
        assert (tmp_path / "shared" / "summary.json").exists() == (host == 0)
    as_host(monkeypatch, 0, 1)
    job.main(config, tmp_path / "alone")
    shared, alone = (ResultsStore(tmp_path / name).read() for name in ("shared", "alone"))
    assert {record.key for record in shared} == {record.key for record in alone}
    assert len(shared) == len(alone)
    share = len(alone) // QUESTIONS
    assert shards(tmp_path / "shared") == [4 * share, 3 * share, 3 * share]
    found = [json.loads((tmp_path / x / "summary.json").read_text()) for x in ("shared", "alone")]
    assert found[0] == found[1]


def test_bins_come_from_samples_that_are_not_scored(tmp_path):
    config = small("search", sweep__budgets="4", sweep__difficulty__samples=8)
    sweep.main(config, tmp_path)
    records = ResultsStore(tmp_path).read()
    samples = {record.question: record for record in records if record.strategy == "difficulty"}
    assert {(record.budget, record.seed) for record in samples.values()} == {(8, 1000)}
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert "difficulty" not in summary["accuracy"]
    shares = sorted(
        (np.mean([c.correct for c in record.candidates]) for record in samples.values()),
        reverse=True,
    )
    expected = [np.mean(shares[i : i + 2]) for i in range(0, QUESTIONS, 2)]
    assert [part["pass_at_1"] for part in summary["bins"]] == pytest.approx(expected)


def test_the_difficulty_samples_are_not_those_of_the_seeds(tmp_path):
    config = small("search", sweep__difficulty__seed=1)
    with pytest.raises(UserError, match="is one of sweep.seeds"):
        sweep.main(config, tmp_path)
