"""Accuracy along chains of revisions, and flips, on records written by hand."""

import dataclasses

import pytest

from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.results.chains import AFRESH, flips, pass_at_1_by_position, summarise_chains
from ttc_jax.results.curves import question_accuracy
from ttc_jax.results.store import Candidate, Record


def record(question: str, *chains: str, seed: int = 0) -> Record:
    """A chain is a word of r (right) and w (wrong)."""
    candidates = tuple(
        Candidate((), "", True, -1.0, (0.5,), "1" if letter == "r" else "2", letter == "r")
        for letter in "".join(chains)
    )
    return Record(
        question, "chains", len(candidates), seed, candidates, Ledger(), sequential=len(chains[0])
    )


RECORDS = [record("a", "wrr", "wwr"), record("b", "rwr", "www"), record("b", "rrr", "wwr", seed=1)]


def test_accuracy_by_position_averages_chains_then_questions():
    found = pass_at_1_by_position(RECORDS)
    assert [x.mean for x in found] == [
        pytest.approx((0 + 0.5) / 2),
        pytest.approx((0.5 + 0.25) / 2),
        pytest.approx((1 + 0.75) / 2),
    ]
    assert all(0 <= x.low <= x.mean <= x.high <= 1 for x in found)


def test_flips_count_pairs():
    found = flips(RECORDS)
    means = {name: x.mean for name, x in found.items() if x}
    assert means["right_to_wrong"] == pytest.approx(1 / 4)  # rr, rw, rr, rr
    assert means["wrong_to_right"] == pytest.approx(4 / 8)  # wr ww wr wr ww ww ww wr
    # Wrong answers by chain: 1 of wrr, 2 of wwr; 1 of rwr, 2 of www, 0 of rrr, 2 of wwr.
    assert means[AFRESH] == pytest.approx((0 + 0 + 1 / 3 + 2 * 2 / 3 + 2 * 2 / 3) / 8)
    alone = flips([record("a", "ww")])
    assert alone["right_to_wrong"] is None
    assert alone[AFRESH] is None


def test_the_summary_is_plain_data():
    summary = summarise_chains([record("a", "ww")])
    assert summary["pass_at_1_by_position"] == [{"mean": 0.0, "low": 0.0, "high": 0.0}] * 2
    assert summary["flips"]["right_to_wrong"] is None


def test_chains_of_different_lengths_are_refused():
    with pytest.raises(UserError, match=r"one length, not \[2, 3\]"):
        flips([RECORDS[0], record("c", "ww")])


def test_chains_count_as_a_whole():
    records = [record("a", "wrr", "wwr")]
    assert question_accuracy(records, ["majority"]).budgets == (6,)
    with pytest.raises(UserError, match="N must be 6"):
        question_accuracy(records, ["majority"], [3])
    # The hierarchical vote: the first chain sends its right answer, the second its wrong one.
    values = question_accuracy(records, ["best_of_n_weighted", "majority"]).values
    assert values["best_of_n_weighted"].item() == pytest.approx(0.5)
    assert values["majority"].item() == pytest.approx(0.5)


def test_a_record_of_broken_chains_is_refused(tmp_path):
    from ttc_jax.results.store import ResultsStore

    broken = dataclasses.replace(RECORDS[0], sequential=4)
    with pytest.raises(UserError, match="6 candidates are not chains of 4"):
        ResultsStore(tmp_path).append([broken])
