"""Pools: which questions are drawn together, what a record says, and what it cost."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from tests.compute.flops_by_hand import generator_token, prm_token
from tests.sampling.oracle import TINY
from ttc_jax.errors import UserError
from ttc_jax.models.tokenizers import CharTokenizer
from ttc_jax.sampling.sampler import Samples, bucket
from ttc_jax.search.best_of_n import BestOfN
from ttc_jax.tasks.arithmetic import PIECES, Arithmetic
from ttc_jax.tasks.prompts import PromptFormat
from ttc_jax.tasks.task import Question
from ttc_jax.verifiers.prm import PRMConfig

TOKENIZER = CharTokenizer(PIECES)
GENERATOR = dataclasses.replace(TINY, vocab_size=TOKENIZER.vocab_size)
VERIFIER = PRMConfig(GENERATOR, dataclasses.replace(GENERATOR, width=10))
ANSWERS = ("1\n\\boxed{12}", "\\boxed{13}", "77")  # of every question; the last is cut off
LENGTHS = [5, 30, 40, 6, 70, 32, 7, 35, 5]  # of the prompts
QUESTIONS = [
    Question(f"q/{i}", "1" * length, "12" if i % 2 else "13", level=str(i))
    for i, length in enumerate(LENGTHS)
]


class Recited:
    """A sampler and a scorer that know their answers."""

    batch = 2

    def __init__(self):
        self.numbers: list[int] = []

    def check(self, prompt):
        if len(prompt) > 90:
            raise UserError("a prompt is too long")

    def sample(self, prompts, numbers):
        assert len(prompts) == len(numbers) <= self.batch
        self.numbers += numbers
        answers = [TOKENIZER.encode(answer) for answer in ANSWERS]
        answers = [[*answer, 1] for answer in answers[:-1]] + answers[-1:]
        tokens = np.zeros((len(prompts), len(answers), 12), np.int32)
        for n, answer in enumerate(answers):
            tokens[:, n, : len(answer)] = answer
        lengths = np.array([[len(answer) for answer in answers]] * len(prompts))
        log_prob = np.array([[-1.0 * len(p), -2.5, -0.25] for p in prompts], np.float32)
        return Samples(tokens, lengths, log_prob, np.array([[True, True, False]] * len(prompts)))

    def score(self, prompts, samples):
        return [[(0.5, 0.1 * len(p)), (0.25,), (0.75,)] for p in prompts]


def search(verified: bool = True) -> tuple[BestOfN, Recited]:
    recited: Any = Recited()
    return BestOfN(
        task=Arithmetic(),
        tokenizer=TOKENIZER,
        prompt=PromptFormat(),
        generator=GENERATOR,
        sampler=recited,
        verifier=VERIFIER if verified else None,
        scorer=recited if verified else None,
        seed=7,
    ), recited


def test_a_batch_holds_questions_of_one_bucket():
    batches = list(search()[0].batches(QUESTIONS))
    found = [question.id for batch in batches for question, _ in batch]
    assert sorted(found) == [question.id for question in QUESTIONS]
    for batch in batches:
        assert len(batch) <= 2
        assert len({bucket(len(prompt)) for _, prompt in batch}) == 1
        for question, prompt in batch:
            assert prompt == TOKENIZER.encode(question.text)
    fullness = [len(batch) for batch in batches]
    assert fullness.count(1) <= 3  # one left over in a bucket at the most


def test_a_prompt_that_does_not_fit_is_refused_before_any_is_sampled():
    strategy, recited = search()
    with pytest.raises(UserError, match="too long"):
        next(strategy.batches([*QUESTIONS, Question("q/9", "1" * 91, "12")]))
    assert not recited.numbers


def test_what_a_record_says():
    strategy, _ = search()
    batch = next(strategy.batches(QUESTIONS))
    records = strategy.run(batch)
    for (question, prompt), record in zip(batch, records, strict=True):
        assert (record.question, record.level) == (question.id, question.level)
        assert (record.strategy, record.seed) == ("best_of_n", 7)
        assert record.seconds > 0
        assert [c.text for c in record.candidates] == list(ANSWERS)
        assert [c.answer for c in record.candidates] == ["12", "13", None]
        right = [question.answer == answer for answer in ("12", "13")]
        assert [c.correct for c in record.candidates] == [*right, False]
        assert [c.finished for c in record.candidates] == [True, True, False]
        assert [c.tokens[-1] == 1 for c in record.candidates] == [True, True, False]
        assert [c.log_prob for c in record.candidates] == [-len(prompt), -2.5, -0.25]
        scores = [(0.5, 0.1 * len(prompt)), (0.25,), (0.75,)]
        assert [c.step_scores for c in record.candidates] == scores


def test_a_question_is_drawn_by_its_id_alone():
    numbers = {}
    for questions in (QUESTIONS, QUESTIONS[::-1], QUESTIONS[3:5]):
        strategy, recited = search()
        for batch in strategy.batches(questions):
            strategy.run(batch)
            for (question, _), number in zip(batch, recited.numbers[-len(batch) :], strict=True):
                assert numbers.setdefault(question.id, number) == number
    assert len(set(numbers.values())) == len(QUESTIONS)
    assert all(0 <= number < 2**32 for number in numbers.values())


@pytest.mark.parametrize("verified", [True, False])
def test_the_ledger_counts_every_token_of_every_model(verified: bool):
    strategy, _ = search(verified)
    batch = next(strategy.batches(QUESTIONS))
    for (_, prompt), record in zip(batch, strategy.run(batch), strict=True):
        shared = len(prompt) - 1  # all but the last are read once a question
        generator = sum(generator_token(GENERATOR, p, scored=False) for p in range(shared))
        verifier = sum(prm_token(VERIFIER, p) for p in range(shared))
        read = shared
        for candidate in record.candidates:
            # Fed: the prompt's last token and all of the answer but its last; each gives a token.
            for p in range(shared, shared + len(candidate.tokens)):
                generator += generator_token(GENERATOR, p, scored=True)
            # The verifier reads the last one too.
            for p in range(shared, shared + len(candidate.tokens) + 1):
                verifier += prm_token(VERIFIER, p)
                read += 1
        ledger = record.ledger
        assert ledger.generations == 3
        assert ledger.prefill_tokens == shared
        assert ledger.decode_tokens == sum(len(c.tokens) for c in record.candidates)
        assert ledger.generator_flops == generator
        assert (ledger.verifier_tokens, ledger.verifier_flops) == (
            (read, verifier) if verified else (0, 0)
        )
        assert any(candidate.step_scores for candidate in record.candidates) == verified
