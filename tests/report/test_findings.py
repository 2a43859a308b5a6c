"""The report's first lines say what the summaries show, and nothing that they do not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.report import samples
from ttc_jax.compute.ledger import Ledger
from ttc_jax.policy.difficulty import oracle, quantile_bins
from ttc_jax.report.findings import findings
from ttc_jax.results.curves import budget_grid
from ttc_jax.results.store import Candidate, Record
from ttc_jax.results.summary import DIFFICULTY, difficulty_samples, write_summary
from ttc_jax.results.summary_file import read_summary
from ttc_jax.results.sweep_summary import summarise_sweep

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def point(mean: float, half: float = 0.02) -> dict[str, float]:
    return {"mean": mean, "low": mean - half, "high": mean + half}


def curve(**points: float) -> dict[str, Any]:
    return {n.removeprefix("n"): point(mean) for n, mean in points.items()}


def ratio(mean: float, low: float, high: float, censored: bool = False) -> dict[str, Any]:
    return {"ratio": mean, "low": low, "high": high, "censored": censored}


def search(beam: dict[str, Any], hardest: float, low: float) -> dict[str, Any]:
    pool = curve(n4=0.5, n16=0.6, n64=0.7)
    parts = [
        {
            "questions": 20,
            "pass_at_1": easiness,
            "accuracy": {"best_of_n": curve(n64=right), "beam_4": beam},
        }
        for easiness, right in ((0.9, 0.95), (0.5, 0.7), (0.1, 0.2), (0.05, 0.1))
    ]
    hard = {"beam_4": curve(n16=hardest)}
    parts.append({"questions": 20, "pass_at_1": 0.001, "tied": 0.05, "accuracy": hard})
    return {
        "questions": 100,
        "accuracy": {"best_of_n": pool, "beam_4": beam},
        "bins": parts,
        "rule": "best_of_n_weighted",
        "separate_difficulty": True,
        "strategy_efficiency": {"beam_4": {"16": ratio(4.1, low, 6.0)}},
    }


def policy(
    net: dict[str, Any], gross: dict[str, Any], over: dict[str, float], **about: Any
) -> dict[str, Any]:
    easy = {"over_single": {"16": point(0.5)}}  # of a policy that was not written
    never = {"16": ratio(9.9, 9.0, 9.9)}
    return {
        "questions": 100,
        "rule": "best_of_n_weighted",
        "accuracy": {"best_of_n": curve(n4=0.5, n16=0.6, n64=0.7)},
        "compute_optimal": {"predicted": easy, "few": {"over_single": {"16": over}}},
        "efficiency": {"predicted": never, "few": {"4": ratio(1, 0.9, 1.1), "16": gross}},
        "efficiency_net": {"predicted": never, "few": {"4": ratio(0.5, 0.5, 0.6), "16": net}},
        "config": {"policy": {"difficulty": "few"}},
        **about,
    }


def without(kinds: dict[str, Any], n: str) -> dict[str, Any]:
    """A policy's summary whose written policy was not measured at a budget."""
    for name in ("efficiency", "efficiency_net"):
        del kinds[name]["few"][n]
    return kinds


def test_search_that_helps_and_a_policy_that_saves():
    saves = policy(ratio(3.3, 2.2, 4.8), ratio(4.1, 2.7, 6.0), point(0.02, 0.01))
    found = findings(
        {"search": search(curve(n4=0.62, n16=0.71), 0.2, 2.7), "policy": without(saves, "4")}
    )
    assert found == [
        "Beam 4 with 16 generations, right in 71.0 % (69 to 73), is as accurate as best-of-N "
        "weighted with 4.1 times as many (2.7 to 6.0).",
        "On the hardest fifth, 20 questions, where 0.1 % of the samples that tell the difficulty "
        "are right, beam 4 with 16 generations is right in 20.0 % (18 to 22).",
        "The policy by difficulty predicted from few samples with 16 generations is as accurate as "
        "best-of-N weighted with 3.3 times as many (2.2 to 4.8), counting those that tell the "
        "difficulty; with 4.1 times as many (2.7 to 6.0), not counting them.",
        "Choosing by difficulty adds to the best single strategy: +2.0 points (+1.0 to +3.0) with "
        "16 generations, not counting those that tell the difficulty.",
    ]


def test_nothing_helps_and_that_is_said():
    none = policy(ratio(0.99, 0.9, 1.2), ratio(1.5, 0.97, 2.0), point(0.0, 0.01))
    found = findings(
        {"search": search(curve(n4=0.4, n16=0.5), 0.01, 0.9), "policy": without(none, "4")}
    )
    assert found == [
        "No strategy is shown to save generations of best-of-N weighted. With 16 generations, "
        "beam 4 is right in 50.0 % (48 to 52), best-of-N weighted in 60.0 % (58 to 62).",
        "On the hardest fifth, 20 questions, every strategy is nearly always wrong: none at any "
        "budget is right in more than 1.0 % (-1 to 3); 0.1 % of the samples that tell the "
        "difficulty are right.",
        "The policy by difficulty predicted from few samples saves no generations of best-of-N "
        "weighted that can be told from none: with 16 generations it is as accurate as best-of-N "
        "weighted with 0.99 times as many (0.90 to 1.20), counting those that tell the "
        "difficulty; with 1.50 times as many (0.97 to 2.0), not counting them.",
        "Choosing by difficulty adds nothing to the best single strategy that can be told from "
        "nothing: +0.0 points (-1.0 to +1.0) with 16 generations, not counting those that tell "
        "the difficulty.",
    ]


def test_what_a_policy_costs_and_loses_is_said():
    cost = ratio(0.26, 0.12, 0.6)
    found = findings({"policy": policy(cost, cost, point(-0.05, 0.04), separate_difficulty=False)})
    assert found == [
        "The policy by difficulty predicted from few samples with 4 generations takes more than "
        "best-of-N weighted, which is as accurate with 0.50 times as many (0.50 to 0.60), counting "
        "those that tell the difficulty; with 1.00 times as many (0.90 to 1.10), not counting "
        "them.",
        "Choosing by difficulty loses to the best single strategy: -5.0 points (-9.0 to -1.0) with "
        "16 generations, not counting those that tell the difficulty.",
        "Difficulty was told by the samples that are scored, which flatters the policy.",
    ]


def test_ratios_below_one_are_a_cost():
    cost = ratio(0.26, 0.12, 0.6)
    alone = without(policy(cost, cost, point(0.0)), "4") | {"accuracy": {"best_of_n": {}}}
    assert findings({"policy": alone | {"efficiency_net": None}})[0] == (
        "The policy by difficulty predicted from few samples with 16 generations takes more than "
        "best-of-N weighted, which is as accurate with 0.26 times as many (0.12 to 0.60), not "
        "counting those that tell the difficulty."
    )


def test_a_curve_that_ends_supports_a_bound_alone():
    bound = ratio(3.0, 2.0, 4.0, censored=True)
    [first, _] = findings({"policy": without(policy(bound, bound, point(0.0)), "4")})
    assert first.endswith("with at least 2.0 times as many.")
    gross = without(policy(bound, bound, point(0.0)), "4") | {"efficiency_net": None}
    assert "at least 2.0 times as many, not counting" in findings({"policy": gross})[0]
    low = ratio(3.0, 0.03, 4.0, censored=True)  # which would say next to nothing
    [first, _] = findings({"policy": without(policy(low, low, point(0.0)), "4")})
    assert first.endswith("saves no generations of best-of-N weighted that can be told from none.")
    # The pool ends at 64, and with what told the difficulty 80 were spent: it may need any number.
    ended = {"64": ratio(0.8, 0.7, 0.8)}
    cut = policy(ratio(1, 1, 1), ratio(1, 1, 1), point(0.0))
    cut["efficiency_net"]["few"], cut["efficiency"]["few"] = ended, {"64": ratio(1.0, 0.9, 1.0)}
    assert "takes more" not in findings({"policy": cut})[0]
    cut["efficiency"]["few"]["64"]["high"] = 0.95
    assert "takes more" in findings({"policy": cut})[0]


def test_the_policy_is_the_one_that_was_written():
    one = policy(ratio(1, 1, 1), ratio(1, 1, 1), point(0.0))
    for kind, meant in (("predicted", "by predicted difficulty"), ("few", "from few samples")):
        one["config"]["policy"]["difficulty"] = kind
        assert meant in findings({"policy": one})[0]
    for section in ({"difficulty": "oracle"}, {"difficulty": ["few"]}, {}, 3):
        assert findings({"policy": one | {"config": {"policy": section}}}) == []


def test_chains_and_flops_and_samples_of_one_strategy():
    difference = {"16": -0.05, "22": 0.04, "30": 0.0}

    def charged(x: float, affordable: bool) -> dict[str, Any]:
        return {"affordable": affordable, "all": {"difference": point(x)}}

    sources: dict[str, dict[str, Any]] = {
        "search": {
            "accuracy": {
                "majority": curve(n16=0.4),
                "best_of_n": curve(n16=0.3),
                "pass": curve(n16=0.8),
            },
        },
        "policy": {
            "accuracy": {},
            "compute_optimal": {},
            "flops_match": {
                "few": {
                    R: {
                        "verifier": charged(0.9, True),
                        "verifier_and_difficulty": charged(x, True),
                    }
                    for R, x in difference.items()
                }
            },
        },
        "chains": {"chains": {"pass_at_1_by_position": [point(0.3), point(0.4)]}},
    }
    found = findings({name: x | {"questions": 50} for name, x in sources.items()})
    assert found == [
        "Of 16 candidates a question, the answer is right with majority 40.0 % (38 to 42), "
        "best-of-N 30.0 % (28 to 32); some candidate is right in 80.0 % (78 to 82).",
        "At equal FLOPs (the verifier and the samples that tell the difficulty included) the small "
        "model with the policy by difficulty predicted from few samples is, beside the larger one, "
        "behind at R = 16 (-5.0 points (-7.0 to -3.0)); ahead at R = 22 (+4.0 points (+2.0 to "
        "+6.0)); not told apart from it at R = 30 (+0.0 points (-2.0 to +2.0)).",
        "Along a chain of revisions the first answer is right in 30.0 % (28 to 32), answer 2 in "
        "40.0 % (38 to 42).",
    ]
    for charges in sources["policy"]["flops_match"]["few"].values():
        charges["verifier_and_difficulty"]["affordable"] = False
    [other] = findings({"policy": sources["policy"] | {"questions": 50}})
    assert "(the verifier included but not the samples that tell the difficulty)" in other


def test_every_job_and_none():
    assert len(findings(samples.summaries())) >= 5
    assert findings({}) == []
    assert findings({"search": {"accuracy": {}, "bins": [], "questions": 50}}) == []


@pytest.mark.parametrize("study", ["gsm8k", "quickstart"])
def test_summaries_of_earlier_versions_still_say_what_they_can(study: str, tmp_path: Path):
    """They have neither paired efficiencies nor whether samples apart told the difficulty."""
    whole = json.loads((RESULTS / study / "summary.json").read_text())
    about = {"questions": sum(part["questions"] for part in whole["by_bin"])}
    names = ("compute_optimal", "efficiency", "efficiency_net")
    lines = {name: x for name, x in whole["accuracy"].items() if "compute" not in name}
    found = {
        "search": about | {"accuracy": lines, "bins": whole["by_bin"], "rule": "majority"},
        "policy": about
        | {name: whole[name] for name in ("accuracy", *names)}
        | {"config": whole["config"]["policy"]},
    }
    for job, summary in found.items():
        write_summary(tmp_path / job, summary)
        assert read_summary(tmp_path / job, job, "") == summary
    first, second, *_ = findings(found)
    assert first.startswith("With ")
    assert "majority in " in first
    assert second.startswith("The policy by difficulty predicted from few samples ")
    assert whole["config"]["policy"]["policy"]["difficulty"] == "few"


def swept(
    budgets: dict[str, list[int]],
    questions: int,
    right: Any,
    rule: str = "majority",
    difficulty: Any = None,
) -> list[str]:
    """What is found in a sweep of candidates of whom `right` says (question, strategy, N, place).

    Args:
      difficulty: says of whom of 8 samples apart.
    """

    def record(q: int, name: str, n: int, is_right: Any) -> Record:
        answers = ["1" if is_right(q, name, n, i) else "2" for i in range(n)]
        candidates = tuple(Candidate((1,), x, True, -1.0, (), x, x == "1") for x in answers)
        return Record(f"q{q}", name, n, 0, candidates, Ledger())

    cells = [(name, n) for name, sizes in budgets.items() for n in sizes]
    records = [record(q, *cell, right) for q in range(questions) for cell in cells]
    if difficulty:
        records += [record(q, DIFFICULTY, 8, difficulty) for q in range(questions)]
    sizes = sorted({n for _, most in cells for n in budget_grid(most)})
    bins = quantile_bins(oracle(difficulty_samples(records)))
    summary = summarise_sweep(records, {}, sizes, bins, rule=rule, subsets=16)
    return findings({"search": summary})


BOTH = {"best_of_n": [16], "beam": [1, 4, 16]}


@pytest.mark.parametrize("which", ["right", "wrong"])
def test_questions_that_tell_nothing_apart(which: str):
    assert swept(BOTH, 10, lambda *_: which == "right") == [
        f"All 10 questions are answered {which} at every budget, so that they tell no strategy "
        "from another."
    ]


@pytest.mark.parametrize("asked", ["1 question is", "7 questions are"])
def test_a_few_questions_say_only_how_few_they_are(asked: str):
    found = swept(BOTH, int(asked[0]), lambda q, name, n, i: (q + i) % 3 == 0)
    assert found == [f"{asked} too few to say anything of others: findings begin at 10."]


def test_one_strategy_is_compared_with_one_candidate_of_it():
    [line] = swept({"best_of_n": [4]}, 10, lambda q, name, n, i: q < 5 and i != 2)
    assert re.fullmatch(
        r"Majority with 4 generations is right in 50\.0 % \(\d+ to \d+\), with 1 generation in "
        r"37\.5 % \(\d+ to \d+\)\.",
        line,
    )


def test_one_candidate_says_nothing():
    assert swept({"best_of_n": [1], "beam": [1]}, 10, lambda q, name, n, i: q % 2 == 0) == []


def test_a_flat_baseline_needs_one_generation():
    """Beam with 4 is as right as best-of-N with 64, and as best-of-N with 1."""
    [line] = swept({"best_of_n": [64], "beam": [1, 4]}, 10, lambda q, name, n, i: q < 5)
    assert line == (
        "No strategy is shown to save generations of majority. With 4 generations, beam is right "
        "in 50.0 % (20 to 80), majority in 50.0 % (20 to 80)."
    )


def test_what_is_saved_is_paired_by_question():
    """Of the pool's 16 some 6 to 9 are right, and of 4 of the beam all: each question gains."""

    def right(q: int, name: str, n: int, i: int) -> bool:
        return q > 8 and (name == "beam" or i < q % 4 + 6)

    [line] = swept({"best_of_n": [16], "beam": [4]}, 30, right)
    assert line.startswith("Beam with 4 generations, right in 70.0 %")
    assert line.endswith("is as accurate as majority with at least 4.0 times as many.")
    chance = swept({"best_of_n": [16], "beam": [4]}, 30, lambda q, name, n, i: (q * 7 + i) % 3 == 0)
    assert chance[0].startswith("No strategy is shown to save generations of majority. With 4 ")


def test_the_hardest_are_told_by_samples_apart_and_by_their_names_elsewhere():
    budgets = {"best_of_n": [16], "beam": [4]}

    def right(q: int, name: str, n: int, i: int) -> bool:
        return (q + i) % 3 == 0 if name == "best_of_n" else q > 25

    def told(q: int, name: str, n: int, i: int) -> bool:
        return i < q // 10

    _, line = swept(budgets, 60, right, difficulty=told)
    assert line.startswith(
        "On the hardest fifth, 12 questions, where 2.1 % of the samples that tell the difficulty "
        "are right, majority with "  # as the first sentence calls it, and not best-of-N
    )
    assert line.endswith(
        " As easy as some of another bin, so that their ids decide, are 17 % of these questions."
    )
    assert len(swept(budgets, 60, right)) == 1  # no samples apart
    assert len(swept(budgets, 60, right, difficulty=lambda *_: True)) == 1  # no bin is harder
    assert len(swept(budgets, 40, right, difficulty=told)) == 1  # 8 questions in a bin
