"""Monte-Carlo step values with a scripted sampler."""

import dataclasses
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tests.compute.flops_by_hand import generator_token
from tests.sampling.oracle import TINY
from tests.tasks.boxed import Boxed
from ttc_jax.errors import UserError
from ttc_jax.models.characters import CharTokenizer
from ttc_jax.models.delimiters import Delimiter
from ttc_jax.results.store import ResultsStore
from ttc_jax.sampling.rollouts import Finished, Prefix
from ttc_jax.sampling.sampler import Samples
from ttc_jax.tasks.countdown import PIECES
from ttc_jax.tasks.prompts import PromptFormat
from ttc_jax.tasks.task import Question
from ttc_jax.training.collection import Collector

END, LONGEST, ROLLOUTS = 1, 40, 3
QUESTIONS = [
    Question("t/0", "03 09 11=96:", "96", level="3"),
    Question("t/1", "08 05=40:", "40"),
    Question("t/2", "01 01=02:", "02", level="1"),
    Question("t/3", " ".join(["*-01"] * 14) + ":", "01"),
]
SOLUTIONS = {
    "t/0": ["9", "8\n", "", "7\n\n\n"],
    "t/1": ["\\boxed{40}", "7\n\\boxed{40}", "7\n\\boxed{13}\n", "7"],
    "t/2": ["1\n2\n\\boxed{02}", "1\n3\n\\boxed{03}", "1\n2\n\\boxed{02}", "1\n2\n3\n"],
    "t/3": [
        "1" * (LONGEST - 3) + "\n\\boxed{01}",
        "\n\n\\boxed{01}",
        "=\n\n\n\\boxed{01}",
        "\\boxed{01",
    ],
}
TAILS = ("\\boxed{02}", "4\n\\boxed{40}", "\\boxed{13}", "=", "2\n\\boxed{02}", "\\boxed{01}")


class Strict(CharTokenizer):
    """Refuses to decode what lies behind an end."""

    def decode(self, tokens: Sequence[int], inside: bool = False, special: bool = False) -> str:
        assert END not in list(tokens)[:-1]
        assert 0 not in tokens, "padding is not text"
        return super().decode(tokens, inside)


TOKENIZER = Strict(PIECES)


def tail(prefix: str, n: int) -> str:
    """The n-th scripted end of a prompt and the steps behind it."""
    return TAILS[zlib.crc32(f"{prefix}/{n}".encode()) % len(TAILS)]


def cut(answer: str) -> list[int]:
    return [*TOKENIZER.encode(answer), END][:LONGEST]


@dataclasses.dataclass
class Recited:
    """A sampler that knows its answers, and how they may end; done with the last question first."""

    generator: Any = TINY
    ends: int = ROLLOUTS
    numbers: dict[str, int] = dataclasses.field(default_factory=dict)
    rolled: list[str] = dataclasses.field(default_factory=list)

    def check(self, prompt):
        if len(prompt) > 90:
            raise UserError("a prompt is too long")

    def run(self, prompts, numbers, choose):
        by_text = {question.text: SOLUTIONS[question.id] for question in QUESTIONS}
        texts = [TOKENIZER.decode(prompt) for prompt in prompts]
        self.numbers |= dict(zip(texts, numbers, strict=True))
        chosen = []
        for index, text in enumerate(texts):
            answers = [cut(answer) for answer in by_text[text]]
            tokens = np.zeros((4, LONGEST), np.int32)
            for row, answer in zip(tokens, answers, strict=True):
                row[: len(answer)] = answer
            lengths = np.array([len(answer) for answer in answers])
            ended = np.array([answer[-1] == END for answer in answers])
            samples = Samples(tokens, lengths, -0.5 * lengths, ended)
            chosen.append((samples, choose(index, samples)))
        for index, text in reversed(list(enumerate(texts))):
            samples, places = chosen[index]
            yield index, samples, self.finish(text, samples.tokens, places)

    def finish(self, text: str, sampled: np.ndarray, places: list[Prefix]) -> Finished:
        tokens = np.zeros((len(places), self.ends, LONGEST), np.int32)
        lengths = np.zeros((len(places), self.ends), np.int32)
        for j, (n, length) in enumerate(places):
            prefix = TOKENIZER.decode(sampled[n, :length].tolist())
            self.rolled.append(text + prefix)
            for k in range(self.ends):
                answer = cut(prefix + tail(text + prefix, k))
                tokens[j, k, : len(answer)], lengths[j, k] = answer, len(answer)
        return Finished(tokens, lengths)


def collector() -> tuple[Collector, Recited]:
    recited: Any = Recited()
    delimiter = Delimiter.of(TOKENIZER, "\n")
    prompt = PromptFormat()
    return Collector(Boxed(), TOKENIZER, prompt, recited, delimiter, seed=7), recited


def collect(questions: Sequence[Question] = QUESTIONS):
    collecting, recited = collector()
    records = list(collecting.run(collecting.encode(questions)))
    return {record.question: record for record in records}, recited


def box(text: str) -> str | None:
    """The two digits in the last box."""
    _, found, rest = text.rpartition("\\boxed{")
    digits, closed, _ = rest.partition("}")
    return digits if found and closed else None


def beginnings(solution: str) -> list[str]:
    """What stands before each step but the first: lines end steps, empty ones do not."""
    text = TOKENIZER.decode(cut(solution))
    ends = [i + 1 for i, x in enumerate(text) if x == "\n" and text[i - 1 : i] != "\n"]
    return [text[:end] for end in ends if text[end:].strip("\n")]


def value(question: Question, prefix: str) -> float:
    ends = [tail(question.text + prefix, k) for k in range(ROLLOUTS)]
    texts = [TOKENIZER.decode(cut(prefix + end)) for end in ends]
    return sum(box(text) == question.answer for text in texts) / ROLLOUTS


def test_values_are_the_shares_of_ends_that_are_right():
    records, recited = collect()
    rolled = set()
    for question in QUESTIONS:
        record = records[question.id]
        for solution, candidate in zip(SOLUTIONS[question.id], record.candidates, strict=True):
            text = TOKENIZER.decode(cut(solution))
            assert candidate.text == text
            assert candidate.tokens == tuple(cut(solution))
            assert candidate.finished == (candidate.tokens[-1] == END)
            assert candidate.log_prob == -0.5 * len(candidate.tokens)
            assert candidate.answer == box(text)
            assert candidate.correct == (box(text) == question.answer)
            assert candidate.step_scores == ()
            if box(text) is None:
                assert candidate.step_values == ()
                continue
            prefixes = beginnings(solution)
            rolled |= {question.text + prefix for prefix in prefixes}
            expected = [value(question, prefix) for prefix in prefixes]
            assert candidate.step_values == (*expected, float(candidate.correct))
    values = {v for record in records.values() for c in record.candidates for v in c.step_values}
    assert values > {0.0, 1.0}
    assert not any(candidate.step_values for candidate in records["t/0"].candidates)
    assert Counter(recited.rolled) == Counter(rolled)  # each once, whoever shares it


def test_what_a_record_costs():
    records, _ = collect()
    for question in QUESTIONS:
        record, shared = records[question.id], len(TOKENIZER.encode(question.text)) - 1
        rows = [(0, len(cut(solution))) for solution in SOLUTIONS[question.id]]
        answered = [x for x in SOLUTIONS[question.id] if box(TOKENIZER.decode(cut(x)))]
        for prefix in {prefix for x in answered for prefix in beginnings(x)}:
            start = len(TOKENIZER.encode(prefix))
            for k in range(ROLLOUTS):
                rows.append((start, len(cut(prefix + tail(question.text + prefix, k)))))
        prompt = sum(generator_token(TINY, at, scored=False) for at in range(shared))
        flops = again = 0
        for start, end in rows:
            for at in range(shared + start, shared + end):
                flops += generator_token(TINY, at, scored=True)
            for at in range(shared + start):
                again += generator_token(TINY, at, scored=False)
        ledger = record.ledger
        assert record.key == (question.id, "rollouts", len(rows), 7)
        assert ledger.generations == len(rows)
        assert ledger.prefill_tokens == shared
        assert ledger.decode_tokens == sum(end - start for start, end in rows)
        assert ledger.generator_flops == prompt + flops
        assert ledger.uncached_generator_flops == again + flops
        assert ledger.verifier_tokens == ledger.lookahead_tokens == ledger.verifier_flops == 0
        assert record.level == question.level
        assert record.seconds > 0
    assert records["t/0"].budget == 4  # nothing to parse, nothing to roll out


def test_records_come_as_they_are_done_and_depend_on_their_question_alone():
    records, recited = collect()
    assert list(records) == [question.id for question in QUESTIONS[::-1]]
    assert len(set(recited.numbers.values())) == len(QUESTIONS)
    for questions in (QUESTIONS[::-1], QUESTIONS[1:3]):
        others, again = collect(questions)
        assert again.numbers.items() <= recited.numbers.items()
        for name, record in others.items():
            assert dataclasses.replace(record, seconds=0.0) == dataclasses.replace(
                records[name], seconds=0.0
            )


def test_records_can_be_stored(tmp_path):
    records, _ = collect()
    store = ResultsStore(tmp_path)
    store.append(list(records.values()))
    assert store.read() == list(records.values())


def test_a_prompt_that_does_not_fit_is_named():
    with pytest.raises(UserError, match="q/9: a prompt is too long"):
        collector()[0].encode([*QUESTIONS, Question("q/9", "1" * 91, "12")])


def test_a_thought_that_the_prompt_opened_is_judged_as_one():
    class Thinker(Boxed):
        def judge(self, question, solutions):
            judged.extend(solutions)
            return super().judge(question, solutions)

    judged: list[str] = []
    recited: Any = Recited()
    tokenizer = CharTokenizer([*PIECES, "<think>"])  # the script does not see the mark
    collecting = Collector(
        Thinker(),
        tokenizer,
        PromptFormat("{question}<think>"),
        recited,
        Delimiter.of(TOKENIZER, "\n"),
    )
    (record,) = collecting.run(collecting.encode(QUESTIONS[2:3]))
    assert judged[:4] == ["<think>" + candidate.text for candidate in record.candidates]
    assert len(judged) > 4
    assert all(text.startswith("<think>") for text in judged)
