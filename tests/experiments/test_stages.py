"""Stages: in order, once each, with the paths of earlier ones."""

import functools
import re
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from ttc_jax import jobs
from ttc_jax.config import load_config
from ttc_jax.errors import UserError
from ttc_jax.experiments.stages import DONE
from ttc_jax.hosts import hosts
from ttc_jax.jobs import run

CONFIG = Path(__file__).parents[2] / "configs" / "countdown.py"


@pytest.fixture
def calls(monkeypatch) -> list:
    """Jobs that do nothing but tell what they were given; `fail` names a stage that is killed."""
    seen: list = []

    def job(name: str, config: ConfigDict, workdir: Path) -> None:
        workdir.mkdir(parents=True, exist_ok=True)
        if config.get("fail"):
            raise KeyboardInterrupt
        seen.append((name, workdir.name, config.to_dict()))

    table = {name: functools.partial(job, name) for name in jobs.runners()}
    monkeypatch.setattr(jobs, "runners", lambda: table)
    monkeypatch.setattr(jobs, "checks", dict)  # nothing is refused
    return seen


def config(**changes) -> ConfigDict:
    stages = {
        "base": {"job": "train", "steps": 3},
        "data": {"job": "sweep", "generator": {"path": "stage:base"}},
        "head": {"job": "train", "data": {"path": "stage:data"}, "start": {"path": "stage:base"}},
    }
    return ConfigDict({"stages": ("base", "data", "head"), "stage": stages} | changes)


def test_stages_find_what_earlier_ones_left(calls, tmp_path):
    run.main(config(), tmp_path)
    assert [(job, stage) for job, stage, _ in calls] == [
        ("train", "base"),
        ("sweep", "data"),
        ("train", "head"),
    ]
    assert calls[1][2]["generator"] == {"path": str(tmp_path / "base" / "model")}
    assert calls[2][2]["data"] == {"path": str(tmp_path / "data")}


def test_a_stopped_pipeline_goes_on_with_the_stage_that_was_stopped(calls, tmp_path):
    stopped = config()
    stopped.stage.data.fail = True
    with pytest.raises(KeyboardInterrupt):
        run.main(stopped, tmp_path)
    run.main(config(), tmp_path)
    assert [stage for _, stage, _ in calls] == ["base", "data", "head"]
    run.main(config(), tmp_path)
    assert len(calls) == 3


def test_a_stage_with_another_config_is_done_again_and_what_refers_to_it(calls, tmp_path):
    run.main(config(), tmp_path)
    grown = config()
    grown.stage.data.seeds = (0, 1)
    run.main(grown, tmp_path)
    assert [stage for _, stage, _ in calls[3:]] == ["data", "head"]
    run.main(grown, tmp_path)
    assert len(calls) == 5


def test_what_refers_to_a_stage_is_done_again_after_a_kill_in_between(calls, tmp_path):
    run.main(config(), tmp_path)
    grown = config()
    grown.stage.data.seeds = (0, 1)
    stopped = ConfigDict(grown.to_dict())
    stopped.stage.head.fail = True
    with pytest.raises(KeyboardInterrupt):
        run.main(stopped, tmp_path)
    run.main(grown, tmp_path)
    assert [stage for _, stage, _ in calls[3:]] == ["data", "head"]


def test_stages_that_were_done_move_with_their_workdir(calls, tmp_path):
    run.main(config(), tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    run.main(config(), tmp_path / "there")
    assert len(calls) == 3


def test_a_job_refuses_what_its_workdir_cannot_become(tmp_path):
    stage = {"job": "gather", "models": {}, "measured": {}, "megabytes": 3}
    found = ConfigDict({"stages": ("all",), "stage": {"all": stage}})
    run.main(found, tmp_path)
    found.stage.all.megabytes = 4
    with pytest.raises(UserError, match=r"megabytes \(there 3.* --config\.stage\.all\.megabytes=3"):
        run.main(found, tmp_path)


def test_a_later_stage_that_cannot_run_is_refused_before_the_first_does(tmp_path):
    refused = {
        "stage.search.sweep.strategies.beam_4.options.width=3": "sweep.strategies.beam_4",
        "stage.search.execution.segment=0": "--config.stage.search.execution.segment=0",
        "stage.policy.policy.resamples=1": "--config.stage.policy.policy.resamples=1",
        "stage.probe.data.held_out=2": "--config.stage.probe.data.held_out=2",
    }
    for flag, said in refused.items():
        found = load_config("study:small_probe", [f"--config.{flag}"])
        with pytest.raises(UserError, match=re.escape(said)):
            run.main(found, tmp_path / "study")
        assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": ("data", "base")}, r"stage\.data\.generator\.path=stage:base: .* one of none"),
        ({"stages": ("base", "other")}, r"stages: other has no section stage\.other"),
    ],
)
def test_mistakes_are_found_before_anything_is_done(calls, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        run.main(config(**changes), tmp_path)
    assert not calls


def test_an_unknown_job_is_named(calls, tmp_path):
    wrong = config()
    wrong.stage.head.job = "paint"
    with pytest.raises(UserError, match=r"stage\.head\.job=paint: must be one of .*train"):
        run.main(wrong, tmp_path)
    assert not calls


@pytest.mark.parametrize("variant", ["quickstart", "paper", "assets"])
def test_the_pipelines_of_the_embedded_task_fit_together(calls, tmp_path, variant):
    """Every path of a stage leads to an earlier one."""
    found = load_config(f"{CONFIG}:{variant}")
    run.main(found, tmp_path)
    assert [stage for _, stage, _ in calls] == list(found.stages)


@pytest.mark.parametrize(
    ("variant", "flags", "message"),
    [
        (
            "small_vote",
            {"stages": "search,policy", "stage.policy.policy.difficulty": "few"},
            "told",
        ),
        (
            "small_vote",
            {"stages": "search,policy", "stage.policy.selection.rule": "best_of_n"},
            r"rule=best_of_n: reads scores, .*--config\.stage\.policy\.selection\.rule=majority",
        ),
        ("small_prm", {"stage.policy.policy.bins": 11}, r"bins=11: the sweep has 20 questions"),
        ("small_prm", {"stage.policy.policy.only": "nope"}, "has no nope; it has beam_4, best_of"),
        ("small_prm", {"stage.policy.policy.baseline": "beam_4"}, r"must be one of policy\.pools"),
        ("small_prm", {"task.name": "gsm9k"}, "unknown task 'gsm9k'"),
        ("small_probe", {"task.path": "no.jsonl"}, r"task\.path=no\.jsonl: no such file"),
        (
            "small_probe",
            {"task.train_path": "a/no.jsonl"},
            r"task\.train_path=a/no\.jsonl: no such",
        ),
        ("small_probe", {"generator.path": "./no"}, r"generator\.path=\./no: no such file"),
    ],
)
def test_a_plan_that_would_fail_later_is_refused_at_once(tmp_path, variant, flags, message):
    found = load_config(f"study:{variant}", [f"--config.{k}={v}" for k, v in flags.items()])
    with pytest.raises(UserError, match=message):
        run.main(found, tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_a_policy_asks_for_no_more_generations_than_the_sweep_has(tmp_path):
    found = load_config("countdown:quickstart", ["--config.stage.policy.policy.budgets=4,256"])
    with pytest.raises(UserError, match=r"budgets=4,256: the sweep has 64 generations"):
        run.main(found, tmp_path / "study")


@pytest.mark.parametrize("stages", [("search", "report"), ("search", "policy", "report")])
def test_a_page_does_without_what_is_left_out(calls, tmp_path, stages):
    run.main(load_config("study", [f"--config.stages={','.join(stages)}"]), tmp_path)
    shown = calls[-1][2]["data"]
    assert shown["search"] == str(tmp_path / "search")
    assert shown["policy"] == (str(tmp_path / "policy") if "policy" in stages else "")
    assert not shown["chains"]


@pytest.mark.parametrize("variant", ["quickstart", "paper"])
def test_one_flag_names_the_folder_of_all_models(variant):
    found = load_config(f"{CONFIG}:{variant}")
    shipped = str(found).count("embedded:")
    found.models = "runs/mine/"
    assert shipped > 5
    assert "embedded:" not in str(found)
    assert str(found).count("runs/mine/") == shipped
    assert found.stage.search.verifier.path == "runs/mine/prm"


def test_many_hosts_end_a_stage_together_and_the_first_says_that_it_is_done(
    calls, tmp_path, monkeypatch
):
    waited = []
    monkeypatch.setattr(hosts, "wait", waited.append)
    monkeypatch.setattr(hosts, "index", lambda: 1)
    run.main(config(), tmp_path)
    assert waited == [f"the end of stage {name}" for name in ("base", "data", "head")]
    assert len(calls) == 3
    assert not list(tmp_path.glob(f"*/{DONE}"))
