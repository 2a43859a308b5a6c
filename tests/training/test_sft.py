"""Supervised finetuning asks for answers and for nothing else."""

import dataclasses
from pathlib import Path

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st

from tests.sampling.oracle import TINY, tiny_generator
from tests.training.toy import END, TOKENIZER
from ttc_jax.tasks.countdown import Countdown
from ttc_jax.tasks.prompts import PromptFormat
from ttc_jax.training import sft
from ttc_jax.training.batches import Batches
from ttc_jax.training.loop import fit
from ttc_jax.training.optimisation import Optimisation

CONFIG = dataclasses.replace(TINY, vocab_size=TOKENIZER.vocab_size)
QUESTIONS = [q for q in Countdown(size=60).questions("train") if q.level == "3"][:6]
PROMPT = PromptFormat("= {question}\n")


def test_worked_solutions_and_their_ends_are_asked_for():
    unsolved = dataclasses.replace(QUESTIONS[0], id="t/0", solution="")
    found = sft.examples([unsolved, *QUESTIONS], PROMPT, TOKENIZER)
    assert list(found) == [question.id for question in QUESTIONS]
    for question, [example] in zip(QUESTIONS, found.values(), strict=True):
        text = f"= {question.text}\n{question.solution}"
        assert TOKENIZER.decode(example.tokens.tolist()) == text
        asked = example.targets[example.weights > 0].astype(int).tolist()
        assert asked == [*TOKENIZER.encode(question.solution), END]
        assert set(example.weights) == {0.0, 1.0}


def test_an_example_of_two_answers_is_as_documented():
    example = sft.example([2, 3, 4], [[5, 1], [6, 1]], [7])
    assert example.tokens.tolist() == [2, 3, 4, 5, 7, 6]
    assert example.targets.tolist() == [0, 0, 5, 1, 6, 1]
    assert example.weights.tolist() == [0, 0, 1, 1, 1, 1]
    assert example.prompt_length == 3


tokens = st.lists(st.integers(2, 30), min_size=1, max_size=5)


@hypothesis.given(tokens, st.lists(tokens, min_size=1, max_size=5), tokens)
def test_every_token_of_an_answer_is_asked_for_behind_what_a_model_saw(prompt, texts, between):
    example = sft.example(prompt, [[*text, END] for text in texts], between)
    asked = []
    for i, text in enumerate(texts):
        before = [*prompt, *(t for x in texts[:i] for t in (*x, *between))]
        asked += [([*before, *text[:at]], t) for at, t in enumerate([*text, END])]
    assert [
        (example.tokens[: at + 1].tolist(), int(example.targets[at]))
        for at in np.flatnonzero(example.weights)
    ] == asked


def test_the_loss_is_the_solutions_surprise_and_training_lowers_it(tmp_path: Path):
    model = tiny_generator(CONFIG)
    examples = [row for rows in sft.examples(QUESTIONS, PROMPT, TOKENIZER).values() for row in rows]
    longest = max(len(example.tokens) for example in examples)
    batches = Batches(examples, lengths=(longest,), tokens=8 * longest, seed=0)
    [batch] = batches.all()
    assert len(batch["tokens"]) == 8  # two rows hold nothing
    logits = np.asarray(jax.jit(lambda x: model.logits(model(x)))(batch["tokens"]), np.float64)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -sum(
        log_probs[row, t, int(batch["targets"][row, t])] for row, t in np.argwhere(batch["weights"])
    )
    total, weight = sft.loss(model, jax.device_put(batch))
    assert total == pytest.approx(expected, rel=1e-5)
    assert weight == sum(len(TOKENIZER.encode(q.solution)) + 1 for q in QUESTIONS)

    optimisation = Optimisation(steps=30, learning_rate=0.02, warmup=2)
    figures = fit(model, sft.loss, batches, batches, optimisation, tmp_path)
    assert figures["validation_loss"] < 0.7 * expected / weight
    total, weight = sft.loss(model, jax.device_put(batch))
    assert total / weight == pytest.approx(figures["validation_loss"], rel=1e-4)
