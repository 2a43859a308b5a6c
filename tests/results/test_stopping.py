"""Fewer votes, against the same told candidate by candidate."""

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from tests.bench import stopping as bench
from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.results.credit import as_pool
from ttc_jax.results.stopping import certainty, confident, early_stopped, replay
from ttc_jax.results.store import Candidate, Record

Row = tuple[str | None, int, float]  # answer, tokens, log-probability a token
ROWS = st.lists(
    st.tuples(st.sampled_from(["1", "2", "3", None]), st.integers(1, 9), st.floats(-3, 0)),
    min_size=1,
    max_size=9,
)


def record(rows: Sequence[Row], question: str = "q") -> Record:
    """Where answer 1 is right."""
    candidates = tuple(
        Candidate((1,) * tokens, "", True, tokens * sure, (), answer, answer == "1")
        for answer, tokens, sure in rows
    )
    return Record(question, "best_of_n", len(rows), 0, candidates, Ledger())


def vote(rows: Sequence[Row], weights: list[float]) -> float:
    """The share of answer 1 among the answers with the most votes."""
    votes: Counter[str] = Counter()
    for (answer, *_), weight in zip(rows, weights, strict=True):
        if answer is not None:
            votes[answer] += weight  # type: ignore[assignment]
    winners = [x for x in votes if votes[x] >= max(votes.values()) * (1 - 1e-9)]
    return winners.count("1") / len(winners) if winners else 0.0


def stopped(rows: Sequence[Row], confidence: float) -> Sequence[Row]:
    """The candidates that come until the vote is settled."""
    votes: Counter[str] = Counter()
    for n, (answer, *_) in enumerate(rows, 1):
        votes.update([answer] if answer is not None else [])
        [_, first], [_, second] = [*votes.most_common(2), ("", 0), ("", 0)][:2]
        if certainty(first, second) >= confidence:
            return rows[:n]
    return rows


@settings(max_examples=150)
@given(ROWS, st.sampled_from([0.5, 0.7, 0.8, 0.9, 0.95]), st.randoms(use_true_random=False))
def test_a_vote_stops_where_the_plain_one_does(rows: list[Row], confidence: float, random):
    orders = [random.sample(range(len(rows)), len(rows)) for _ in range(3)]
    heard = [stopped([rows[i] for i in order], confidence) for order in orders]
    tokens = np.array([tokens for _, tokens, _ in rows])
    found = early_stopped(as_pool(record(rows)), tokens, confidence, np.array(orders))
    assert found == pytest.approx(
        (
            np.mean([vote(part, [1] * len(part)) for part in heard]),
            np.mean([sum(tokens for _, tokens, _ in part) for part in heard]),
            np.mean([len(part) for part in heard]),
        )
    )


@settings(max_examples=150)
@given(ROWS, st.sampled_from([0.1, 0.25, 0.5, 0.75, 1.0]))
def test_the_most_confident_vote_as_the_plain_ones_do(rows: list[Row], keep: float):
    sure = [math.exp(log_prob) for *_, log_prob in rows]
    best = sorted(range(len(rows)), key=lambda n: -sure[n])[: math.ceil(keep * len(rows))]
    expected = vote([rows[n] for n in best], [sure[n] for n in best])
    assert confident(as_pool(record(rows)), np.array(sure), keep) == pytest.approx(expected)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (4, 0), (5, 3), (20, 19)])
def test_certainty_is_the_integral_of_the_likelihood(first: int, second: int):
    """Of all shares of the first among the two, those above a half."""
    above, whole = (quad(lambda p: p**first * (1 - p) ** second, a, 1)[0] for a in (0.5, 0))
    assert certainty(first, second) == pytest.approx(above / whole)


def test_a_replay_pairs_differences_by_question():
    easy, hard = [("1", 4, -0.1)] * 6, [("2", 2, -1.0)] * 4 + [("1", 2, -0.1)] * 2
    records = [record(easy, "easy"), record(hard, "hard")]
    found = replay(records, confidences=(0.9,), keeps=(0.3,), orders=20)
    assert list(found) == ["majority", "settled at 0.9", "most confident 0.3"]
    majority, settled, confident = found.values()
    assert majority.accuracy.mean == pytest.approx(0.5)
    assert (majority.tokens.mean, majority.candidates) == (1, 6)
    assert settled.tokens.mean < 1
    assert settled.candidates < 6
    assert confident.accuracy.mean == pytest.approx(1)
    assert confident.over_majority.mean == pytest.approx(0.5)
    assert confident.over_majority.low == pytest.approx(0)  # of draws of the easy one alone
    assert found == replay(records[::-1], confidences=(0.9,), keeps=(0.3,), orders=20)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "no record to replay"),
        ([record([("1", 1, 0.0)])] * 2, "'q' has several pools"),
        ([dataclasses.replace(record([("1", 1, 0.0)]), sequential=2)], "no pool of independent"),
        ([dataclasses.replace(record([]))], "no pool of independent"),
        ([record([("1", 0, 0.0)])], "without tokens or log-probabilities"),
        ([record([("1", 1, math.nan)])], "without tokens or log-probabilities"),
    ],
)
def test_records_that_cannot_be_replayed_are_refused(records: list[Record], message: str):
    with pytest.raises(UserError, match=message):
        replay(records)


def test_the_benchmark_reads_the_kept_samples(capsys: pytest.CaptureFixture[str]):
    bench.main(["--orders=2"])
    [first, majority, *others] = capsys.readouterr().out.splitlines()
    assert first == "300 questions, 8 answers each"
    assert majority.split()[:2] == ["majority", "23.7"]  # as docs/results/gsm8k/README.md says
    assert len(others) == 7
