"""Answers of samples that come without: read from their texts, and graded."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Final

from ttc_jax.results.store import Candidate
from ttc_jax.tasks.data_set import DataSet
from ttc_jax.tasks.extraction import answer_part, boxed
from ttc_jax.tasks.grading import Grader
from ttc_jax.tasks.gsm8k import GSM8K
from ttc_jax.tasks.math import Math

_HASHES: Final = "####"  # behind which GSM8K gives its answers


class Reading:
    """Reads and grades as the tasks GSM8K and MATH do; its workers end with the `with` block."""

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, *_: object) -> None:
        if "_grader" in vars(self):  # there were answers to grade
            self._grader.close()

    def answer(self, text: str, gold: str) -> tuple[str | None, bool]:
        """The final answer of a text, and whether it is in no box.

        Args:
          gold: where the right answer stands, which says whose way to give answers it is.
        """
        part = answer_part(text)
        task: DataSet = self._gsm8k if _HASHES in gold else self._math
        return task.final_answer(part), not boxed(part)

    def graded(self, gold: str, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Candidates of one question with canonical answers, and whether they are right."""
        right = gold.rpartition(_HASHES)[2].replace(",", "") if _HASHES in gold else boxed(gold)
        verdicts = self._grader.judge(right or gold, [x.answer for x in candidates])
        return [
            dataclasses.replace(
                candidate,
                answer=verdict.answer,
                correct=verdict.correct,
                unboxed=candidate.unboxed and verdict.answer is not None,
            )
            for candidate, verdict in zip(candidates, verdicts, strict=True)
        ]

    @functools.cached_property
    def _grader(self) -> Grader:
        return Grader()

    @functools.cached_property
    def _math(self) -> Math:
        return Math(grader=self._grader)

    @functools.cached_property
    def _gsm8k(self) -> GSM8K:
        return GSM8K(grader=self._grader)
