"""Difficulty: shares, scores, what few samples tell, and bins of them all."""

import pytest

from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.policy.difficulty import (
    Binning,
    oracle,
    predicted,
    quantile_bins,
)
from ttc_jax.results.store import Candidate, Record


def record(question: str, right: list[bool], scores: list[tuple[float, ...]], seed=0) -> Record:
    candidates = tuple(
        Candidate((1,), "x", True, -1.0, score, "1", correct)
        for correct, score in zip(right, scores, strict=True)
    )
    return Record(question, "best_of_n", len(right), seed, candidates, Ledger())


def test_oracle_and_predicted_over_all_records_of_a_question():
    records = [
        record("b", [True, False], [(0.1, 0.9), (0.3,)]),
        record("a", [False], [()]),
        record("a", [True], [(0.4,)], seed=1),
    ]
    assert oracle(records) == {"a": 0.5, "b": 0.5}
    assert predicted(records) == pytest.approx({"a": 0.2, "b": 0.6})
    assert predicted(records, "product") == pytest.approx({"a": 0.2, "b": (0.09 + 0.3) / 2})
    with pytest.raises(UserError, match="samples of 'a' have no scores"):
        predicted([record("a", [True], [()])])


def test_fixed_bounds_and_bounds_that_rise():
    values = {"a": 0.9, "b": 0.5, "c": 0.49, "d": 0.1, "e": 0.0}
    assert Binning(values, edges=(0.5, 0.1)).of(list(values)).tolist() == [0, 0, 1, 1, 2]
    with pytest.raises(UserError, match="bounds must fall"):
        Binning(values, edges=(0.1, 0.5))


def test_quintiles_are_equal_in_size_and_ordered():
    easiness = {f"q/{i:02}": i / 20 for i in range(20)}
    bins = quantile_bins(easiness)
    assert [list(bins.values()).count(b) for b in range(5)] == [4] * 5
    for harder, easier in zip(
        sorted(easiness, key=lambda q: easiness[q]), list(easiness)[1:], strict=False
    ):
        assert bins[harder] >= bins[easier]


def test_ties_are_told_apart_by_id_whatever_the_order():
    for order in ("bdac", "cadb"):
        easiness: dict[str, float] = dict.fromkeys(order, 0.5)
        assert quantile_bins(easiness, bins=2) == {"a": 0, "b": 0, "c": 1, "d": 1}


def test_fewer_questions_than_bins():
    assert quantile_bins({"a": 0.9, "b": 0.1}) == {"a": 0, "b": 2}


def test_bins_that_ties_decide():
    some = {"a": 0.5, "b": 0.5, "c": 0.25, "d": 0.0}
    assert Binning(some, 2).tied(list(some)) == 0
    assert Binning({**some, "c": 0.5}, 2).tied(list(some)) == 0.75
    assert Binning({**some, "c": 0.5}, edges=(0.3,)).tied(list(some)) == 0
