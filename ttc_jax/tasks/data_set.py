"""Data sets: questions from rows of JSON, each with a gold answer, graded under bounds.

A data set is a class in a small file of its own. It says where its rows are to be had, what a row
means where that is not the usual, and where solutions state their final answers:

    class Olympiad(DataSet):
        "Problems of last year's olympiad."

        name = "olympiad"
        splits = ("test",)
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from types import MappingProxyType
from typing import ClassVar, NamedTuple

from ttc_jax import hashing
from ttc_jax.errors import UserError
from ttc_jax.tasks.extraction import answer_part, boxed, boxed_answers
from ttc_jax.tasks.formulas import stated_answer
from ttc_jax.tasks.grading import MAX_ANSWER, Grader
from ttc_jax.tasks.jsonl import Row, name_field, optional_field, read_jsonl, text_field
from ttc_jax.tasks.task import Question, Verdict
from ttc_jax.tasks.tolerance import within


class Download(NamedTuple):
    """Where the rows of a split are, one JSON object a line, and what the file must be."""

    split: str
    url: str  # of a fixed revision
    size: int  # bytes
    sha256: str


class DataSet:
    r"""Rows with `problem` (or `question`) and `answer`, perhaps `solution`, `level`, `unique_id`.

    A question's id is its `unique_id`, else a hash of its text; the same text a second time gets
    the id with "-2", a third time with "-3".

    Attributes:
        name: What configs call it; the beginning of its questions' ids.
        splits: Of the questions.
        downloads: Where the rows of all splits are; () where no source can be named, so that the
            user gives a file.
        advice: How to come by such a file.
        homepage, license: Of the data.
        needed, optional: Columns that are kept of a downloaded row.
        columns: What rows call the level and the id, where it is not `level` and `unique_id`.

    Args:
        path: A JSONL file for the split "test".
        train_path: A JSONL file for the split "train". Without any file the rows come from TFDS,
            downloaded when first needed.
        grader: Judges the answers; by default one of the task's own, with five seconds and 1 GB
            an answer.
        unboxed: Whether a solution without a box may give its answer in prose.

    Raises:
        UserError: A file for a split that the data set does not have.
    """

    name: ClassVar[str]
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    downloads: ClassVar[tuple[Download, ...]] = ()
    advice: ClassVar[str] = ""
    homepage: ClassVar[str] = ""
    license: ClassVar[str] = ""
    needed: ClassVar[tuple[str, ...]] = ("problem", "answer")
    optional: ClassVar[tuple[str, ...]] = ("solution", "level", "unique_id")
    columns: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def __init__(
        self,
        path: str | PathLike[str] = "",
        train_path: str | PathLike[str] = "",
        grader: Grader | None = None,
        unboxed: bool = True,
    ) -> None:
        self.files = {"test": path, "train": train_path}
        if train_path and "train" not in self.splits:
            raise UserError(f"task.train_path={train_path}: {self.name} has no split 'train'")
        self.unboxed = unboxed
        self.grader = grader or Grader()

    def read(self, row: Row, where: str) -> Question:
        """The question in a row, with the row's own id or "".

        Args:
            where: The row's file and line, for errors.

        Raises:
            UserError: A field is missing or of the wrong type.
        """
        # Copies of one data set call it either.
        text = "problem" if "problem" in row else "question"
        return Question(
            id=self._name(row, "unique_id", where),
            text=text_field(row, text, where),
            answer=text_field(row, "answer", where),
            level=self._name(row, "level", where),
            solution=optional_field(row, "solution", where),
        )

    def final_answer(self, solution: str) -> str | None:
        r"""What a solution gives as its answer: its last box or boxes, or else what its prose says.

        With `unboxed=False` there is no answer without a box.
        """
        return boxed_answers(solution) or (stated_answer(solution) if self.unboxed else None)

    def questions(self, split: str) -> list[Question]:
        """See `ttc_jax.tasks.task.Task.questions`."""
        if split not in self.splits:
            known = ", ".join(self.splits)
            raise UserError(f"{self.name} has no split {split!r}: choose from {known}")
        questions: dict[str, Question] = {}
        seen = Counter[str]()
        for where, row in self._rows(split):
            question = self.read(row, where)
            # Of the text, not of the row's number: rows may be put in front of a row, or go.
            own = question.id or f"{split}/{hashing.name_of(question.text, 6)}"
            if not question.id:
                seen[own] += 1
                own += f"-{seen[own]}" if seen[own] > 1 else ""
            name = f"{self.name}/{own}"
            if name in questions:
                raise UserError(f"{where}: a second question with the id {name!r}")
            questions[name] = dataclasses.replace(question, id=name)
        if not questions:
            raise UserError(f"{self.files.get(split) or self.name}: no questions in it")
        return list(questions.values())

    def judge(self, question: Question, solutions: Sequence[str]) -> list[Verdict]:
        """See `ttc_jax.tasks.task.Task.judge`."""
        parts = [answer_part(solution) for solution in solutions]
        answers = [self.final_answer(part) for part in parts]
        verdicts = self.grader.judge(question.answer, answers)
        return [
            dataclasses.replace(
                verdict,
                correct=verdict.correct or _is_near(question, answer),
                unboxed=verdict.answer is not None and not boxed(part),
            )
            for verdict, answer, part in zip(verdicts, answers, parts, strict=True)
        ]

    def _name(self, row: Row, column: str, where: str) -> str:
        return optional_field(row, self.columns.get(column, column), where, name_field)

    def _rows(self, split: str) -> Iterable[tuple[str, Row]]:
        """The rows of a split, each with where it stands: from its file, else from TFDS."""
        field = "task.path" if split == "test" else "task.train_path"
        if path := self.files.get(split):
            return read_jsonl(path)
        if any(self.files.values()):
            # Rows from elsewhere beside the user's own files could hold the same questions.
            raise UserError(
                f"{self.name}: files are given, but none for the split {split!r}: set {field}"
            )
        if not self.downloads:
            raise UserError(
                f"{self.name} is not downloaded: set {field} to a JSONL file with "
                f"{' and '.join(self.needed)} in each row{f', {self.advice}' * bool(self.advice)}"
            )
        from ttc_jax.tasks.tfds import read_split

        return read_split(type(self), split)


def _is_near(question: Question, answer: str | None) -> bool:
    if not question.tolerance or answer is None or len(answer) > MAX_ANSWER:
        return False
    return within(question.answer, answer, question.tolerance)
