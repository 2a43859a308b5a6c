"""Supervised finetuning asks for the solution and for nothing else."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.sampling.oracle import TINY, tiny_generator
from ttc_jax.models.tokenizers import CharTokenizer
from ttc_jax.tasks.arithmetic import PIECES, Arithmetic
from ttc_jax.tasks.prompts import PromptFormat
from ttc_jax.training import sft
from ttc_jax.training.batches import Batches
from ttc_jax.training.loop import fit
from ttc_jax.training.optimisation import Optimisation

TOKENIZER = CharTokenizer(PIECES)
CONFIG = dataclasses.replace(TINY, vocab_size=TOKENIZER.vocab_size)
QUESTIONS = [q for q in Arithmetic(size=60).questions("train") if len(q.solution) < 45][:6]
PROMPT = PromptFormat("= {question}\n")


def test_weights_lie_on_the_solution_and_its_end():
    for question, example in zip(
        QUESTIONS, sft.examples(QUESTIONS, PROMPT, TOKENIZER), strict=True
    ):
        assert TOKENIZER.decode(example.tokens.tolist()) == (
            f"= {question.text}\n{question.solution}"
        )
        assert example.tokens[-1] == TOKENIZER.eos_ids[0]
        assert len(example.tokens) == len(example.targets) == len(example.weights)
        asked = example.targets[example.weights > 0].astype(int).tolist()
        assert asked == [*TOKENIZER.encode(question.solution), TOKENIZER.eos_ids[0]]
        np.testing.assert_array_equal(example.targets[:-1], example.tokens[1:])
        assert set(example.weights) == {0.0, 1.0}


def test_the_loss_is_the_solutions_surprise_and_training_lowers_it(tmp_path: Path):
    model = tiny_generator(CONFIG)
    examples = sft.examples(QUESTIONS, PROMPT, TOKENIZER)
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
