"""What a PRM and an ORM are taught."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from tests.sampling.oracle import TINY, tiny_generator
from tests.training.toy import DELIMITER, TOKENIZER, candidate, collected, solution
from ttc_jax.errors import UserError
from ttc_jax.models import parameters
from ttc_jax.tasks.countdown import Countdown
from ttc_jax.tasks.task import Question
from ttc_jax.training import orm, prm
from ttc_jax.training.batches import Batches, Example
from ttc_jax.training.loop import fit
from ttc_jax.training.optimisation import Optimisation

TRUNK = dataclasses.replace(
    TINY, vocab_size=TOKENIZER.vocab_size, depth=1, windows=(None,), ropes=()
)
ASKED = Question("t/0", "01 01=02:", "02")
GOOD = candidate("1+1=2\n\\boxed{02}", "02", [0.75, 1.0])
BAD = candidate("1+1=\n3\n\\boxed{03}", "02", [0.5, 0.0, 0.0])
NEITHER = candidate("1+1", "02", [0.25])
UNVALUED = candidate("\\boxed{02}", "02")


def asked(example: Example) -> list[tuple[str, float]]:
    """The text of the answer up to where a value is asked for, and the value."""
    first = example.prompt_length - 1
    assert not example.weights[:first].any()
    assert set(example.weights) <= {0.0, 1.0}
    assert not example.targets[example.weights == 0].any()
    return [
        (TOKENIZER.decode(example.tokens[example.prompt_length : at + 1].tolist()), value)
        for at, value in enumerate(example.targets.tolist())
        if example.weights[at]
    ]


def test_values_are_asked_for_where_steps_end_and_before_the_answer():
    """The question's is the share of its answers that are correct, whether they can be read or not.

    Two of four are.
    """
    found = prm.examples([collected(ASKED, [GOOD], [NEITHER], [UNVALUED], [BAD])], DELIMITER)
    assert list(found) == ["t/0"]
    good, bad = found["t/0"]
    assert asked(good) == [("", 0.5), ("1+1=2\n", 0.75), (GOOD.text, 1)]
    assert asked(bad) == [("", 0.5), ("1+1=\n", 0.5), ("1+1=\n3\n", 0), (BAD.text, 0)]
    for example, answer in ((good, GOOD), (bad, BAD)):
        assert example.tokens.tolist() == [*TOKENIZER.encode(ASKED.text), *answer.tokens]
        assert example.weights[-1] == 1  # the end token


def test_values_of_other_steps_are_refused():
    other = dataclasses.replace(GOOD, step_values=(1.0, 0.5, 0.0))
    with pytest.raises(UserError, match="t/0: 3 Monte-Carlo values for 2 steps; set config.step"):
        prm.examples([collected(ASKED, [other])], DELIMITER)


def test_an_orm_is_asked_once_an_answer_behind_what_the_answer_saw():
    chain = [BAD, NEITHER, GOOD, UNVALUED]
    found = orm.examples([collected(ASKED, chain)], DELIMITER)["t/0"]
    assert [asked(example) for example in found] == [
        [(BAD.text, 0)],
        [(GOOD.text, 1)],
        [(UNVALUED.text, 1)],
    ]
    contexts = [example.tokens[: example.prompt_length].tolist() for example in found]
    start = TOKENIZER.encode(ASKED.text)
    assert contexts == [
        start,
        [*start, *BAD.tokens, *NEITHER.tokens],
        [*start, *BAD.tokens, *NEITHER.tokens, *GOOD.tokens],
    ]


def test_an_answer_is_the_one_rollout_from_each_of_its_steps():
    answers = [collected(ASKED, [GOOD], [NEITHER], [UNVALUED], [BAD])]
    good, unvalued, bad = orm.examples(answers, DELIMITER, every_step=True)["t/0"]
    assert asked(good) == [("", 0.5), ("1+1=2\n", 1), (GOOD.text, 1)]
    assert asked(unvalued) == [("", 0.5), (UNVALUED.text, 1)]
    assert asked(bad) == [("", 0.5), ("1+1=\n", 0), ("1+1=\n3\n", 0), (BAD.text, 0)]


def test_an_orm_is_asked_where_a_search_reads_it():
    """An end token alone on its line is no step."""
    [example] = orm.examples([collected(ASKED, [candidate("\\boxed{02}\n")])], DELIMITER)["t/0"]
    assert np.flatnonzero(example.weights).tolist() == [len(example.tokens) - 2]


def rows_of(found: dict[str, list[Example]]) -> list[Example]:
    return [row for rows in found.values() for row in rows]


QUESTIONS = [q for q in Countdown(size=40).questions("train") if q.level == "3"][:3]
COLLECTED = [collected(q, [solution(q)], [solution(q, 1)], [solution(q, 0)]) for q in QUESTIONS]
EXAMPLES = rows_of(prm.examples(COLLECTED, DELIMITER))


def batches() -> Batches:
    longest = max(len(example.tokens) for example in EXAMPLES)
    return Batches(EXAMPLES, lengths=(longest,), tokens=len(EXAMPLES) * longest, seed=0)


def values(module: nnx.Module) -> dict[str, np.ndarray]:
    return {name: np.asarray(x) for name, x in parameters.named(module).items()}


GENERATOR = tiny_generator(TRUNK)


@pytest.mark.parametrize("depth", [0, 1])
def test_training_lowers_the_loss_and_moves_what_it_should(tmp_path: Path, depth: int):
    model = prm.on_trunk(GENERATOR, depth=depth, ffn_width=8, seed=3)
    trainable = prm.trainable(model)
    [batch] = batches().all()
    score = jax.jit(lambda batch: model(batch["tokens"], batch["prompt_lengths"]))
    logits = np.asarray(score(batch), np.float64)
    chance, value = 1 / (1 + np.exp(-logits)), batch["targets"]
    losses = -value * np.log(chance) - (1 - value) * np.log(1 - chance)
    total, weight = jax.jit(lambda batch: prm.loss(model, batch))(batch)
    steps = sum(1 + len(c.step_values) for x in COLLECTED for [c] in x.chains)
    assert weight == steps
    assert total == pytest.approx((losses * batch["weights"]).sum(), rel=1e-5)
    assert total == pytest.approx(steps * np.log(2), rel=1e-5)  # a new head says one half

    before, start = values(model), values(GENERATOR)
    optimisation = Optimisation(steps=20, learning_rate=0.03, warmup=2)
    data = batches()
    figures = fit(model, prm.loss, data, data, optimisation, tmp_path, trainable=trainable)
    assert figures["validation_loss"] < 0.97 * np.log(2)
    after = values(model)
    still = {name for name, value in after.items() if np.array_equal(value, before[name])}
    assert still == ({f"trunk.{name}" for name in start} if depth else set())
    for name in still:
        np.testing.assert_array_equal(after[name], start[name.removeprefix("trunk.")], name)


def test_shapes_of_new_prms():
    layered = prm.on_trunk(GENERATOR, depth=2, ffn_width=8, seed=0)
    assert layered.config.layers is not None
    assert (layered.config.layers.depth, layered.config.layers.ffn_width) == (2, 8)
    assert layered.spec.every_step
    outcome = prm.on_trunk(GENERATOR, depth=0, ffn_width=8, seed=0, every_step=False)
    assert outcome.config.layers is None
    assert not outcome.spec.every_step
