"""The exchange rate between pretraining and inference."""

import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from ttc_jax.errors import UserError
from ttc_jax.policy.difficulty import Binning
from ttc_jax.policy.flops_match import at_budget, generations, match
from ttc_jax.results.accuracy_table import AccuracyTable


@pytest.mark.parametrize(("ratio", "about"), [(0.16, 258), (0.79, 63), (22.0, 16)])
def test_the_papers_three_ratios_in_both_formulas(ratio: float, about: float):
    assert generations(14, ratio) == pytest.approx(about, abs=0.5)
    assert generations(14, ratio / 2, "iclr") == pytest.approx(generations(14, ratio))


@hypothesis.given(st.floats(1, 50), st.floats(0.01, 100), st.floats(1e3, 1e9), st.floats(1e3, 1e9))
def test_both_sides_cost_the_same(scale, ratio, parameters, trained):
    """Counted from the FLOPs themselves."""
    inferred = ratio * trained
    large = 6 * scale * parameters * trained + 2 * scale * parameters * inferred
    multiplied = generations(scale, ratio) * 2 * parameters * inferred
    assert 6 * parameters * trained + multiplied == pytest.approx(large, rel=1e-9)
    verified = generations(scale, ratio, "iclr") * 4 * parameters * inferred
    large = 6 * scale * parameters * trained + 4 * scale * parameters * inferred
    assert 6 * parameters * trained + verified == pytest.approx(large, rel=1e-9)


def test_the_larger_model_wins_where_it_is_better():
    """Small: 0.8, 0.4 at N=4 and 0.9, 0.5 at N=16, in two bins; large: 0.6 and 0.75."""
    values = np.empty((40, 1, 2, 1))
    values[:20, 0, :, 0], values[20:, 0, :, 0] = (0.8, 0.9), (0.4, 0.5)
    questions = tuple(f"q{i:02}" for i in range(40))
    found = AccuracyTable(questions, ("best_of_n",), (4, 16), (0,), values)
    binning = Binning({question: float(i < 20) for i, question in enumerate(questions)}, 2)
    large = {question: 0.6 if i < 20 else 0.75 for i, question in enumerate(questions)}
    [[whole, easy, hard], sixteen] = match(found, binning, large, [8, 16], count=20)
    assert easy.small.mean == pytest.approx(0.85)
    assert easy.relative
    assert easy.relative.mean == pytest.approx(0.25 / 0.6)
    assert hard.difference.mean == pytest.approx(-0.3)
    assert whole.small.mean == pytest.approx(0.65)
    assert whole.large.mean == pytest.approx(0.675)
    assert sixteen[1].small.mean == pytest.approx(0.9)
    [never] = match(found, binning, dict.fromkeys(questions, 0.0), [1000], count=20)
    assert [x.relative for x in never] == [None] * 3
    assert never[1].small.mean == pytest.approx(0.9)
    with pytest.raises(UserError, match="did not answer 'q00'"):
        match(found, binning, {}, [8])


def test_a_curve_between_its_budgets():
    curve, budgets = (0.2, 0.4, 0.5), (4, 16, 64)
    assert at_budget(curve, budgets, 8) == pytest.approx(0.3)
    assert at_budget(curve, budgets, 1000) == 0.5
    assert at_budget(curve, budgets, 1) == 0.2


@pytest.mark.parametrize(("scale", "ratio"), [(0.5, 1.0), (14, 0.0), (14, -1.0), (14, math.inf)])
def test_what_makes_no_sense_is_refused(scale, ratio):
    with pytest.raises(UserError, match="flops_match"):
        generations(scale, ratio)
