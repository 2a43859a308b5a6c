import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.results.credit import draw_orders, subset_indices
from ttc_jax.results.curves import (
    Estimate,
    accuracy_curves,
    bootstrap,
    budget_grid,
    check_rule,
    default_rules,
    question_accuracy,
)
from ttc_jax.results.store import Candidate, Record

ALL = ("majority", "best_of_n", "best_of_n_weighted", "pass")


def record(rows, question="q/0", seed=0, strategy="best_of_n"):
    """rows: (answer, score or None for no step, correct)."""
    candidates = tuple(
        Candidate((1,), "", True, -1.0, () if score is None else (score,), answer, correct)
        for answer, score, correct in rows
    )
    return Record(question, strategy, len(candidates), seed, candidates, Ledger())


def oracle(rule, rows):
    """Credit of one rule on exactly these candidates, in plain Python."""
    if rule == "pass":
        return Fraction(any(correct for _, _, correct in rows))
    rows = [row for row in rows if row[0] is not None]
    if not rows:
        return Fraction(0)
    if rule == "best_of_n":
        best = max(-1 if score is None else score for _, score, _ in rows)
        winners = [row for row in rows if (-1 if row[1] is None else row[1]) == best]
        return Fraction(sum(row[2] for row in winners), len(winners))
    votes = {}
    for answer, score, _ in rows:
        vote = 1 if rule == "majority" else Fraction(score or 0)
        votes[answer] = votes.get(answer, 0) + vote
    winners = [answer for answer in votes if votes[answer] == max(votes.values())]
    credit = Fraction(0)
    for winner in winners:
        own = [correct for answer, _, correct in rows if answer == winner]
        credit += Fraction(sum(own), len(own) * len(winners))
    return credit


def enumerate_subsets(rule, rows, n):
    earned = [oracle(rule, subset) for subset in itertools.combinations(rows, n)]
    return float(sum(earned) / len(earned))


rows_of_a_pool = st.lists(
    st.tuples(
        st.sampled_from([None, "7", "8", "9"]),
        st.sampled_from([None, 0.0, 0.25, 0.5, 1.0]),
        st.booleans(),
    ),
    min_size=1,
    max_size=7,
)


@settings(max_examples=60)
@given(rows=rows_of_a_pool)
def test_every_rule_and_n_equals_the_average_over_all_subsets(rows):
    budgets = range(1, len(rows) + 1)
    accuracy = question_accuracy([record(rows)], ALL, budgets)
    for rule in ALL:
        expected = [enumerate_subsets(rule, rows, n) for n in budgets]
        np.testing.assert_allclose(accuracy.values[rule][0], expected, atol=1e-12)


def random_rows(n, seed):
    rng = np.random.default_rng(seed)
    answers = rng.choice(["7", "7", "7", "8", "8", "9", "10"], n)
    return [(str(a), float(s), a == "7") for a, s in zip(answers, rng.random(n), strict=True)]


def test_random_subsets_are_unbiased():
    rows = random_rows(14, seed=1)
    exact = question_accuracy([record(rows)], ALL, [5], subsets=math.comb(14, 5))
    for rule in ("majority", "best_of_n_weighted"):
        draws = np.array(
            [
                question_accuracy([record(rows)], [rule], [5], subsets=40, seed=seed).values[rule]
                for seed in range(200)
            ]
        )
        assert draws.std() > 0
        error = abs(draws.mean() - exact.values[rule].item())
        assert error < 4 * draws.std() / math.sqrt(len(draws))


def test_closed_forms_do_not_overflow():
    rows = [("7", 0.5, False)] * 2047 + [("8", 1.0, True)]
    accuracy = question_accuracy([record(rows)], ["pass", "best_of_n"], [1, 1024, 2048])
    for values in accuracy.values.values():
        np.testing.assert_allclose(values, [[1 / 2048, 0.5, 1.0]], rtol=1e-9)


@pytest.mark.parametrize(("pool_size", "n"), [(6, 1), (6, 3), (6, 6), (40, 3), (40, 20), (41, 40)])
def test_subsets(pool_size, n):
    chosen = subset_indices(draw_orders(pool_size, [n], 50, [3]), n, 50)
    total = math.comb(pool_size, n)
    assert chosen.shape == (min(total, 50), n)
    assert all(len(set(row)) == n for row in chosen.tolist())
    assert chosen.min() >= 0
    assert chosen.max() < pool_size
    if total <= 50:
        assert len({frozenset(row) for row in chosen.tolist()}) == total
    np.testing.assert_array_equal(
        chosen, subset_indices(draw_orders(pool_size, [n], 50, [3]), n, 50)
    )


def test_runs_of_one_permutation_are_disjoint():
    chosen = subset_indices(draw_orders(64, [16], 40, [0]), 16, 40)
    for start in range(0, 40, 4):
        assert len(set(chosen[start : start + 4].ravel().tolist())) == 64


def test_a_question_does_not_depend_on_the_others_nor_on_their_order():
    records = [record(random_rows(32, seed), f"q/{seed}") for seed in range(4)]
    together = question_accuracy(records, ALL)
    backwards = question_accuracy(records[::-1], ALL)
    assert together.questions == backwards.questions == ("q/0", "q/1", "q/2", "q/3")
    alone = question_accuracy(records[2:3], ALL)
    for rule in ALL:
        np.testing.assert_array_equal(together.values[rule], backwards.values[rule])
        np.testing.assert_array_equal(together.values[rule][2], alone.values[rule][0])


def test_seeds_are_averaged_within_their_question():
    right, wrong = [("7", 0.5, True)], [("8", 0.5, False)]
    records = [
        record(right, "q/0", seed=0),
        record(wrong, "q/0", seed=1),
        record(right, "q/1", seed=0),
    ]
    accuracy = question_accuracy(records)
    assert accuracy.values["majority"].tolist() == [[0.5], [1.0]]


def test_all_rules_agree_with_pass_at_one_when_every_candidate_answers():
    accuracy = question_accuracy([record(random_rows(20, 0))], ALL, [1])
    assert len({round(values.item(), 12) for values in accuracy.values.values()}) == 1


@pytest.mark.parametrize(
    ("n_max", "grid"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (64, (1, 2, 4, 8, 16, 32, 64))]
)
def test_budget_grid(n_max, grid):
    assert budget_grid(n_max) == grid


def test_rules_that_need_a_verifier_are_left_out_without_one():
    assert default_rules([record([("7", None, True)])]) == ("majority", "pass")
    assert default_rules([record([("7", None, True), ("7", 0.1, True)])]) == ALL


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"records": []}, "no record to evaluate"),
        ({"records": [record([], "q/9")]}, "question 'q/9' has 0 candidates"),
        ({"budgets": [1, 4]}, "question 'q/0' has 2 candidates, so N must lie in 1..2"),
        ({"budgets": range(1, 10**6)}, r"N must lie in 1\.\.2; 999999 does not$"),
        ({"budgets": [0]}, r"N must lie in 1\.\.2; 0 does not"),
        ({"rules": ["plurality"]}, "'plurality'.* unknown; choose from majority"),
        ({"aggregation": "mean"}, "aggregation: 'mean'"),
        ({"records": [record([("7", 0.5, True)], strategy=s) for s in "ab"]}, "one strategy"),
    ],
)
def test_mistakes_are_named(arguments, message):
    records = [record([("7", 0.5, True), ("8", 0.5, False)])]
    with pytest.raises(UserError, match=message):
        question_accuracy(**{"records": records} | arguments)
    with pytest.raises(UserError, match="N is 0"):
        budget_grid(0)


def test_a_rule_that_reads_scores_needs_those_of_every_strategy():
    def unscored(strategy, n):
        return record([("7", None, True)] * n, strategy=strategy)

    scored = record([("7", 0.5, True), (None, None, False)], strategy="beam")
    for rule in ("best_of_n", "best_of_n_weighted"):
        with pytest.raises(UserError, match=f"rule={rule}: reads scores, and x has none; choose"):
            check_rule(rule, [unscored("beam", 2), unscored("difficulty", 2)], "x")
        with pytest.raises(UserError, match="reads scores, and x has none of 'best_of_n'; choose"):
            check_rule(rule, [scored, unscored("best_of_n", 2)], "x")
        # Where there is nothing to choose among, nothing is needed to choose by.
        check_rule(rule, [scored, unscored("greedy", 1), unscored("difficulty", 2)], "x")
    check_rule("majority", [unscored("best_of_n", 2)], "x")


def test_bootstrap_matches_the_normal_approximation():
    values = np.random.default_rng(0).random((400, 1)) < 0.3
    (estimate,) = bootstrap(values.astype(float), resamples=4000)
    half = 1.96 * values.std() / 20
    assert estimate.mean == values.mean()
    assert estimate.low == pytest.approx(estimate.mean - half, abs=0.004)
    assert estimate.high == pytest.approx(estimate.mean + half, abs=0.004)


def test_bootstrap_repeats_and_pairs_columns():
    values = np.random.default_rng(1).random((50, 1))
    one, other = bootstrap(np.hstack([values, values]), seed=3)
    assert one == other
    assert bootstrap(values, seed=3) == bootstrap(values, seed=3)
    assert bootstrap(values, seed=3) != bootstrap(values, seed=4)


def test_bootstrap_of_one_question_is_a_point():
    assert bootstrap(np.array([[1.0]])) == [Estimate(1.0, 1.0, 1.0)]


def test_curves():
    records = [record([("7", 0.5, True), ("8", 0.9, False)], f"q/{n}") for n in range(3)]
    curves = accuracy_curves(question_accuracy(records))
    assert list(curves) == list(ALL)
    assert list(curves["pass"]) == [1, 2]
    assert curves["majority"][2] == Estimate(0.5, 0.5, 0.5)
    assert curves["best_of_n"][2].mean == pytest.approx(0)
    assert curves["pass"][2].mean == pytest.approx(1)
