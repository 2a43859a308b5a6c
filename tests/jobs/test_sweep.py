"""The job `sweep`: equal budgets, one pool, resumable, compared by difficulty."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from tests.jobs.conftest import Answers, changed, configure, replace_recorder
from ttc_jax.config import load_config
from ttc_jax.errors import UserError
from ttc_jax.experiments import build
from ttc_jax.jobs import sweep
from ttc_jax.policy.difficulty import Binning, predicted
from ttc_jax.policy.policy import Policy, fit_policy
from ttc_jax.results.accuracy_table import accuracy_table
from ttc_jax.results.store import Record, ResultsStore
from ttc_jax.results.summary import DIFFICULTY

BUDGETS = (2, 4)


@pytest.fixture(scope="module")
def config(trained_generator: Path, trained_prm: Path) -> ConfigDict:
    config = configure(
        "search",
        task__size=10,
        generator__path=trained_generator / "model",
        verifier__path=trained_prm / "model",
        sampling__max_new_tokens=40,
        sweep__budgets="2,4",
        sweep__seeds="0",
        execution__rows=16,
        sweep__difficulty__samples=0,
    )
    strategies = config.sweep.strategies.to_dict()
    strategies = {name: strategies[name] for name in ("best_of_n", "lookahead_1", "beam_sqrt_n")}
    strategies["lookahead_1"]["options"]["width"] = 2
    with config.unlocked():
        config.sweep.strategies = ConfigDict(strategies)
    return config


def selected(records: Sequence[Record]) -> Policy:
    table = accuracy_table(records, [4], pools=["best_of_n"], rule="best_of_n_weighted")
    easiness = predicted([record for record in records if record.strategy == "best_of_n"], "last")
    return fit_policy(table, Binning(easiness))


def test_a_sweep_goes_on_where_it_was_stopped(config, tmp_path, monkeypatch):
    stored = []
    append = ResultsStore.append

    def interrupted(store: ResultsStore, records) -> None:
        append(store, records)
        stored.extend(records)
        if len(stored) == 13:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ResultsStore, "append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sweep.main(config, tmp_path)
        sweep.main(config, tmp_path)
    records = ResultsStore(tmp_path).read()
    assert selected(records) == selected(stored)  # from what was kept, and as it came
    lines = (tmp_path / "results" / "00000.jsonl").read_bytes().splitlines()
    assert len(lines) == len(records) == 10 * 3
    cells = {record.key[1:] for record in records}
    # √N needs a square; looking one step ahead costs two generations a candidate, and M is 2.
    assert cells == {(name, 4, 0) for name in config.sweep.strategies}
    for record in records:
        assert record.ledger.generations == record.budget
        assert len(record.candidates) == (2 if record.strategy == "lookahead_1" else 4)
        assert (record.ledger.lookahead_tokens > 0) == (record.strategy == "lookahead_1")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert {name: list(curve) for name, curve in summary["accuracy"].items()} == {
        "best_of_n": ["2", "4"],
        "beam_sqrt_n": ["4"],
        "lookahead_1": ["4"],
    }
    assert [part["questions"] for part in summary["bins"]] == [2] * 5
    for name in ("accuracy.png", "accuracy.csv", "bins.png", "bins.svg"):
        assert (tmp_path / name).stat().st_size > 0
    monkeypatch.setattr(build, "recorder", lambda *_: pytest.fail("nothing is left to search"))
    before = (tmp_path / "summary.json").read_bytes()
    sweep.main(config, tmp_path)
    assert (tmp_path / "summary.json").read_bytes() == before


def test_every_pool_and_the_ratios_are_reported_and_reported_anew(config, tmp_path, monkeypatch):
    replace_recorder(monkeypatch, Answers.of)
    pool = config.sweep.strategies.best_of_n.to_dict()
    strategies = {
        "best_of_n": pool,
        "other_verifier": pool | {"verifier": "confidence:entropy"},
        "even": pool | {"ratio": 1.0},
        "parallel": pool | {"ratio": 0.25},
    }
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.sweep.strategies = ConfigDict(strategies)
    sweep.main(config, tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert {name: list(curve) for name, curve in summary["accuracy"].items()} == {
        "best_of_n": ["2", "4"],
        "other_verifier": ["2", "4"],
        "even": ["4"],
        "parallel": ["4"],
    }
    shapes = {record.strategy: record.sequential for record in ResultsStore(tmp_path).read()}
    assert shapes == {"best_of_n": 1, "other_verifier": 1, "even": 2, "parallel": 1}
    assert (tmp_path / "ratios.png").stat().st_size > 0
    stored = (tmp_path / "results" / "00000.jsonl").read_bytes()
    sweep.main(changed(config, selection__rule="majority"), tmp_path)
    assert json.loads((tmp_path / "summary.json").read_text())["rule"] == "majority"
    assert (tmp_path / "results" / "00000.jsonl").read_bytes() == stored


def test_seeds_share_a_search(config, tmp_path, monkeypatch):
    built = []

    def recorder(config: ConfigDict, *_: object, **__: object) -> Answers:
        built.append((config.search.strategy, config.search.lookahead, config.sampling.n))
        return Answers.of(config)

    replace_recorder(monkeypatch, recorder)
    sweep.main(changed(config, sweep__seeds=(0, 1, 2), sweep__difficulty__samples=2), tmp_path)
    assert len(built) == 4  # of three strategies, and for difficulty
    records = ResultsStore(tmp_path).read()
    cells = {(record.strategy, record.seed) for record in records}
    assert cells == {(name, seed) for name in config.sweep.strategies for seed in range(3)} | {
        (DIFFICULTY, config.sweep.difficulty.seed)
    }


@pytest.mark.parametrize("rule", ["best_of_n", "best_of_n_weighted"])
def test_a_rule_that_reads_scores_needs_a_verifier_before_anything_runs(rule):
    config = load_config("study:small_vote").stage.search
    sweep.check(config)
    config.selection.rule = rule
    said = rf"best_of_n: --config\.selection\.rule={rule}: reads scores, and verifier\.path is"
    with pytest.raises(UserError, match=said):
        sweep.check(config)
    config.sweep.budgets = (1,)  # of which there is one candidate
    sweep.check(config)
    config.sweep.budgets = (2,)
    with config.unlocked():
        config.sweep.strategies.other = config.sweep.strategies.best_of_n.to_dict()
    config.sweep.strategies.best_of_n.verifier = "confidence:entropy"
    with pytest.raises(UserError, match=r"sweep\.strategies\.other: .* reads scores"):
        sweep.check(config)
    config.sweep.strategies.other.verifier = "confidence:entropy"
    sweep.check(config)


def test_a_strategy_that_fits_no_budget_is_refused(config, tmp_path):
    other = config.copy_and_resolve_references()
    other.sweep.budgets = (3,)
    with pytest.raises(UserError, match=r"beam_sqrt_n can spend none of sweep\.budgets"):
        sweep.main(other, tmp_path)
    assert not any(tmp_path.iterdir())
