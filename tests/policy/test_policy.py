"""The policy, beside a plain loop; and that no question judges what it chose."""

from __future__ import annotations

import numpy as np
import pytest

from ttc_jax import hashing
from ttc_jax.errors import UserError
from ttc_jax.policy.difficulty import Binning, quantile_bins
from ttc_jax.policy.policy import Policy, evaluate_policy, fit_policy
from ttc_jax.results.accuracy_table import AccuracyTable

BUDGETS = (4, 16, 64)
NAMES = ("best_of_n", "beam")


def table(values: np.ndarray, budgets=BUDGETS, names=NAMES) -> AccuracyTable:
    """[Q, S, N, T] accuracies as outcomes."""
    questions = tuple(f"q{i:04}" for i in range(len(values)))
    return AccuracyTable(questions, names, budgets, tuple(range(values.shape[-1])), values)


def made(questions: int = 400, seeds: int = 2) -> tuple[AccuracyTable, dict[str, float]]:
    """Beam helps on hard questions and hurts on easy ones; budgets help everywhere."""
    rng = np.random.default_rng(0)
    easiness = np.sort(rng.random(questions))[::-1]
    chance = np.empty((questions, 2, len(BUDGETS)))
    for i, n in enumerate(BUDGETS):
        sampled = 1 - (1 - easiness) ** (n / 4)
        chance[:, 0, i] = sampled
        chance[:, 1, i] = np.where(easiness > 0.5, 0.8 * sampled, np.minimum(1, sampled + 0.2))
    values = (rng.random((*chance.shape, seeds)) < chance[..., None]).astype(float)
    found = table(values)
    return found, dict(zip(found.questions, easiness.tolist(), strict=True))


def test_the_policy_is_the_argmax_in_each_bin():
    found, easiness = made()
    bins = quantile_bins(easiness)
    policy = fit_policy(found, Binning(easiness))
    for which in range(5):
        inside = [i for i, q in enumerate(found.questions) if bins[q] == which]
        for n, budget in enumerate(BUDGETS):
            means = found.values[inside, :, n].mean((0, 2))
            assert policy.choice[which][budget] == NAMES[int(means.argmax())]
            assert (
                policy.strategy(easiness[found.questions[inside[0]]], budget)[0]
                == (policy.choice[which][budget])
            )
    assert policy.choice[4][4] == "beam"
    assert policy.choice[0][4] == "best_of_n"
    assert all(policy.bin_of(easiness[q]) == bins[q] for q in found.questions)


def test_a_policy_written_and_read_is_the_same():
    found, easiness = made()
    policy = fit_policy(found, Binning(easiness))
    assert Policy.from_dict(policy.to_dict()) == policy
    assert policy.strategy(0.5, 63)[1] == 16
    with pytest.raises(UserError, match=r"budget 3 is below the least of policy\.choice\.bin_3, 4"):
        policy.strategy(0.5, 3)
    broken = policy.to_dict()
    del broken["choice"]["bin_2"]
    with pytest.raises(UserError, match=r"policy\.choice lacks bin_2"):
        Policy.from_dict(broken)


def test_bins_have_budgets_of_their_own():
    policy = Policy(({4: "few", 64: "many"}, {16: "some"}), (0.5,))
    assert policy.least == 16
    assert [policy.strategy(0.9, n) for n in (4, 63, 64)] == [("few", 4), ("few", 4), ("many", 64)]
    assert [policy.strategy(0.1, n) for n in (16, 1000)] == [("some", 16)] * 2
    assert Policy.from_dict(policy.to_dict()) == policy
    with pytest.raises(
        UserError, match=r"policy\.choice\.bin_3: no such bin; 1 policy\.edges make 2"
    ):
        Policy.from_dict(
            policy.to_dict() | {"choice": {f"bin_{i}": {"n_4": ""} for i in (1, 2, 3)}}
        )


def test_worth_beside_a_plain_loop():
    found, easiness = made(60)
    bins = quantile_bins(easiness, 3)
    result = evaluate_policy(found, Binning(easiness, 3), found, name="best_of_n", count=50)
    halves: dict[tuple[int, int], list[int]] = {}
    for which in range(3):
        inside = [i for i, q in enumerate(found.questions) if bins[q] == which]
        for place, i in enumerate(
            sorted(inside, key=lambda i: hashing.bytes_of(found.questions[i]))
        ):
            halves.setdefault((which, place % 2), []).append(i)
    for n in range(len(BUDGETS)):
        total = 0.0
        for (which, half), inside in halves.items():
            other = found.values[halves[which, 1 - half], :, n].mean((0, 2))
            total += found.values[inside, int(other.argmax()), n].mean(-1).sum()
        assert result.accuracy[n].mean == pytest.approx(total / 60)
        base = found.values[:, 0, n].mean()
        assert result.gain[n].mean == pytest.approx(total / 60 - base)
    assert all(x.low <= x.mean <= x.high for x in result.accuracy)


def test_the_gain_is_found_and_vanishes_when_bins_mean_nothing():
    found, easiness = made(2000)
    real = evaluate_policy(found, Binning(easiness), found, name="best_of_n", count=200)
    assert real.gain[0].low > 0.03
    assert real.efficiency[0].low > 1
    rng = np.random.default_rng(1)
    permuted = rng.permutation(list(easiness.values())).tolist()
    binning = Binning(dict(zip(found.questions, permuted, strict=True)))
    nothing = evaluate_policy(found, binning, found, name="best_of_n", count=200)
    assert nothing.gain[0].mean < 0.5 * real.gain[0].mean


def test_shuffled_correctness_gives_no_gain():
    """In sample the better of two equal strategies gains; across halves it does not."""
    rng = np.random.default_rng(2)
    values = (rng.random((300, 8, 3, 1)) < 0.5).astype(float)
    names = ("best_of_n", *(f"other{i}" for i in range(7)))
    found = table(values, names=names)
    easiness = dict(zip(found.questions, rng.random(300).tolist(), strict=True))
    result = evaluate_policy(found, Binning(easiness), found, name="best_of_n", count=200)
    assert all(gain.low < 0 < gain.high for gain in result.gain)


def test_a_strategy_that_cannot_spend_a_budget_is_never_chosen_there():
    values = np.full((40, 2, 3, 1), 0.5)
    values[:, 1, 0] = np.nan
    values[:, 1, 1:] = 0.9
    found = table(values)
    easiness = {question: float(i) for i, question in enumerate(found.questions)}
    policy = fit_policy(found, Binning(easiness))
    assert tuple(policy.choice[0].values()) == ("best_of_n", "beam", "beam")
    result = evaluate_policy(found, Binning(easiness), found, name="best_of_n", count=20)
    assert [x.mean for x in result.accuracy] == pytest.approx([0.5, 0.9, 0.9])
    assert result.censored == (False, True, True)


def test_bins_that_cannot_be_halved_and_questions_without_one():
    values = np.full((6, 2, 3, 1), 0.5)
    found = table(values)
    easiness = {question: float(i) for i, question in enumerate(found.questions)}
    with pytest.raises(UserError, match="fewer than 2 questions"):
        evaluate_policy(found, Binning(easiness, 6), found, name="best_of_n")
    with pytest.raises(UserError, match="'q0005' is in no difficulty bin"):
        evaluate_policy(
            found, Binning(dict.fromkeys(found.questions[:5], 0.0)), found, name="best_of_n"
        )


def test_of_equal_strategies_the_first_is_chosen_though_sums_round_otherwise():
    values = np.empty((30, 2, 3, 1))
    values[:, 0] = 0.1 + 0.2
    values[:, 1] = 0.3
    found = table(values)
    policy = fit_policy(found, Binning(dict.fromkeys(found.questions, 0.5)))
    assert {name for row in policy.choice for name in row.values()} == {"best_of_n"}


def test_choosing_by_bin_is_compared_with_the_best_single_strategy():
    """Beam wins on the hard half, best-of-N on the easy one: bins add half of the difference."""
    values = np.empty((200, 2, 3, 1))
    values[:100, 0], values[:100, 1] = 0.9, 0.5
    values[100:, 0], values[100:, 1] = 0.1, 0.4
    found = table(values)
    easiness = {question: -float(i) for i, question in enumerate(found.questions)}
    result = evaluate_policy(found, Binning(easiness, 2), found, name="best_of_n", count=100)
    assert [x.mean for x in result.single] == pytest.approx([0.5] * 3)  # best-of-N for all
    assert [x.mean for x in result.over_single] == pytest.approx([0.15] * 3)
    assert all(x.low > 0.1 for x in result.over_single)
    one = evaluate_policy(found, Binning(easiness, 1), found, name="best_of_n", count=100)
    assert [x.mean for x in one.over_single] == [0.0] * 3


def test_a_draw_makes_its_bins_anew_and_keeps_copies_together():
    easiness = {f"q{i}": float(-i) for i in range(6)}
    binning = Binning(easiness, 3)
    assert binning.of(list(easiness)).tolist() == [0, 0, 1, 1, 2, 2]
    drawn = np.array([0, 4, 1, 1, 0, 0])  # two thirds of the draw are one question
    assert binning.of(list(easiness), drawn)[[1, 2, 3]].tolist() == [0, 2, 2]
