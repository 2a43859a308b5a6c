"""The job `policy`: from a sweep's records to a config, without any model."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.jobs.conftest import changed, configure
from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.experiments.fitted import followed
from ttc_jax.experiments.spending import PARALLEL
from ttc_jax.jobs import policy
from ttc_jax.policy.allocation_file import read_allocation
from ttc_jax.policy.policy import Policy
from ttc_jax.policy_file import Entry, PolicyFile, read_policy
from ttc_jax.results.store import Candidate, Record, ResultsStore
from ttc_jax.typed_json import read_json

QUESTIONS, BUDGETS, SEEDS = 60, (4, 16), (0, 1)


def record(question: int, strategy: str, n: int, chance: float, seed: int) -> Record:
    """Right answers agree; wrong ones differ. Scores tell right from wrong, with noise."""
    rng = np.random.default_rng([question, n, seed, len(strategy)])
    right = rng.random(n) < chance
    candidates = tuple(
        Candidate(
            tokens=(1,),
            text="",
            finished=True,
            log_prob=-1.0,
            step_scores=(float(np.clip(0.3 + 0.4 * ok + rng.normal(0, 0.1), 0, 1)),),
            answer="right" if ok else f"wrong {i}",
            correct=bool(ok),
        )
        for i, ok in enumerate(right)
    )
    ledger = Ledger(generations=n, generator_flops=20 * n, verifier_flops=10 * n)
    asked = f"q{question:03}"
    return Record(asked, strategy, n, seed, candidates, ledger, question_score=chance)


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Path:
    """Beam helps on hard questions and hurts on easy ones."""
    workdir = tmp_path_factory.mktemp("sweep")
    records = []
    for question in range(QUESTIONS):
        easiness = 1 - question / QUESTIONS
        base = 0.02 + 0.5 * easiness**3
        records.append(record(question, "difficulty", 32, base, 1000))
        for seed in SEEDS:
            records.append(record(question, "best_of_n", 16, base, seed))  # before the sweep grew
            records.append(record(question, "best_of_n", 64, base, seed))
            for n in BUDGETS:
                helped = 0.3 * base if easiness > 0.6 else min(1.0, base + 0.3)
                records.append(record(question, "beam", n, helped, seed))
    ResultsStore(workdir).append(records)
    return workdir


@pytest.fixture
def config(swept: Path) -> ConfigDict:
    return configure(
        "policy",
        data__path=swept,
        policy__budgets="4,16",
        policy__resamples=50,
        selection__subsets=16,
    )


def test_a_sweep_becomes_a_policy_in_a_file(config, tmp_path, capsys):
    policy.main(config, tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary["accuracy"]) == {
        "best_of_n",
        "compute_optimal_oracle",
        "compute_optimal_predicted",
        "compute_optimal_few",
        "compute_optimal_question",
    }
    assert (summary["rule"], summary["separate_difficulty"]) == ("best_of_n_weighted", True)
    oracle = summary["compute_optimal"]["oracle"]
    assert oracle["choice"]["bin_1"]["n_4"] == "best_of_n"
    assert oracle["choice"]["bin_4"]["n_4"] == "beam"
    assert oracle["gain"]["4"]["low"] > 0
    assert len(oracle["by_bin"]) == 5
    assert summary["efficiency"]["oracle"]["4"]["ratio"] > 1
    assert summary["efficiency"]["predicted"]["4"]["low"] > 0
    gross, net = (summary[name] for name in ("efficiency", "efficiency_net"))
    assert net["question"] == gross["question"]  # no sample told it
    # Four samples: best-of-N has them already, beam pays for them on top.
    assert 0.5 <= net["few"]["4"]["ratio"] / gross["few"]["4"]["ratio"] < 1
    # All 32, which is more than either strategy needs.
    assert net["oracle"]["4"]["ratio"] <= gross["oracle"]["4"]["ratio"] * 4 / 32
    table = read_json(tmp_path / "policy.json", PolicyFile)
    assert table.difficulty == "predicted"
    assert table.samples == 4
    found = Policy.from_dict(vars(table))
    assert [tuple(row) for row in found.choice] == [BUDGETS] * 5
    assert found.to_dict()["choice"] == summary["compute_optimal"]["few"]["choice"]
    assert found.strategy(0.0, 16)[0] in ("beam", "best_of_n")
    spread = read_allocation(str(tmp_path))
    assert spread.budgets == tuple(map(int, summary["allocation"])) == (8, 16, 32)
    assert spread.grid == (4, 8, 16, 32, 64)
    printed = " ".join(capsys.readouterr().out.split())
    assert "strategy by oracle difficulty" in printed
    assert "the baseline needs" in printed
    for name in ("compute_optimal.png", "compute_optimal.csv", "compute_optimal.svg"):
        assert (tmp_path / name).stat().st_size > 0
    before = (tmp_path / "summary.json").read_bytes()
    policy.main(config, tmp_path)
    assert (tmp_path / "summary.json").read_bytes() == before
    policy.main(changed(config, policy__budgets=(4, 8, 16)), tmp_path)  # as the sweep grows
    grown = json.loads((tmp_path / "summary.json").read_text())
    assert list(grown["efficiency"]["oracle"]) == ["4", "8", "16"]
    with pytest.raises(UserError, match=r"belongs to another config: policy\.bins"):
        policy.main(changed(config, policy__bins=4), tmp_path)


def test_against_a_larger_model_at_equal_flops(config, tmp_path):
    greedy = [record(i, "best_of_n", 1, 0.6, 0) for i in range(QUESTIONS)]
    ResultsStore(tmp_path / "large").append(greedy)
    policy.main(changed(config, flops_match__large=str(tmp_path / "large")), tmp_path / "out")
    found = json.loads((tmp_path / "out" / "summary.json").read_text())["flops_match"]
    assert list(found) == ["oracle", config.policy.difficulty]
    found = found[config.policy.difficulty]
    assert list(found) == ["0.16", "0.79", "22"]
    plain = found["22"]["generator"]
    assert plain["generations"] == pytest.approx(14 + 3 / 22 * 13)
    assert plain["affordable"]
    assert not plain["beyond"]
    assert found["0.16"]["generator"]["beyond"]
    assert len(plain["by_bin"]) == 5
    share = np.mean([r.candidates[0].correct for r in greedy])
    assert plain["all"]["large"]["mean"] == pytest.approx(share, abs=1e-6)
    assert plain["all"]["difference"]["mean"] == pytest.approx(
        plain["all"]["small"]["mean"] - share, abs=1e-5
    )
    assert found["22"]["verifier"]["generations"] == pytest.approx(plain["generations"] / 1.5)
    difficulty = found["22"]["verifier_and_difficulty"]
    assert difficulty["generations"] == pytest.approx(found["22"]["verifier"]["generations"] - 4)
    all_samples = changed(config, policy__difficulty="oracle")
    all_samples.flops_match.large = str(tmp_path / "large")
    policy.main(all_samples, tmp_path / "oracle")
    found = json.loads((tmp_path / "oracle" / "summary.json").read_text())["flops_match"]["oracle"]
    assert not found["22"]["verifier_and_difficulty"]["affordable"]  # 32 samples a question


def test_samples_that_do_not_tell_flops_are_matched_without_the_verifiers(
    config, swept, tmp_path, caplog
):
    ledger = Ledger(generations=4)
    told = [dataclasses.replace(x, ledger=ledger) for x in ResultsStore(swept).read()]
    ResultsStore(tmp_path / "told").append(told)
    ResultsStore(tmp_path / "large").append([record(i, "large", 1, 0.6, 0) for i in range(60)])
    config = changed(config, data__path=str(tmp_path / "told"))
    policy.main(changed(config, flops_match__large=str(tmp_path / "large")), tmp_path / "out")
    found = json.loads((tmp_path / "out" / "summary.json").read_text())["flops_match"]["oracle"]
    assert [list(charged) for charged in found.values()] == [["generator"]] * 3
    assert "FLOPs are not told in data.path" in caplog.text
    config.flops_match.formula = "iclr"  # which charges a verifier of the generator's size
    policy.main(changed(config, flops_match__large=str(tmp_path / "large")), tmp_path / "iclr")
    found = json.loads((tmp_path / "iclr" / "summary.json").read_text())["flops_match"]["oracle"]
    assert list(found["22"]) == ["verifier", "verifier_and_difficulty"]


def test_what_tells_the_difficulty_is_charged_in_full(config, swept, tmp_path):
    """The store of a sweep that has grown holds the samples of all its sizes and seeds."""
    grown = ResultsStore(swept).read()
    for question in range(QUESTIONS):
        base = 0.02 + 0.5 * (1 - question / QUESTIONS) ** 3
        grown += [record(question, "difficulty", 48, base, seed) for seed in (1000, 1001)]
    ResultsStore(tmp_path / "grown").append(grown)
    config = changed(config, data__path=str(tmp_path / "grown"), policy__difficulty="predicted")
    policy.main(config, tmp_path / "out")
    assert read_json(tmp_path / "out" / "policy.json", PolicyFile).samples == 96
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    gross, net = (summary[name]["predicted"]["16"] for name in ("efficiency", "efficiency_net"))
    # Best-of-N and beam with 16 generations would have 96 samples to pay for on top, or to share.
    assert net["ratio"] <= gross["ratio"] * 16 / 96 + 1e-6


def test_absolute_bins(config, tmp_path):
    policy.main(changed(config, policy__edges=(0.3, 0.1), policy__difficulty="oracle"), tmp_path)
    table = read_json(tmp_path / "policy.json", PolicyFile)
    assert table.edges == (0.3, 0.1)


def test_without_samples_of_its_own_difficulty_comes_from_the_baseline(
    config, swept, tmp_path, caplog
):
    rest = [x for x in ResultsStore(swept).read() if x.strategy != "difficulty"]
    ResultsStore(tmp_path / "rest").append(rest)
    policy.main(changed(config, data__path=str(tmp_path / "rest")), tmp_path / "out")
    assert "which flatters it" in caplog.text
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["separate_difficulty"] is False


def test_a_policy_says_how_its_strategies_were_run(config, swept, tmp_path):
    """So that they can be run again, where the data come from a sweep."""
    entry = {"strategy": "beam", "options": {"width": 4}}
    others = {"dvts": {"strategy": "dvts"}, "mine": {"strategy": "own:Mine"}}
    sweep = {"sweep": {"strategies": {"beam": entry, **others}}}
    ResultsStore(tmp_path / "sweep").append(ResultsStore(swept).read())
    (tmp_path / "sweep" / "config.json").write_text(json.dumps(sweep))
    policy.main(changed(config, data__path=str(tmp_path / "sweep")), tmp_path / "out")
    table = read_json(tmp_path / "out" / "policy.json", PolicyFile)
    # One that no bin uses may be switched to, unless it takes code of one's own.
    assert table.strategies == {"beam": Entry(**entry), "dvts": Entry("dvts")}


def test_what_is_written_is_what_solve_follows(config, swept, tmp_path):
    ResultsStore(tmp_path / "sweep").append(ResultsStore(swept).read())
    strategies = {
        "beam": {"strategy": "beam", "options": {"width": 4}},
        "best_of_n": vars(PARALLEL),
    }
    sweep = ConfigDict({"sweep": {"strategies": strategies}})
    (tmp_path / "sweep" / "config.json").write_text(sweep.to_json())
    policy.main(changed(config, data__path=str(tmp_path / "sweep")), tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    flags = {"policy__path": tmp_path / "out", "policy__choice__bin_1__n_16": "beam"}
    effective, fitted = followed(configure("solve", **flags))
    choice = summary["compute_optimal"]["few"]["choice"]
    choice["bin_1"]["n_16"] = "beam"
    assert effective.policy.choice.to_dict() == choice
    assert fitted is not None
    assert fitted.policy.strategy(1.0, 16) == ("beam", 16)
    assert (fitted.difficulty, fitted.samples) == ("predicted", 4)


def test_questions_without_a_score_cannot_be_told_apart_by_it(config, swept, tmp_path):
    records = [dataclasses.replace(x, question_score=None) for x in ResultsStore(swept).read()]
    ResultsStore(tmp_path / "sweep").append(records)
    config = changed(config, data__path=str(tmp_path / "sweep"))
    policy.main(config, tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert list(summary["efficiency"]) == ["oracle", "predicted", "few"]
    with pytest.raises(UserError, match="has no scores of questions, .*choose oracle or"):
        policy.main(changed(config, policy__difficulty="question"), tmp_path / "other")


def test_samples_without_scores_vote_and_tell_oracle_difficulty(config, swept, tmp_path):
    def unscored(found: Record) -> Record:
        candidates = tuple(dataclasses.replace(x, step_scores=()) for x in found.candidates)
        return dataclasses.replace(found, candidates=candidates, question_score=None)

    ResultsStore(tmp_path / "plain").append([unscored(x) for x in ResultsStore(swept).read()])
    config = changed(config, data__path=str(tmp_path / "plain"))
    with pytest.raises(UserError, match=r"best_of_n_weighted: reads scores, .*rule=majority"):
        policy.main(config, tmp_path / "out")
    config = changed(config, selection__rule="majority")
    with pytest.raises(UserError, match=r"has no scores of samples, .*; choose oracle"):
        policy.main(config, tmp_path / "out")
    policy.main(changed(config, policy__difficulty="oracle"), tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert list(summary["efficiency"]) == ["oracle"]
    assert "allocation" not in summary
    assert not (tmp_path / "out" / "allocation.json").exists()


def test_a_policy_chooses_among_what_it_is_told_to(config, swept, tmp_path):
    """As one for revisions alone, from a sweep that also searches."""
    policy.main(changed(config, policy__only=("best_of_n",)), tmp_path / "out")
    found = read_policy(str(tmp_path / "out"))
    assert {name for row in found.choice.values() for name in row.values()} == {"best_of_n"}
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["config"]["policy"]["only"] == ["best_of_n"]


def test_what_cannot_be_fitted_is_named(config, swept, tmp_path):
    def refused(message: str, **fields) -> None:
        with pytest.raises(UserError, match=message):
            policy.main(changed(config, **fields), tmp_path / "out")
        assert not (tmp_path / "out").exists()

    refused("holds no records", data__path=str(tmp_path))
    refused("has no such strategy; it has beam, best_of_n", policy__baseline="dvts")
    refused("must be one of policy.pools, .* now best_of_n", policy__baseline="beam")
    refused(
        "policy.only=beam,rebase: .* has no rebase; it has beam", policy__only=("beam", "rebase")
    )
    refused("has pools of 64 candidates", policy__budgets=(4, 128))
    refused("bounds must fall", policy__edges=(0.1, 0.5))
    refused("must be one of arxiv, iclr", flops_match__formula="icml")
    some = [x for x in ResultsStore(swept).read() if x.question != "q000" or x.strategy != "beam"]
    ResultsStore(tmp_path / "some").append(some)
    refused("holds 59 of 60 questions; run the sweep", data__path=str(tmp_path / "some"))
