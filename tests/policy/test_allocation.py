"""Allocation beside brute force; that it gains where it can, and nothing where it cannot."""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.policy.allocation import Allocation, _gains, evaluate_allocation, fit_allocation
from ttc_jax.policy.allocation_file import FILE, allocation_file, read_allocation
from ttc_jax.policy.walks import Walks, look, walks
from ttc_jax.results.store import Candidate, Record

SAMPLES, BUDGETS = 32, (4, 8)
KINDS = ("settled", "open") * 3 + ("settled", "hopeless")


def record(question: int, seed: int, n: int = SAMPLES) -> Record:
    """Every other question is settled by its first sample, some are hopeless, others need votes."""
    rng = np.random.default_rng([question, seed])
    kind = KINDS[question % len(KINDS)]
    chance = {"settled": 1.0, "open": 0.4, "hopeless": 0.0}[kind]
    level = {"settled": 0.9, "open": 0.5, "hopeless": 0.1}[kind]
    right = rng.random(n) < chance
    scores = np.clip(level + 0.03 * right + rng.normal(0, 0.05, n), 0, 1)
    wrong = rng.integers(0, 2, n) if kind == "open" else np.zeros(n, int)
    candidates = tuple(
        Candidate((), "", True, 0.0, (score,), "right" if ok else f"wrong {other}", ok)
        for ok, score, other in zip(right.tolist(), scores.tolist(), wrong.tolist(), strict=True)
    )
    return Record(f"q{question:03}", "best_of_n", n, seed, candidates, Ledger(generations=n))


@pytest.fixture(scope="module")
def seen() -> Walks:
    return walks([record(q, seed) for q in range(176) for seed in (0, 1)], orders=4)


def spent(allocation: Allocation, seen: Walks) -> float:
    """Mean generations of the questions, by decisions alone."""
    total, stop = 0.0, allocation.stop_at_price
    for draw, share in ((0.0, stop), (np.nextafter(1, 0), 1 - stop)):
        for states in seen.states.reshape(-1, len(seen.grid), 2).tolist():
            looks = zip(seen.grid, states, strict=True)
            total += share * next(n for n, x in looks if allocation.decide(n, x, draw))
    return total / seen.right[..., 0].size


def test_questions_that_need_it_get_more(seen):
    for found, budget in zip(evaluate_allocation(seen, BUDGETS, count=100), BUDGETS, strict=True):
        assert found.spent.mean == pytest.approx(budget, rel=0.1)
        assert found.spent.mean == pytest.approx(np.dot(found.stopped, seen.grid))
        assert sum(found.stopped) == pytest.approx(1)
        assert found.gain.mean == pytest.approx(found.accuracy.mean - found.uniform.mean)
        assert found.gain.low > 0.02
        assert found.stopped[0] > 0.4  # settled and hopeless alike


def test_uniform_is_the_mean_of_the_walks(seen):
    [found] = evaluate_allocation(seen, [SAMPLES / 2], count=10)
    curve = seen.right.mean((0, 1, 2))
    expected = np.interp(np.log2(found.spent.mean), np.log2(seen.grid), curve)
    assert found.uniform.mean == pytest.approx(expected)


def test_the_budget_is_met_where_it_was_fitted(seen):
    for budget in (1, 2.5, *BUDGETS):
        assert spent(fit_allocation(seen, budget), seen) == pytest.approx(budget, rel=1e-6)
    # Where no more samples help, none are drawn: the ends of settled and hopeless questions.
    assert spent(fit_allocation(seen, SAMPLES), seen) < 0.7 * SAMPLES
    assert fit_allocation(seen, SAMPLES).price == 0


def test_settled_and_hopeless_questions_are_left(seen):
    allocation = fit_allocation(seen, 4)
    kinds = np.resize(KINDS, len(seen.questions))
    stops = np.array(
        [[allocation.decide(1, x) for x in row] for row in seen.states[:, :, 0, 0].tolist()]
    )
    assert stops[kinds == "settled"].mean() > 0.9
    assert stops[kinds == "hopeless"].mean() > 0.9
    assert stops[kinds == "open"].mean() < 0.1


def test_correctness_of_other_questions_brings_nothing(seen):
    """In each half there are patterns, but not the same ones."""
    rng = np.random.default_rng(0)
    shuffled = []
    for _ in range(10):
        right = seen.right[rng.permutation(len(seen.questions))]
        worths = evaluate_allocation(dataclasses.replace(seen, right=right), BUDGETS, count=10)
        shuffled.append([found.informed.mean for found in worths])
    assert np.abs(np.mean(shuffled, 0)).max() < 0.01
    for found in evaluate_allocation(seen, BUDGETS, count=100):
        assert found.informed.low > 0.02


def test_questions_that_are_all_alike_bring_nothing(seen):
    """More samples help, but no state tells where: all there is to lose is by spending unevenly."""
    rng = np.random.default_rng(1)
    needed = rng.random((*seen.right.shape[:2], 1, 1))
    right = np.broadcast_to(needed < 0.5 + 0.04 * np.arange(len(seen.grid)), seen.right.shape)
    states = rng.random(seen.states.shape)
    alike = dataclasses.replace(seen, states=states, right=right.astype(float))
    for found in evaluate_allocation(alike, BUDGETS, count=200):
        assert found.informed.low < 0 < found.informed.high
        assert found.gain.low < 0
        assert found.gain.mean > -0.03


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), price=st.floats(0, 0.3))
def test_gains_beside_all_stopping_rules(seed, price):
    """At any price, going on while the gain exceeds it is as good as the best of all rules."""
    rng = np.random.default_rng(seed)
    grid, looks, cells = (1, 2, 4), 3, 2
    chance = rng.random((looks, cells)).round(1)
    move = rng.dirichlet(np.ones(cells), (looks - 1, cells))
    gains = _gains(chance, move, grid)

    def follow(stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[n, C] right answers and samples of a rule [n - 1, C] from each cell on."""
        right, cost = chance.copy(), np.repeat(np.array(grid, float)[:, None], cells, axis=1)
        for k in reversed(range(looks - 1)):
            right[k] = np.where(stop[k], right[k], move[k] @ right[k + 1])
            cost[k] = np.where(stop[k], cost[k], move[k] @ cost[k + 1])
        return right, cost

    rules = [
        np.array(x).reshape(looks - 1, cells) for x in itertools.product((True, False), repeat=4)
    ]
    values = [right - price * cost for right, cost in map(follow, rules)]
    right, cost = follow(gains <= price)
    np.testing.assert_allclose(right - price * cost, np.max(values, 0), atol=1e-9)
    best = np.zeros(gains.shape)
    for rule in rules:
        right, cost = follow(rule)
        more, extra = right - chance, cost - np.array(grid)[:, None]
        ratio = np.divide(more, extra, out=np.zeros_like(more), where=extra > 0)[:-1]
        best = np.maximum(best, ratio)
    np.testing.assert_allclose(gains, best, atol=1e-9)


rows = st.lists(
    st.tuples(st.sampled_from([-1, 0, 1, 2]), st.sampled_from([-np.inf, 0.0, 0.25, 0.5, 1.0])),
    min_size=1,
    max_size=6,
)


@given(rows)
def test_what_is_seen_of_samples(rows):
    answers, scores = (np.array(x) for x in zip(*rows, strict=True))
    votes: dict[int, list[float]] = {}
    for answer, score in rows:
        if answer >= 0:
            votes.setdefault(answer, []).append(max(score, 0.0))
    both = look(np.stack([answers] * 2), np.stack([scores] * 2))
    winner = max(votes.values(), key=sum, default=[0.0])
    total = sum(map(sum, votes.values()))
    expected = (sum(winner) / total if total else 0, sum(winner) / len(winner))
    np.testing.assert_allclose(both, [expected] * 2, atol=1e-12)


def test_one_walk_is_the_order_in_which_samples_came():
    first = walks([record(1, 0)], orders=1)
    candidates = record(1, 0).candidates
    assert first.grid == (1, 2, 4, 8, 16, 32)
    assert first.right[0, 0, 0, 0] == candidates[0].correct
    assert first.states[0, 0, 0, 0].tolist() == [1.0, candidates[0].step_scores[0]]
    more = walks([record(1, 0)], orders=3)
    np.testing.assert_array_equal(more.states[:, :, :1], first.states)
    np.testing.assert_allclose(np.ptp(more.states[0, 0, :, -1], axis=0), 0, atol=1e-12)
    assert np.ptp(more.states[0, 0, :, 0, 1]) > 0


def test_looks_may_begin_later(seen):
    later = seen.since(3)
    assert later.grid == (4, 8, 16, 32)
    np.testing.assert_array_equal(later.states, seen.states[..., 2:, :])
    [found] = evaluate_allocation(later, [8], count=10)
    assert found.spent.mean == pytest.approx(8, rel=0.1)
    assert len(found.stopped) == 4


def test_an_allocation_written_and_read_is_the_same(seen, tmp_path):
    made = allocation_file(seen, (2, 4), aggregation="last", source="samples")
    made.write(tmp_path / FILE)
    for path in (tmp_path, tmp_path / FILE):
        found = read_allocation(str(path))
        assert found == made
        assert found.budgets == (2, 4)
        for budget in (2, 4):
            assert found.at(budget) == fit_allocation(seen, budget)
    allocation = found.at(4)
    assert allocation.decide(SAMPLES, (0.1, 0.5))
    with pytest.raises(UserError, match="not after 3"):
        allocation.decide(3, (1.0, 0.5))


WRITTEN = {
    "aggregation": "last",
    "grid": [1, 2, 4],
    "edges": [[[], [0.5]], [[0.2, 0.4], []]],
    "gains": [[0.1, 0.0], [0.1, 0.0, 0.0]],
    "prices": {"n_2": {"price": 0.05, "stop_at_price": 0.5}},
}


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("aggregation", "mean", "aggregation"),
        ("grid", [1, 4, 2], "grid must rise"),
        ("grid", [1], "grid"),
        ("grid", [1, 2], "a row for each number in grid but the last"),
        ("grid", [0, 1, 2], "grid.0"),
        ("edges", [[[], [0.5]], [[0.4, 0.2], []]], "edges must rise"),
        ("edges", [[[]], [[0.2, 0.4], []]], "edges.0"),
        ("gains", [[0.1, 0.0], [0.1, 0.0]], "a row for each number in grid"),
        ("gains", [[0.1, float("nan")], [0.1, 0.0, 0.0]], "gains.0.1"),
        ("prices", {}, "prices"),
        ("prices", {"2": {"price": 0.05, "stop_at_price": 0.5}}, "prices.2"),
        ("prices", {"n_2": {"price": -1, "stop_at_price": 0.5}}, "prices.n_2.price"),
        ("prices", {"n_2": {"price": 0, "stop_at_price": 2}}, "prices.n_2.stop_at_price"),
        ("prices", {"n_2": {"price": 0}}, "stop_at_price is missing"),
        ("surplus", 1, "surplus"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, field, value, named):
    path = tmp_path / "own.json"
    path.write_text(json.dumps(WRITTEN))
    assert read_allocation(str(path)).at(2).decide(2, (0.1, 0.9)) is False
    path.write_text(json.dumps({**WRITTEN, field: value}))
    with pytest.raises(UserError, match=named) as error:
        read_allocation(str(path))
    assert "own.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"allocation.path=\S*: no such file; ttc policy writes"):
        read_allocation(str(tmp_path))


def test_mistakes_are_named(seen):
    plain, other = record(0, 0), record(1, 0)
    bare = tuple(dataclasses.replace(x, step_scores=()) for x in plain.candidates)
    for records, message in (
        ([], "samples of one strategy"),
        ([plain, dataclasses.replace(other, strategy="beam")], "samples of one strategy"),
        ([dataclasses.replace(plain, sequential=2)], "of a chain are not independent"),
        ([dataclasses.replace(plain, candidates=bare)], "no scores; name a verifier"),
        ([plain, record(1, 0, 16)], r"one size, not \[16, 32\]"),
        ([plain, other, record(0, 1)], "some seeds lack questions"),
    ):
        with pytest.raises(UserError, match=message):
            walks(records)
    for budget in (0.5, SAMPLES + 1):
        with pytest.raises(UserError, match=f"budget {budget} must lie in 1..32"):
            fit_allocation(seen, budget)
        with pytest.raises(UserError, match="must lie in 1..32"):
            evaluate_allocation(seen, [budget])
    with pytest.raises(UserError, match="needs at least 2 questions"):
        evaluate_allocation(walks([plain]), [2])
