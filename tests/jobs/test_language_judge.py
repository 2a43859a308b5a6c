"""Language models that judge, from configs and calls: run, sweep, solve, judge, LLM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict

from tests.jobs.conftest import changed, configure
from ttc_jax import LLM
from ttc_jax.config import load_config
from ttc_jax.errors import UserError
from ttc_jax.experiments import build, inputs
from ttc_jax.experiments.fitted import write_policy
from ttc_jax.files import read_json
from ttc_jax.jobs import judge, run, sweep
from ttc_jax.policy.policy import Policy
from ttc_jax.policy_file import Entry, read_policy
from ttc_jax.results.store import ResultsStore

QUESTIONS = ["03 05 09=11:", "04 07 13=24:"]
PICK = {
    "prompt": "{question}\n{answers}",
    "answer": "{number}: {solution}\n",
    "chat": False,
    "tokens": 3,
    "samples": 2,
}
SCORE = {"prompt": "{question}\n{solution}\n", "chat": False, "good": "1", "bad": "0"}


@pytest.fixture(scope="module")
def judges(tmp_path_factory) -> tuple[str, str]:
    """The generator as one who picks, and as a verifier, asked in the task's own characters."""
    folder = tmp_path_factory.mktemp("judges")
    (folder / "pick.json").write_text(json.dumps(PICK))
    (folder / "score.json").write_text(json.dumps(SCORE))
    return f"{folder / 'pick.json'}:generator", f"{folder / 'score.json'}:generator"


def configured(variant: str, **changes: Any) -> ConfigDict:
    return configure(
        variant,
        verifier__path="",
        sampling__max_new_tokens=40,
        execution__rows=8,
        **changes,
    )


def test_a_run_has_the_judges_choice_beside_the_votes(judges, tmp_path: Path):
    config = configured("best_of_n", limit=3, sampling__n=4, search__judge=judges[0])
    run.main(config, tmp_path)
    records = ResultsStore(tmp_path).read()
    asked = [x for x in records if x.choice and x.choice.texts]
    assert len(records) == 3
    assert asked
    for record in records:
        assert record.choice is not None
        assert record.choice.chosen in record.candidates
        assert len(record.choice.texts) in (0, 2)
        assert (record.ledger.verifier_tokens > 0) == bool(record.choice.texts)
    summary = read_json(tmp_path / "summary.json")
    right = sum(x.choice.chosen.correct for x in records if x.choice)
    assert summary["accuracy"]["judge"]["4"]["mean"] == pytest.approx(right / 3, abs=1e-6)
    assert summary["candidates"]["verdicts"] == 2 * len(asked)
    with pytest.raises(UserError, match=r"search.judge \(there '.*', now ''\)"):
        run.main(changed(config, search__judge=""), tmp_path)
    Path(judges[0].partition(":")[0]).write_text(json.dumps(PICK | {"samples": 1}))
    with pytest.raises(UserError, match=r"search.judge=.* has changed since this workdir began"):
        run.main(config, tmp_path)
    Path(judges[0].partition(":")[0]).write_text(json.dumps(PICK))


def test_a_sweep_has_the_judge_as_one_strategy_more(judges, tmp_path: Path):
    config = configured(
        "search",
        limit=2,
        search__judge=judges[0],
        selection__rule="majority",
        sweep__budgets="2,",
        sweep__seeds="0",
        sweep__difficulty__samples=0,
    )
    strategies = config.sweep.strategies
    for name in set(strategies) - {"best_of_n"}:
        with config.unlocked():
            del strategies[name]
    sweep.main(config, tmp_path)
    records = ResultsStore(tmp_path).read()
    cells = {(x.strategy, x.budget, x.choice is not None) for x in records}
    assert cells == {("best_of_n", 2, False), ("judge", 2, True)}
    summary = read_json(tmp_path / "summary.json")
    right = sum(x.choice.chosen.correct for x in records if x.choice)
    assert summary["accuracy"]["judge"]["2"]["mean"] == pytest.approx(right / 2, abs=1e-6)
    texts = sum(len(x.choice.texts) for x in records if x.choice)
    assert summary["judged"]["judge"]["2"]["verdicts"] == texts
    policy = Policy.from_dict({"edges": (), "choice": {"bin_1": {"n_2": "judge"}}})
    of = ConfigDict({"data": {"path": str(tmp_path)}, "policy": {"difficulty": "few"}})
    write_policy(tmp_path / "policy.json", of, policy, samples=2)
    entry = read_policy(str(tmp_path / "policy.json")).strategies["judge"]
    assert entry == Entry("best_of_n", judge=judges[0])
    with config.unlocked():
        strategies.judge = strategies.best_of_n
    with pytest.raises(UserError, match=r"sweep.strategies.judge: search.judge adds a strategy"):
        sweep.check(config)


def test_questions_are_answered_by_what_the_judge_picks(judges):
    config = configured("solve", budget=4, selection__rule="majority", search__judge=judges[0])
    found = build.solver(config).solve(QUESTIONS)
    llm = LLM("embedded:generator", rows=8)
    options: dict[str, Any] = {"budget": 4, "task": "countdown", "max_tokens": 40}
    called = llm.solve(QUESTIONS, judge=judges[0], **options)
    for one in (*found, *called):
        assert one.alternatives[0].answer == one.answer
        assert (one.ledger.verifier_tokens > 0) == (one.candidates["verdicts"] == 2)
        assert one.ledger.generations == 4
    assert any(one.candidates["verdicts"] for one in (*found, *called))
    for changes, said in (
        ({"judge": "pick"}, "judge=pick: is no judge; name its format and its model"),
        ({"judge": judges[1]}, "scores one solution: it is a verifier; name it by verifier"),
        (
            {"judge": "pick:", "policy": "x"},
            "judge is pick:: the policy says where a judge chooses",
        ),
    ):
        with pytest.raises(UserError, match=said):
            llm.solve(QUESTIONS, **{**options, **changes})


def test_a_generative_verifier_is_judged_like_any_other(judges, tmp_path: Path):
    rows = [
        {"problem": QUESTIONS[0], "steps": ["03+05=08", "09+08=17"], "label": 1},
        {"problem": QUESTIONS[1], "steps": ["04+07=11"], "label": -1},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    config = load_config(
        f"{Path(__file__).parents[2] / 'configs' / 'judge.py'}:countdown",
        [
            f"--config.data.path={file}",
            f"--config.verifier.path={judges[1]}",
            "--config.judge.threshold=0.5",
            "--config.execution.rows=4",
        ],
    )
    judge.main(config, tmp_path / "judged")
    found = ResultsStore(tmp_path / "judged").read()
    assert sorted(len(x.candidates[0].step_scores) for x in found) == [1, 2]
    texts = [
        f"{row['problem']}\n" + "\n".join(row["steps"][: n + 1]) + "\n"
        for row in rows
        for n in range(len(row["steps"]))
    ]
    summary = read_json(tmp_path / "judged" / "summary.json")
    assert summary["ledger"]["verifier_tokens"] == sum(map(len, texts))
    config.generator.path = ""
    with pytest.raises(UserError, match="the generator is to judge, and none is named"):
        judge.main(config, tmp_path / "other")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("search.judge", "judge:generator", "search.judge=judge:generator: scores one solution"),
        ("search.judge", "embedded:prm", "search.judge=embedded:prm: is no judge"),
        ("search.judge", "missing.json:generator", "missing.json: missing"),
        ("verifier.path", "pick:generator", "verifier.path=pick:generator: chooses from several"),
    ],
)
def test_a_wrong_judge_is_refused_before_models_are_read(field: str, value: str, said: str):
    named = {"generator__path": "/nowhere", field.replace(".", "__"): value}
    with pytest.raises(UserError, match=said):
        run.check(configure("best_of_n", **named))


def test_a_judge_that_is_the_generator_is_known_by_its_format(judges):
    def digest(path: str) -> str:
        config = configured("best_of_n", search__judge=path)
        return inputs.digests(config).get("search.judge", "")

    assert len({digest(path) for path in ("pick:generator", "merge:generator", judges[0])}) == 3
