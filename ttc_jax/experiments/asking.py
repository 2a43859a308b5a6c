"""The questions that a solver is asked: told apart, and made prompts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ttc_jax import hashing
from ttc_jax.errors import UserError
from ttc_jax.experiments.recorder import Prompted, Recorder
from ttc_jax.tasks.task import Question


def identified(question: str | Question) -> Question:
    """Returns the question, with a hash of its text as id where it has none."""
    if isinstance(question, str):
        question = Question(id=hashing.name_of(question), text=question, answer="")
    if not question.text.strip():
        raise UserError("a question is empty")
    return question


def distinct(asked: Sequence[Question]) -> dict[str, Question]:
    """Returns questions by id; the same one may be asked twice.

    Raises:
      UserError: two of one id differ; names a field that does.
    """
    found: dict[str, Question] = {}
    for question in asked:
        first = found.setdefault(question.id, question)
        for field in dataclasses.fields(question):
            if getattr(first, field.name) != getattr(question, field.name):
                raise UserError(
                    f"two questions have the id {question.id!r}, and differ in their "
                    f"{field.name}; give each an id of its own"
                )
    return found


def encode(recorder: Recorder, questions: Sequence[Question]) -> list[Prompted]:
    """Returns the prompts of questions.

    Raises:
      UserError: one does not fit the models; names it.
    """
    prompted = []
    for question in questions:
        try:
            prompted += recorder.encode([question])
        except UserError as error:
            raise naming(question, error) from error
    return prompted


def naming(question: Question, error: UserError) -> UserError:
    """Returns the error with the question's text in place of its id, which may be a hash."""
    reason = str(error).removeprefix(f"{question.id}: ")
    return UserError(f"question {question.text[:40]!r}: {reason}")
