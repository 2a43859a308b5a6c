"""A task for answers that a test writes by hand, in the pieces of the embedded tokenizer."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ttc_jax.tasks.task import Question, Verdict


class Boxed:
    """The two digits in the last box are the answer, whatever stands before."""

    def questions(self, split: str) -> list[Question]:
        raise NotImplementedError(split)

    def judge(self, question: Question, solutions: Sequence[str]) -> list[Verdict]:
        boxes = (re.findall(r"\\boxed\{(\d\d)\}", solution) for solution in solutions)
        answers = [found[-1] if found else None for found in boxes]
        return [Verdict(answer, answer == question.answer) for answer in answers]
