"""How good scores are: ranking and calibration."""

import itertools

import hypothesis
import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import strategies as st

from ttc_jax.training.batches import Batches, Example
from ttc_jax.training.quality import Scored, auroc, calibration, figures_of, quality, score

RNG = np.random.default_rng(0)


def answer(scores: list[float], values: list[float], question: str = "q") -> Scored:
    return Scored(question, np.array(scores, float), np.array(values, float))


chances = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0])
answers = st.lists(
    st.builds(
        lambda question, steps: answer([s for s, _ in steps], [v for _, v in steps], question),
        st.sampled_from("abc"),
        st.lists(st.tuples(chances, chances), min_size=1, max_size=4),
    ),
    min_size=1,
    max_size=8,
)


def area(pairs: list[tuple[float, float]], weights: list[float] | None = None) -> float:
    """How often the good one of a pair scores higher, one half for a tie."""
    won = [1.0 if good > bad else 0.5 * (good == bad) for good, bad in pairs]
    return float(np.average(won, weights=weights))


@hypothesis.given(answers)
def test_areas_are_shares_of_pairs_in_order(found):
    steps = [(s, v) for x in found for s, v in zip(x.scores, x.values, strict=True)]

    def pairs(rows):
        return [(s, t) for (s, v), (t, w) in itertools.product(rows, rows) if v >= 0.5 > w]

    expected = {}
    if ranked := pairs(steps):
        expected["steps"] = area(ranked)
    both = [(s, t, v * (1 - w)) for (s, v), (t, w) in itertools.product(steps, steps)]
    if any(weight for *_, weight in both):  # as many pairs of a right and a wrong rollout
        expected["rollouts"] = area([(s, t) for s, t, _ in both], [weight for *_, weight in both])
    by_question = [
        pairs([(x.scores[-1], x.values[-1]) for x in found if x.question == q]) for q in "abc"
    ]
    if any(by_question):
        expected["within_question"] = np.mean([area(ranked) for ranked in by_question if ranked])
    before, errors = [], []
    for x in found:
        error = next((i for i, value in enumerate(x.values) if value == 0), None)
        if error:  # neither without one nor on the first step
            before += x.scores[:error].tolist()
            errors.append(x.scores[error])
    if errors:
        expected["first_error"] = area(list(itertools.product(before, errors)))
    assert quality(found)["auroc"] == pytest.approx(expected, abs=1e-6)


VALUES = RNG.uniform(size=4000)


@pytest.mark.parametrize(
    ("scores", "steps", "error"),
    [
        (VALUES, 1.0, 0.0),  # perfect
        (RNG.uniform(size=4000), 0.5, 0.25),  # random: a mean score of x has a mean value of 1/2
        (1 - VALUES, 0.0, 0.5),  # inverted
    ],
)
def test_perfect_random_and_inverted_scores(scores, steps, error):
    found = quality([answer(list(scores), list(VALUES))])
    assert found["auroc"]["steps"] == pytest.approx(steps, abs=0.03)
    assert found["calibration_error"] == pytest.approx(error, abs=0.03)
    assert found["steps"] == 4000
    rollouts = found["auroc"]["rollouts"]
    # Rollouts of steps with uniform values: the better one of a pair wins 5/6 of the time.
    assert rollouts == pytest.approx(0.5 + (steps - 0.5) * 2 / 3, abs=0.03)


def test_calibration_by_hand():
    scores = np.array([0.0, 0.05, 0.31, 0.39, 0.95, 1.0])
    values = np.array([0.0, 0.5, 1.0, 0.0, 1.0, 1.0])
    assert calibration(scores, values) == [
        {"low": 0.0, "high": 0.1, "steps": 2, "score": 0.025, "value": 0.25},
        {"low": 0.3, "high": 0.4, "steps": 2, "score": 0.35, "value": 0.5},
        {"low": 0.9, "high": 1.0, "steps": 2, "score": 0.975, "value": 1.0},
    ]
    found = quality([answer(list(scores), list(values))])
    assert found["calibration_error"] == pytest.approx(0.4 / 3, abs=1e-6)


def test_figures_are_numbers_with_names():
    found = quality([answer([0.9], [1.0]), answer([0.2], [0.0])])
    assert figures_of(found) == {
        "validation_auroc_steps": 1.0,
        "validation_auroc_rollouts": 1.0,
        "validation_auroc_within_question": 1.0,
        "validation_calibration_error": pytest.approx(0.15),
    }


def test_nothing_to_rank_is_no_figure():
    assert auroc([0.2, 0.7], [1.0, 1.0]) is None
    assert auroc([], []) is None
    assert quality([answer([0.5], [1.0])])["auroc"] == {}


class Position(nnx.Module):
    """Scores a token by its id, its place and the prompt's length."""

    def __init__(self):
        self.scale = nnx.Param(np.float32(0.01))

    def __call__(self, tokens, prompt_lengths, mode=None):
        place = jax.numpy.arange(tokens.shape[1], dtype=np.float32)[None]
        found = tokens.astype(np.float32) + 10 * place + 0.5 * prompt_lengths[:, None]
        return found.astype(np.float32) * self.scale[...]


def test_scores_come_in_the_examples_order_where_values_are_asked_for():
    examples, expected = [], []
    for i in range(11):
        length = int(RNG.integers(2, 17))
        tokens = RNG.integers(1, 30, length)
        prompt = 1 + i % (length - 1)
        at = np.arange(prompt - (i % 3 > 0), min(prompt + 2, length))  # the question's, or not
        targets, weights = np.zeros((2, length), np.float32)
        targets[at], weights[at] = RNG.uniform(size=len(at)), 1.0
        examples.append(Example(tokens, targets, weights, prompt))
        logits = 0.01 * (tokens[at] + 10 * at + 0.5 * prompt)
        expected.append((at < prompt, 1 / (1 + np.exp(-logits)), targets[at]))
    batches = Batches(examples, lengths=(8, 16), tokens=32, seed=0)
    found = score(Position(), batches, [f"q{i}" for i in range(11)])
    assert [x.question for x in found] == [f"q{i}" for i in range(11)]
    for x, (before, scores, values) in zip(found, expected, strict=True):
        np.testing.assert_allclose(x.scores, scores[~before], rtol=1e-5)
        np.testing.assert_array_equal(x.values, values[~before])
        if before.any():
            assert x.of_question == pytest.approx((scores[before][0], values[before][0]))
        else:
            assert x.of_question is None
    assert {x.of_question is None for x in found} == {True, False}


def test_the_question_is_ranked_apart_from_the_steps():
    """Pass@1 of 1, 0 and one half, by scores that put the first two in order."""
    rows = [(0.9, 1.0), (0.2, 0.0), (0.1, 0.5)]
    found = quality([Scored("q", np.array([0.5]), np.array([0.5]), row) for row in rows])
    assert found["steps"] == 3
    # 1.5 good and 1.5 bad: the good one at .9 beats all; half a good one at .1 ties its own half.
    assert found["auroc"]["questions"] == pytest.approx((1 * 1.5 + 0.5 * 0.25) / 1.5**2, abs=1e-6)
    assert "questions" not in quality([answer([0.5], [1.0])])["auroc"]
