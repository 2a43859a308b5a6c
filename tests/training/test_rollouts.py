"""Monte-Carlo step values with scripted samplers."""

import dataclasses
import json
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ttc_jax.models.tokenizers import CharTokenizer
from ttc_jax.sampling.sampler import Samples
from ttc_jax.tasks.arithmetic import PIECES, Arithmetic
from ttc_jax.tasks.prompts import PromptFormat
from ttc_jax.tasks.task import Question
from ttc_jax.training.rollouts import Collector, Labelled

END, LONGEST = 1, 40
QUESTIONS = [
    Question("t/0", "a=01 b+01:", "02"),
    Question("t/1", "a=40:", "40"),
    Question("t/2", "c-03 a=09 b*11:", "96"),
]
SOLUTIONS = {
    "t/0": ["1\n2\n\\boxed{02}", "1\n3\n\\boxed{03}", "1\n2\n\\boxed{02}", "1\n2\n3\n"],
    "t/1": ["\\boxed{40}", "7\n\\boxed{40}", "7\n\\boxed{13}\n", "7"],
    "t/2": ["9", "8\n", "", "7\n\n\n"],
}
TAILS = ("\\boxed{02}", "4\n\\boxed{40}", "\\boxed{13}", "=", "2\n\\boxed{02}")
ROLLOUTS = 3


class Strict(CharTokenizer):
    """Refuses to decode what lies behind an end."""

    def decode(self, tokens: Sequence[int]) -> str:
        assert END not in list(tokens)[:-1]
        assert 0 not in tokens, "padding is not text"
        return super().decode(tokens)


TOKENIZER = Strict(PIECES)


def tail(prefix: str, n: int) -> str:
    """The n-th scripted end of a prompt and the steps behind it."""
    return TAILS[zlib.crc32(f"{prefix}/{n}".encode()) % len(TAILS)]


@dataclasses.dataclass
class Scripted:
    """A sampler that recites; it ends each answer if that fits."""

    batch: int
    script: Callable[[str], list[str]]
    max_new_tokens: int = LONGEST
    asked: list[str] = dataclasses.field(default_factory=list)

    def sample(self, prompts, numbers, limits=None) -> Samples:
        assert len(prompts) == len(numbers) <= self.batch
        assert len(set(numbers)) == len(numbers)
        texts = [TOKENIZER.decode(prompt) for prompt in prompts]
        self.asked += texts
        limits = limits or [self.max_new_tokens] * len(prompts)
        answers = [
            [[*TOKENIZER.encode(answer), END][:limit] for answer in self.script(text)]
            for text, limit in zip(texts, limits, strict=True)
        ]
        shape = (len(prompts), len(answers[0]))
        tokens = np.zeros((*shape, self.max_new_tokens), np.int32)
        for i, n in np.ndindex(*shape):
            tokens[i, n, : len(answers[i][n])] = answers[i][n]
        lengths = np.array([[len(answer) for answer in row] for row in answers])
        return Samples(tokens, lengths, np.zeros(shape), np.ones(shape, bool))


def collector() -> tuple[Collector, Scripted, Scripted]:
    by_text = {question.text: SOLUTIONS[question.id] for question in QUESTIONS}
    samples: Any = Scripted(2, by_text.__getitem__)
    rollouts: Any = Scripted(3, lambda text: [tail(text, n) for n in range(ROLLOUTS)])
    return Collector(Arithmetic(), PromptFormat(), TOKENIZER, samples, rollouts), samples, rollouts


def box(text: str) -> str | None:
    """The two digits in the last box."""
    _, found, rest = text.rpartition("\\boxed{")
    return rest.partition("}")[0] if found else None


def expected() -> list[Labelled]:
    found = []
    for question in QUESTIONS:
        for solution in SOLUTIONS[question.id]:
            if box(solution) is None:
                continue
            steps = solution.split("\n")
            closed = ["\n".join(steps[: i + 1]) + "\n" for i in range(len(steps) - 1)]
            prefixes = closed if steps[-1] else closed[:-1]  # the last step is no prefix
            values = [
                sum(
                    box(prefix + tail(question.text + prefix, n)) == question.answer
                    for n in range(ROLLOUTS)
                )
                / ROLLOUTS
                for prefix in prefixes
            ]
            tokens = [*TOKENIZER.encode(solution), END]
            ends = [len(TOKENIZER.encode(prefix)) - 1 for prefix in prefixes]
            ends.append(len(tokens) - 1 if steps[-1] else len(tokens) - 2)
            values.append(float(box(solution) == question.answer))
            prompt = TOKENIZER.encode(question.text)
            found.append(Labelled(question.id, prompt, tokens, ends, values))
    return found


def test_values_are_the_shares_of_ends_that_are_right(tmp_path: Path):
    collect, samples, rollouts = collector()
    found = collect.collect(QUESTIONS, tmp_path / "rollouts.jsonl")
    assert found == expected()
    assert samples.asked == [question.text for question in QUESTIONS]
    assert {value for answer in found for value in answer.values} > {0.0, 1.0}
    assert {answer.question for answer in found} == {"t/0", "t/1"}  # t/2 has nothing to parse
    prefixes = {
        question.text + prefix
        for question, prefix in (
            (QUESTIONS[0], "1\n"),
            (QUESTIONS[0], "1\n2\n"),
            (QUESTIONS[0], "1\n3\n"),
            (QUESTIONS[1], "7\n"),
        )
    }
    assert Counter(rollouts.asked) == Counter(prefixes)  # each once, whoever shares it


def test_what_is_on_disk_is_not_drawn_again(tmp_path: Path):
    path = tmp_path / "rollouts.jsonl"
    collector()[0].collect(QUESTIONS, path)
    before = path.read_bytes()
    collect, samples, rollouts = collector()
    assert collect.collect(QUESTIONS[1:], path) == expected()[3:]
    assert samples.asked == rollouts.asked == []
    assert path.read_bytes() == before
    assert [json.loads(line)["question"] for line in path.read_text().splitlines()] == [
        question.id for question in QUESTIONS
    ]


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_torn_line_is_drawn_again(tmp_path: Path, kept: int):
    path = tmp_path / "rollouts.jsonl"
    collector()[0].collect(QUESTIONS, path)
    before = path.read_bytes()
    lines = before.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:kept]) + lines[kept][:-9])
    collect, samples, _ = collector()
    assert collect.collect(QUESTIONS, path) == expected()
    assert samples.asked == [question.text for question in QUESTIONS[kept:]]
    assert path.read_bytes() == before


def test_a_rollout_has_what_the_answer_has_left(tmp_path: Path):
    """An answer and its rollouts are cut off at the same length."""
    collect, _, rollouts = collector()
    given = []
    sample = rollouts.sample

    def watched(prompts, numbers, limits):
        given.extend(len(p) + limit for p, limit in zip(prompts, limits, strict=True))
        return sample(prompts, numbers, limits)

    rollouts.sample = watched  # pyright: ignore[reportAttributeAccessIssue]
    collect.collect(QUESTIONS[:1], tmp_path / "rollouts.jsonl")
    assert set(given) == {len(TOKENIZER.encode(QUESTIONS[0].text)) + LONGEST}
