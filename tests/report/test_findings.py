"""The report's first lines say what the summaries show, and nothing that they do not."""

from __future__ import annotations

from typing import Any

from tests.report import samples
from ttc_jax.report.findings import findings


def point(mean: float, half: float = 0.02) -> dict[str, float]:
    return {"mean": mean, "low": mean - half, "high": mean + half}


def curve(**points: float) -> dict[str, Any]:
    return {n.removeprefix("n"): point(mean) for n, mean in points.items()}


def search(beam: dict[str, Any], hardest: float) -> dict[str, Any]:
    pool = curve(n4=0.5, n16=0.6, n64=0.7)
    parts = [
        {"pass_at_1": easiness, "accuracy": {"best_of_n": curve(n64=right), "beam_4": beam}}
        for easiness, right in ((0.9, 0.95), (0.5, 0.7), (0.1, 0.2), (0.05, 0.1))
    ]
    parts.append({"pass_at_1": 0.001, "accuracy": {"beam_4": curve(n16=hardest)}})
    return {
        "accuracy": {"best_of_n": pool, "beam_4": beam},
        "bins": parts,
        "rule": "best_of_n_weighted",
    }


def policy(low: float, censored: bool, over: float) -> dict[str, Any]:
    ratio = {"ratio": 4.1, "low": low, "high": 6.0, "censored": censored}
    return {
        "accuracy": {"best_of_n": curve(n4=0.5, n16=0.6)},
        "compute_optimal": {"few": {"over_single": {"16": point(over, 0.01)}}},
        "efficiency": {"few": {"4": ratio | {"low": 1.01}, "16": ratio}},
    }


def test_search_that_helps_and_a_policy_that_saves():
    found = findings(
        {"search": search(curve(n4=0.62, n16=0.71), 0.2), "policy": policy(2.7, False, 0.02)}
    )
    assert found == [
        "Beam 4 with 16 generations is at least as accurate as best-of-N weighted with 64: "
        "71.0 % (69 to 73) against 70.0 % (68 to 72).",
        "On the hardest fifth of the questions, where a single sample is right in 0.1 %, beam 4 "
        "with 16 generations is right in 20.0 % (18 to 22).",
        "The policy by difficulty predicted from few samples with 16 generations is as accurate as "
        "best-of-N with 4.1 times as many (2.7 to 6.0).",
        "Choosing by difficulty adds to the best single strategy: +2.0 points (+1.0 to +3.0) with "
        "16 generations.",
    ]


def test_nothing_helps_and_that_is_said():
    found = findings(
        {"search": search(curve(n4=0.4, n16=0.5), 0.01), "policy": policy(0.9, False, 0.0)}
    )
    assert found == [
        "No strategy saves half of the generations of best-of-N weighted. With 16, beam 4 has "
        "50.0 % (48 to 52), best-of-N weighted 60.0 % (58 to 62).",
        "On the hardest fifth of the questions nothing helps: no strategy at any budget is right "
        "in more than 1.0 % (-1 to 3), a single sample in 0.1 %.",
        "The policy by difficulty predicted from few samples saves no generations of best-of-N "
        "that can be told from none.",
        "Choosing by difficulty adds nothing to the best single strategy that can be told from "
        "nothing: +0.0 points (-1.0 to +1.0) with 16 generations.",
    ]
    bound = findings({"policy": policy(2.0, True, 0.0)})
    assert "at least 2.0 times as many." in bound[0]  # and not 4.1 times
    assert "(" not in bound[0]


def test_chains_and_flops_and_samples_of_one_strategy():
    difference = {"16": -0.05, "22": 0.04, "30": 0.0}
    found = findings(
        {
            "search": {
                "accuracy": {
                    "majority": curve(n16=0.4),
                    "best_of_n": curve(n16=0.3),
                    "pass": curve(n16=0.8),
                }
            },
            "policy": {
                "accuracy": {},
                "compute_optimal": {},
                "flops_match": {
                    "few": {
                        ratio: {"generator": {"affordable": True, "all": {"difference": point(x)}}}
                        for ratio, x in difference.items()
                    }
                },
            },
            "chains": {"chains": {"pass_at_1_by_position": [point(0.3), point(0.4)]}},
        }
    )
    assert found == [
        "Of 16 candidates a question, the answer is right with majority 40.0 % (38 to 42), "
        "best-of-N 30.0 % (28 to 32); some candidate is right in 80.0 % (78 to 82).",
        "At equal FLOPs the small model is, beside the larger one, behind at R = 16 (-5.0 points "
        "(-7.0 to -3.0)); ahead at R = 22 (+4.0 points (+2.0 to +6.0)); not told apart from it at "
        "R = 30 (+0.0 points (-2.0 to +2.0)).",
        "Along a chain of revisions the first answer is right in 30.0 % (28 to 32), answer 2 in "
        "40.0 % (38 to 42).",
    ]


def test_every_job_and_none():
    assert len(findings(samples.summaries())) >= 5
    assert findings({}) == []
    assert findings({"search": {"accuracy": {}, "bins": []}}) == []
