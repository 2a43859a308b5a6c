"""First wrong steps: accuracy and F1 against plain loops, the threshold, and its held-out part."""

import itertools

import numpy as np
import pytest

from ttc_jax import hashing
from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.results.judged import Judged, choose_threshold, first_below, summarise_judged


def drawn(seed: int, count: int = 160) -> list[Judged]:
    """Solutions of a few questions, with ties between scores."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        steps = int(rng.integers(1, 7))
        label = int(rng.integers(-1, steps))
        scores = rng.integers(5, 11, steps) / 10
        if label >= 0:
            scores[label] -= rng.integers(0, 6) / 10
        found.append(Judged(f"q{i % 50}", "ab"[i % 50 % 2], label, tuple(scores.tolist())))
    return found


def plain(solutions: list[Judged], threshold: float) -> tuple[float, float, float]:
    """As ProcessBench's own script has it."""
    wrong, right = [], []
    for solution in solutions:
        said = -1
        for place, score in enumerate(solution.scores):
            if score < threshold:
                said = place
                break
        (right if solution.label == -1 else wrong).append(said == solution.label)
    one, other = float(np.mean(wrong)), float(np.mean(right))
    return one, other, 2 * one * other / (one + other) if one + other else 0.0


def subset(solutions: list[Judged], name: str) -> list[Judged]:
    return [x for x in solutions if x.subset == name]


def summary_of(solutions: list[Judged], **options) -> dict:
    return summarise_judged(solutions, {}, Ledger(), **{"held_out": 0.3, **options})


@pytest.mark.parametrize("seed", range(3))
def test_measures_are_those_of_plain_loops(seed: int):
    solutions = drawn(seed)
    for threshold in (0.45, 0.5, 0.75):
        found = summary_of(solutions, threshold=threshold)
        assert "chosen_on" not in found["threshold"]
        rows = {name: found["subsets"][name] for name in "ab"} | {"average": found["average"]}
        expected = {name: plain(subset(solutions, name), threshold) for name in "ab"}
        expected["average"] = tuple(np.mean([expected["a"], expected["b"]], 0))
        for name, row in rows.items():
            for value, measure in zip(
                expected[name], ("accuracy_wrong", "accuracy_right", "f1"), strict=True
            ):
                estimate = row[measure]
                assert estimate["mean"] == pytest.approx(value, abs=1e-6)
                assert estimate["low"] <= estimate["mean"] <= estimate["high"]
        assert found["subsets"]["a"]["wrong"] == sum(x.label >= 0 for x in subset(solutions, "a"))


@pytest.mark.parametrize("seed", range(3))
def test_the_threshold_is_the_best_on_held_out_questions_alone(seed: int):
    solutions = drawn(seed)
    kept = [x for x in solutions if hashing.falls_within(x.question, 0.3)]
    rest = [x for x in solutions if not hashing.falls_within(x.question, 0.3)]
    threshold, f1 = choose_threshold(kept)
    scores = sorted({score for x in kept for score in x.scores})
    tried = [0.0, *((a + b) / 2 for a, b in itertools.pairwise(scores)), 2.0]
    best = max(np.mean([plain(subset(kept, name), at)[2] for name in "ab"]) for at in tried)
    assert f1 == pytest.approx(best)
    found = summary_of(solutions)
    assert found["threshold"]["value"] == threshold
    assert found["threshold"]["chosen_on"]["solutions"] == len(kept)
    assert found["subsets"]["a"]["f1"]["mean"] == pytest.approx(
        plain(subset(rest, "a"), threshold)[2], abs=1e-6
    )
    assert found["labels"]["a"]["solutions"] == len(subset(solutions, "a"))
    # Whatever the scores of the others are, and however solutions are ordered.
    others = [x if x in kept else x._replace(scores=(0.5,) * len(x.scores)) for x in solutions]
    assert summary_of(others)["threshold"] == found["threshold"]
    assert summary_of(solutions[::-1]) == found


def test_a_perfect_verifier_finds_all():
    solutions = [
        Judged(f"q{i}", "a", i % 3 - 1, tuple(float(j != i % 3 - 1) for j in range(3)))
        for i in range(60)
    ]
    row = summary_of(solutions)["subsets"]["a"]
    assert row["f1"] == {"mean": 1.0, "low": 1.0, "high": 1.0}


def test_what_is_not_there_has_no_estimate():
    solutions = [Judged(f"q{i}", "a", -1, (0.5,)) for i in range(20)]
    row = summary_of(solutions, threshold=0.3)["subsets"]["a"]
    assert row["accuracy_wrong"] is None
    assert row["f1"] is None
    assert row["accuracy_right"]["mean"] == 1
    with pytest.raises(UserError, match="no subset of the held-out questions has both"):
        summary_of(solutions)
    with pytest.raises(UserError, match=r"data.held_out=1e-09 leaves 0 solutions to choose"):
        summary_of(solutions, held_out=1e-9)


def test_the_first_below():
    assert first_below((0.5, 0.2, 0.1), 0.3) == 1
    assert first_below((0.5, 0.3), 0.3) == -1
