import dataclasses
import errno
import os

import pytest

from ttc_jax import files
from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.files import read_json
from ttc_jax.results.accuracy_table import accuracy_table
from ttc_jax.results.store import Candidate, Record
from ttc_jax.results.summary import (
    difficulty_samples,
    summarise,
    write_summary,
)
from ttc_jax.results.sweep_summary import summarise_sweep


def records(scored=True):
    scores = (0.9,) if scored else ()
    right = Candidate((1, 2), "7", True, -1.0, scores, "7", True)
    wrong = Candidate((1, 2), "8", True, -1.0, (0.1,) if scored else (), "8", False)
    cut = Candidate((1, 2), "", False, -1.0, (), None, False)
    return [
        Record("q/0", "best_of_n", 4, 0, (right, wrong, cut, cut), Ledger(4, 5, 8, 0, 6, 100, 70)),
        Record(
            "q/1", "best_of_n", 4, 0, (wrong, right, right, wrong), Ledger(4, 6, 8, 0, 8, 100, 70)
        ),
        Record("q/2", "best_of_n", 4, 0, (wrong,) * 4, Ledger(4, 7, 8, 0, 8, 100, 70), seconds=3.0),
    ]


def test_answers_without_a_box_are_counted():
    first, *others = records()
    *boxed, last = first.candidates
    first = dataclasses.replace(first, candidates=(*boxed, dataclasses.replace(last, unboxed=True)))
    assert summarise([first, *others], {})["candidates"] == {
        "count": 12,
        "cut_off": 2,
        "without_answer": 2,
        "unboxed": 1,
    }


def test_contents():
    summary = summarise(records(), {"n": 4})
    assert list(summary["accuracy"]) == ["majority", "best_of_n", "best_of_n_weighted", "pass"]
    for curve in summary["accuracy"].values():
        assert list(curve) == ["1", "2", "4"]
        for point in curve.values():
            assert 0 <= point["low"] <= point["mean"] <= point["high"] <= 1
    means = {rule: curve["4"]["mean"] for rule, curve in summary["accuracy"].items()}
    assert means == pytest.approx(
        {"majority": 1 / 3, "best_of_n": 2 / 3, "best_of_n_weighted": 2 / 3, "pass": 2 / 3},
        abs=1e-6,
    )
    assert summary["pass_at_1"]["mean"] == pytest.approx(0.25)
    assert summary["questions"] == 3
    assert summary["seeds"] == [0]
    assert summary["candidates"] == {"count": 12, "cut_off": 2, "without_answer": 2}
    assert summary["ledger"] == Ledger(12, 18, 24, 0, 22, 300, 210).to_dict()
    assert summary["ledger_per_question"]["prefill_tokens"] == 6
    assert summary["config"] == {"n": 4}
    assert {"python", "jax", "flax", "numpy"} <= summary["versions"].keys()


def test_rules_with_scores_need_a_verifier():
    assert list(summarise(records(scored=False), {})["accuracy"]) == ["majority", "pass"]


def test_equal_runs_write_equal_bytes(tmp_path):
    one = write_summary(tmp_path / "a", summarise(records(), {"n": 4}))
    other = write_summary(tmp_path / "b", summarise(records()[::-1], {"n": 4}))
    assert one.read_bytes() == other.read_bytes()
    assert read_json(one) == summarise(records(), {"n": 4})
    assert os.listdir(tmp_path / "a") == ["summary.json"]


def test_a_full_disk_keeps_the_old_summary(tmp_path, monkeypatch):
    path = write_summary(tmp_path, summarise(records(), {"n": 4}))
    before = path.read_bytes()

    def fsync(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", fsync)
    with pytest.raises(UserError, match=r"summary\.json: No space left on device"):
        write_summary(tmp_path, summarise(records(), {"n": 5}))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["summary.json"]


def sweep_records():
    """Ten questions, told apart by how many of four answers are right; search gets one more."""
    right = Candidate((1, 2), "7", True, -1.0, (0.9,), "7", True)
    wrong = Candidate((1, 2), "8", True, -1.0, (0.1,), "8", False)
    found = []
    for i in range(10):
        good = i // 2
        pool = (right,) * good + (wrong,) * (4 - good)
        found.append(Record(f"q/{i}", "best_of_n", 4, 0, pool, Ledger(4, 5)))
        for budget in (2, 4):
            beam = (right if good else wrong,) * budget
            found.append(Record(f"q/{i}", "beam_4", budget, 0, beam, Ledger(budget, 5)))
    return found


def test_a_sweep_compares_strategies_over_all_questions_and_by_difficulty():
    bins = {f"q/{i}": 4 - i // 2 for i in range(10)}
    summary = summarise_sweep(sweep_records(), {}, budgets=(2, 4), bins=bins)
    assert summary["questions"] == 10
    assert set(summary["accuracy"]) == {"best_of_n", "beam_4"}
    assert summary["accuracy"]["beam_4"]["2"]["mean"] == pytest.approx(0.8)
    assert summary["accuracy"]["best_of_n"]["4"]["mean"] == pytest.approx(0.8)
    # Two of four: a pair has a right one in 1 - C(4 - g, 2) / C(4, 2) of the cases.
    chances = [0.0, 0.5, 5 / 6, 1.0, 1.0]
    assert summary["accuracy"]["best_of_n"]["2"]["mean"] == pytest.approx(sum(chances) / 5)
    assert [part["pass_at_1"] for part in summary["bins"]] == [1.0, 0.75, 0.5, 0.25, 0.0]
    by_bin = [part["accuracy"]["best_of_n"]["2"]["mean"] for part in summary["bins"]]
    assert by_bin == pytest.approx(chances[::-1], abs=1e-6)
    assert [part["tied"] for part in summary["bins"]] == [0.0] * 5
    assert summary["separate_difficulty"] is False
    ahead = [1.0 - chance for chance in chances[1:]]
    gain = summary["gain"]["beam_4"]["2"]
    assert gain["mean"] == pytest.approx(sum(ahead) / 5, abs=1e-6)
    assert 0 < gain["low"] < gain["mean"] < gain["high"]
    assert [part["gain"]["beam_4"]["4"]["mean"] for part in summary["bins"]] == [0.0] * 5
    # The pool is as accurate as two of the beam with all its four, and no more.
    efficiency = summary["strategy_efficiency"]["beam_4"]
    assert [(n, x["ratio"], x["censored"]) for n, x in efficiency.items()] == [
        ("2", 2.0, False),
        ("4", 1.0, False),
    ]
    assert 1 <= efficiency["2"]["low"] <= efficiency["2"]["high"] <= 2
    assert summary["ledger"]["beam_4"]["2"]["generations"] == 2
    assert summary == summarise_sweep(sweep_records()[::-1], {}, budgets=(2, 4), bins=bins)


def test_strategies_are_compared_on_the_same_questions():
    bins = {f"q/{i}": 0 for i in range(10)}
    easy = [x for x in sweep_records() if x.strategy != "beam_4" or x.question > "q/3"]
    with pytest.raises(UserError, match="beam_4 at N=2 .* only one of them has 'q/0'"):
        summarise_sweep(easy, {}, budgets=(2, 4), bins=bins)


def test_a_sweep_without_scores_is_chosen_by_the_majority_alone():
    bins = {f"q/{i}": 0 for i in range(10)}

    def unscored(record: Record) -> Record:
        candidates = tuple(dataclasses.replace(x, step_scores=()) for x in record.candidates)
        return dataclasses.replace(record, candidates=candidates)

    records = [unscored(record) for record in sweep_records()]
    for rule in ("best_of_n", "best_of_n_weighted"):
        with pytest.raises(UserError, match=rf"rule={rule}: reads scores, and the sweep has none;"):
            summarise_sweep(records, {}, (2, 4), bins, rule=rule)
    summary = summarise_sweep(records, {}, (2, 4), bins, rule="majority")
    assert summary["accuracy"]["beam_4"]["2"]["mean"] == pytest.approx(0.8)
    mixed = [unscored(x) if x.strategy == "beam_4" else x for x in sweep_records()]
    with pytest.raises(UserError, match="reads scores, and the sweep has none of 'beam_4'; choose"):
        summarise_sweep(mixed, {}, (2, 4), bins)


def test_a_pool_with_a_budget_above_its_samples_is_named():
    bins = {f"q/{i}": 0 for i in range(10)}
    records = [
        dataclasses.replace(x, budget=10**12) if x.strategy == "best_of_n" else x
        for x in sweep_records()
    ]
    budgets = [2**i for i in range(40)]
    said = (
        "^results: the budget of question 'q/0' is 1000000000000, and it has samples of "
        "'best_of_n' for 4, .* each; leave budget out, or name the strategy otherwise$"
    )
    with pytest.raises(UserError, match=said):
        summarise_sweep(records, {}, budgets, bins)
    with pytest.raises(UserError, match=said):
        accuracy_table(records, budgets, pools=["best_of_n"])


def test_difficulty_is_told_by_the_largest_samples_that_all_questions_have():
    """A sweep grew from 2 samples to 4, took a second seed, and was stopped on its way to 8."""
    right = (Candidate((1,), "7", True, -1.0, (), "7", True),)

    def samples(questions: str, n: int, seed: int) -> list[Record]:
        return [Record(q, "difficulty", n, seed, right * n, Ledger(n, 0)) for q in questions]

    grown = [samples("abc", 2, 9), samples("abc", 4, 9), samples("abc", 4, 10), samples("ab", 8, 9)]
    found = difficulty_samples([record for part in grown for record in part] + sweep_records())
    assert [(x.question, len(x.candidates)) for x in found] == [("a", 8), ("b", 8), ("c", 8)]
    pools = [x for x in sweep_records() if x.strategy == "best_of_n"]
    assert difficulty_samples(sweep_records()) == pools
    assert difficulty_samples([]) == []
