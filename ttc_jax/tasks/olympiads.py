"""Harder sets: Omni-MATH, OlympiadBench and GPQA, from files of the user's."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from types import MappingProxyType
from typing import ClassVar

from ttc_jax.errors import UserError
from ttc_jax.tasks.choices import lettered
from ttc_jax.tasks.data_set import DataSet
from ttc_jax.tasks.grading import Grader
from ttc_jax.tasks.jsonl import Row, name_field, optional_field, text_field
from ttc_jax.tasks.task import Question
from ttc_jax.tasks.tolerance import read_tolerances

_ADVICE = "such as the Hugging Face data set {} saved as JSON lines"
_CHOICES = ("Question", "Correct Answer", *(f"Incorrect Answer {i}" for i in (1, 2, 3)))


class OmniMath(DataSet):
    """4,428 olympiad problems (Gao et al., 2024); the level is their `difficulty`, 1 to 10.

    Some answers are proofs or descriptions, which no rule can grade: they are right only as they
    stand. The authors' Omni-MATH-Rule leaves such problems out.
    """

    name = "omni_math"
    splits = ("test",)
    advice = _ADVICE.format("KbsdJames/Omni-MATH")
    columns: ClassVar[Mapping[str, str]] = MappingProxyType({"level": "difficulty"})


class OlympiadBench(DataSet):
    """Open-ended questions of one of OlympiadBench's parts in text (He et al., 2024).

    Several answers are one list, in any order; numerals may differ by the row's `error`. The level
    is the `subfield`.
    """

    name = "olympiad_bench"
    splits = ("test",)
    advice = _ADVICE.format("Hothan/OlympiadBench (OE_TO_maths_en_COMP)")
    needed = ("question", "final_answer")

    def read(self, row: Row, where: str) -> Question:
        """See `DataSet.read`."""
        answers, solutions = row.get("final_answer"), row.get("solution") or []
        if not isinstance(answers, list) or not answers:
            raise UserError(f"{where}: field 'final_answer' must be a list of texts")
        golds = [text_field({"final_answer": x}, "final_answer", where) for x in answers]
        error = optional_field(row, "error", where)
        try:
            tolerance = read_tolerances(error) if error else ()
        except ValueError as fault:
            raise UserError(f"{where}: field 'error' must be a tolerance, found {error}") from fault
        context = optional_field(row, "context", where)
        question = text_field(row, "question", where)
        return Question(
            id=optional_field(row, "id", where, name_field),
            text=f"{context}\n\n{question}" if context else question,
            answer=", ".join(golds).replace("$", ""),
            level=optional_field(row, "subfield", where, name_field),
            solution="\n\n".join(x for x in solutions if isinstance(x, str)),
            tolerance=tolerance,
        )


class GPQA(DataSet):
    """Questions of GPQA with four choices each (Rein et al., 2023), answered by a letter.

    Args:
        path, train_path, grader, unboxed: As those of `DataSet`.
        seed: Of the order of the choices.
    """

    name = "gpqa"
    splits = ("test",)
    advice = _ADVICE.format("Idavidrein/gpqa (gpqa_diamond)")
    needed = _CHOICES

    def __init__(
        self,
        path: str | PathLike[str] = "",
        train_path: str | PathLike[str] = "",
        grader: Grader | None = None,
        unboxed: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(path, train_path, grader, unboxed)
        self.seed = seed

    def read(self, row: Row, where: str) -> Question:
        """See `DataSet.read`."""
        asked, right, *wrong = (text_field(row, name, where).strip() for name in _CHOICES)
        text, letter = lettered(asked, right, wrong, self.seed)
        return Question(
            id=optional_field(row, "Record ID", where, name_field),
            text=text,
            answer=letter,
            level=optional_field(row, "High-level domain", where, name_field),
        )
