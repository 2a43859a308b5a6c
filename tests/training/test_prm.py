"""What a PRM is taught, and how its ranking is measured."""

import dataclasses
import itertools
from pathlib import Path

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st

from tests.sampling.oracle import TINY, tiny_generator
from ttc_jax.errors import UserError
from ttc_jax.models import parameters
from ttc_jax.training.batches import Batches
from ttc_jax.training.loop import fit
from ttc_jax.training.optimisation import Optimisation
from ttc_jax.training.prm import above_trunk, examples, loss, on_trunk, quality
from ttc_jax.training.rollouts import Labelled

TRUNK = dataclasses.replace(TINY, depth=1, windows=(None,), ropes=())
RNG = np.random.default_rng(0)


def labelled(ends: list[int], values: list[float], question: str = "q") -> Labelled:
    tokens = RNG.integers(0, TRUNK.vocab_size, ends[-1] + 1).tolist()
    return Labelled(question, RNG.integers(0, TRUNK.vocab_size, 4).tolist(), tokens, ends, values)


ANSWERS = [labelled([2, 5, 9], [1.0, 0.25, 0.0]), labelled([3], [1.0]), labelled([1, 7], [0.5, 1])]


def test_values_are_asked_for_where_steps_end():
    for answer, example in zip(ANSWERS, examples(ANSWERS), strict=True):
        assert example.tokens.tolist() == answer.prompt + answer.tokens
        at = np.flatnonzero(example.weights)
        assert (at - 4).tolist() == answer.ends
        assert example.targets[at].tolist() == answer.values
        assert example.weights.sum() == len(at)
        assert not np.delete(example.targets, at).any()


def test_no_answer_is_refused():
    with pytest.raises(UserError, match="no sampled answer could be parsed"):
        examples([])


def test_training_lowers_the_loss_and_leaves_the_trunk(tmp_path: Path):
    generator = tiny_generator(TRUNK)
    prm = on_trunk(generator, depth=1, ffn_width=8, seed=3)
    assert prm.config.layers is not None
    assert (prm.config.layers.depth, prm.config.layers.ffn_width) == (1, 8)
    batches = Batches(examples(ANSWERS), lengths=(14,), tokens=3 * 14, seed=0)
    [batch] = batches.all()
    score = jax.jit(lambda batch: prm(batch["tokens"], batch["prompt_lengths"]))
    logits = np.asarray(score(batch), np.float64)
    chance, value = 1 / (1 + np.exp(-logits)), batch["targets"]
    losses = -value * np.log(chance) - (1 - value) * np.log(1 - chance)
    total, weight = jax.jit(lambda batch: loss(prm, batch))(batch)
    assert weight == 6
    assert total == pytest.approx((losses * batch["weights"]).sum(), rel=1e-5)
    assert total == pytest.approx(6 * np.log(2), rel=1e-5)  # a new head says one half

    before = {name: np.asarray(x) for name, x in parameters.named(prm).items()}
    optimisation = Optimisation(steps=25, learning_rate=0.03, warmup=2)
    figures = fit(prm, loss, batches, batches, optimisation, tmp_path, trainable=above_trunk)
    # Nothing can be below the entropy of the values themselves.
    floor = -sum(v * np.log(v) + (1 - v) * np.log(1 - v) for v in (0.25, 0.5)) / 6
    assert floor < figures["validation_loss"] < 0.8 * np.log(2)
    trunk = {f"trunk.{name}": x for name, x in parameters.named(generator).items()}
    for name, value in parameters.named(prm).items():
        same = np.array_equal(value, before[name])
        assert same == name.startswith("trunk."), name
        assert not same or np.array_equal(value, trunk[name]), name


def area(pairs: list[tuple[float, float]]) -> float:
    """How often the good one of a pair scores higher, one half for a tie."""
    return sum(1.0 if good > bad else 0.5 if good == bad else 0.0 for good, bad in pairs) / len(
        pairs
    )


answers = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.lists(
            st.tuples(st.sampled_from([0.1, 0.2, 0.3]), st.sampled_from([0.0, 0.5, 1.0])),
            min_size=1,
            max_size=4,
        ),
    ),
    max_size=8,
)


@hypothesis.given(answers)
def test_quality_is_the_share_of_pairs_in_order(rows):
    scores = [[score for score, _ in steps] for _, steps in rows]
    found = quality(
        scores,
        [
            labelled(list(range(len(steps))), [value for _, value in steps], question)
            for question, steps in rows
        ],
    )
    expected = {}
    by_question = []
    for question in "abc":
        last = [steps[-1] for name, steps in rows if name == question]
        pairs = [(s, t) for (s, v), (t, w) in itertools.product(last, last) if v > 0.5 >= w]
        by_question += [area(pairs)] if pairs else []
    if by_question:
        expected["last_step"] = pytest.approx(np.mean(by_question))
    before, errors = [], []
    for _, steps in rows:
        error = next((i for i, (_, value) in enumerate(steps) if value == 0), None)
        if error:  # neither without one nor on the first step
            before += [score for score, _ in steps[:error]]
            errors.append(steps[error][0])
    if errors:
        expected["first_error"] = pytest.approx(area(list(itertools.product(before, errors))))
    assert found == expected
