"""Monte-Carlo step values: how often the generator gets there from each step (paper §2).

Samples of each question are cut at their steps; from every different prefix the generator finishes
the answer several times, and the share of correct ends is the value of that step. A last step is
worth what its answer is. Samples without a parsable answer are dropped.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from ttc_jax.sampling.sampler import Sampler, Samples
from ttc_jax.tasks.task import Question, Task
from ttc_jax.verifiers.steps import step_ends

if TYPE_CHECKING:
    from ttc_jax.models.tokenizers import Tokenizer
    from ttc_jax.tasks.prompts import PromptFormat


@dataclasses.dataclass(frozen=True)
class Labelled:
    """A sampled answer with a value for each of its steps."""

    question: str
    prompt: list[int]
    tokens: list[int]
    ends: list[int]  # index into `tokens` of each step's last token
    values: list[float]  # share of rollouts from there that end correctly


@dataclasses.dataclass(frozen=True)
class Collector:
    """Collects labelled answers.

    Attributes:
      samples: draws the answers that are labelled.
      rollouts: draws the ends from every prefix; its candidates are the rollouts a prefix.
    """

    task: Task
    prompt: PromptFormat
    tokenizer: Tokenizer
    samples: Sampler
    rollouts: Sampler
    delimiter: str = "\n"

    def collect(self, questions: Sequence[Question], path: Path) -> list[Labelled]:
        """Labels samples of all questions; one line a sample in `path`, from which it goes on."""
        done = _read(path)
        known = {question for question, _ in done}
        todo = [question for question in questions if question.id not in known]
        size = self.samples.batch
        bar = tqdm(total=len(questions), initial=len(known), desc="rollouts", unit="question")
        for start in range(0, len(todo), size):
            chunk = todo[start : start + size]
            labelled = self._label(chunk)
            with path.open("a") as file:
                for question in chunk:
                    rows = [dataclasses.asdict(x) for x in labelled if x.question == question.id]
                    line = {"question": question.id, "labelled": rows}
                    file.write(json.dumps(line) + "\n")
            bar.update(len(chunk))
        bar.close()
        wanted = {question.id for question in questions}
        return [x for question, rows in _read(path) if question in wanted for x in rows]

    def _label(self, questions: Sequence[Question]) -> list[Labelled]:
        prompts = [self.prompt.encode(question.text, self.tokenizer) for question in questions]
        drawn = self.samples.sample(prompts, [_number(question.id) for question in questions])
        delimiters = self.tokenizer.containing(self.delimiter)
        found: list[tuple[int, Labelled]] = []
        for i, question in enumerate(questions):
            answers = _answers(drawn, i)
            ends = step_ends(drawn.tokens[i], drawn.lengths[i], drawn.finished[i], delimiters)
            verdicts = self.task.judge(question, [self.tokenizer.decode(x) for x in answers])
            for n, verdict in enumerate(verdicts):
                if verdict.answer is not None:
                    at = np.flatnonzero(ends[n]).tolist()
                    values = [float(verdict.correct)] * len(at)
                    found.append((i, Labelled(question.id, prompts[i], answers[n], at, values)))
        values = self._values(questions, prompts, found)
        for i, answer in found:
            for step, end in enumerate(answer.ends[:-1]):
                answer.values[step] = values[i, tuple(answer.tokens[: end + 1])]
        return [answer for _, answer in found]

    def _values(
        self,
        questions: Sequence[Question],
        prompts: Sequence[list[int]],
        found: Sequence[tuple[int, Labelled]],
    ) -> dict[tuple[int, tuple[int, ...]], float]:
        """The value of every different prefix: each is rolled out once, however many share it."""
        prefixes = {(i, tuple(x.tokens[: end + 1])) for i, x in found for end in x.ends[:-1]}
        # Prefixes of like length end together, and share a bucket.
        ordered = sorted(prefixes, key=lambda key: (len(prompts[key[0]]) + len(key[1]), key))
        values = {}
        for start in range(0, len(ordered), self.rollouts.batch):
            keys = ordered[start : start + self.rollouts.batch]
            drawn = self.rollouts.sample(
                [prompts[i] + list(prefix) for i, prefix in keys],
                [_number(f"{questions[i].id}/{prefix}") for i, prefix in keys],
                [self.samples.max_new_tokens - len(prefix) for _, prefix in keys],
            )
            for row, (i, prefix) in enumerate(keys):
                answers = [[*prefix, *end] for end in _answers(drawn, row)]
                verdicts = self.task.judge(
                    questions[i], [self.tokenizer.decode(x) for x in answers]
                )
                values[i, prefix] = float(np.mean([verdict.correct for verdict in verdicts]))
        return values


def _answers(samples: Samples, row: int) -> list[list[int]]:
    """Each candidate's tokens, without the padding behind them."""
    tokens, lengths = samples.tokens[row].tolist(), samples.lengths[row].tolist()
    return [x[:length] for x, length in zip(tokens, lengths, strict=True)]


def _number(name: str) -> int:
    return zlib.crc32(name.encode())


def _read(path: Path) -> list[tuple[str, list[Labelled]]]:
    return list(_lines(path)) if path.exists() else []


def _lines(path: Path) -> Iterator[tuple[str, list[Labelled]]]:
    whole, _, torn = path.read_text().rpartition("\n")
    if torn:  # a kill in the middle of a line
        path.write_text(whole + "\n" if whole else "")
    for line in whole.splitlines():
        row = json.loads(line)
        yield row["question"], [Labelled(**labelled) for labelled in row["labelled"]]
