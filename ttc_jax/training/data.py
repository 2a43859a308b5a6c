"""What was collected, question by question, and which questions training does not see."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ttc_jax import hashing
from ttc_jax.errors import UserError, naming
from ttc_jax.models.delimiters import Delimiter
from ttc_jax.results.store import Candidate, ResultsStore
from ttc_jax.tasks.prompts import PromptFormat, with_answers
from ttc_jax.tasks.task import Question
from ttc_jax.training.batches import Example
from ttc_jax.verifiers.steps import step_ends

if TYPE_CHECKING:
    from ttc_jax.models.tokenizers import Tokenizer

Examples = dict[str, list[Example]]  # by the question's id


@dataclasses.dataclass(frozen=True)
class Collected:
    """All answers to one question.

    Attributes:
      question: its id.
      prompt: [P] tokens.
      chains: each answer saw those before it in its chain; a parallel sample is a chain of one.
      between: tokens in the place of an earlier answer's end token.
      ends: tokens that end an answer.
    """

    question: str
    prompt: Sequence[int]
    chains: Sequence[Sequence[Candidate]]
    between: Sequence[int]
    ends: Sequence[int]

    @property
    def pass_at_1(self) -> float:
        """Share of the answers that are correct."""
        correct = [candidate.correct for chain in self.chains for candidate in chain]
        return sum(correct) / len(correct)

    def context(self, earlier: Sequence[Candidate]) -> list[int]:
        """What an answer is written behind: the question, and the latest of the earlier answers."""
        answers = [candidate.tokens for candidate in earlier]
        return with_answers(self.prompt, answers, self.between, self.ends)

    def answers(self, delimiter: Delimiter) -> Iterator[tuple[list[int], Candidate, Sequence[int]]]:
        """Answers that could be parsed, with what each was written behind and where its steps end.

        Args:
          delimiter: ends steps.
        """
        for chain in self.chains:
            for place, candidate in enumerate(chain):
                if candidate.answer is not None:
                    tokens = np.array(candidate.tokens)
                    length, finished = np.array(len(tokens)), np.array(candidate.finished)
                    ends = step_ends(tokens, length, finished, delimiter)
                    yield self.context(chain[:place]), candidate, np.flatnonzero(ends).tolist()


def read(
    path: str, questions: Sequence[Question], prompt: PromptFormat, tokenizer: Tokenizer
) -> list[Collected]:
    """The records of a collection, in the order of the questions, whatever order they came in.

    Args:
      path: its workdir.
      questions: those that it may hold answers to.

    Raises:
      UserError: no records, an answer to another question, or tokens of another vocabulary.
    """
    records = ResultsStore(Path(path)).read()
    if not records:
        raise UserError(f"data.path={path}: holds no records; ttc collect and ttc run write them")
    chains: dict[str, list[tuple[Candidate, ...]]] = {question.id: [] for question in questions}
    for record in sorted(records, key=lambda record: record.key):
        if record.question not in chains:
            raise UserError(
                f"data.path={path}: {record.question!r} is no question of this task and split; set "
                "config.task and config.split as in the collection's config.json"
            )
        for candidate in record.candidates[:1]:
            if not _is_text(candidate, tokenizer):
                raise UserError(
                    f"data.path={path}: the answers to {record.question!r} are in another "
                    "vocabulary than start.path's; start from the model that was collected from"
                )
        starts = range(0, len(record.candidates), record.sequential)
        chains[record.question] += [
            record.candidates[start : start + record.sequential] for start in starts
        ]
    between, ends = prompt.between(tokenizer), prompt.ends(tokenizer)
    found = []
    for question in questions:
        if chains[question.id]:
            with naming(question.id):
                asked = prompt.encode(question, tokenizer)
            found.append(Collected(question.id, asked, chains[question.id], between, ends))
    return found


def split(examples: Mapping[str, list[Example]], held_out: float) -> tuple[Examples, Examples]:
    """What is trained on, and what is validated with: a hash of the question decides.

    Args:
      held_out: share of the questions to validate with.

    Raises:
      UserError: a share that is none, or one that leaves either part empty.
    """
    if not 0 < held_out < 1:
        raise UserError(f"data.held_out is {held_out}; it must lie between 0 and 1")
    train: Examples = {}
    validation: Examples = {}
    for question, rows in examples.items():
        part = validation if hashing.falls_within(question, held_out) else train
        part[question] = rows
    if not train or not validation:
        raise UserError(
            f"data.held_out={held_out} leaves {len(train)} questions to train on and "
            f"{len(validation)} to validate with; collect more questions or change it"
        )
    return train, validation


def _is_text(candidate: Candidate, tokenizer: Tokenizer) -> bool:
    """Whether the tokens are those of the text."""
    known = all(0 <= token < tokenizer.vocab_size for token in candidate.tokens)
    return known and tokenizer.decode(candidate.tokens) == candidate.text
