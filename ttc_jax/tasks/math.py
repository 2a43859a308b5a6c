"""MATH: competition problems in five levels, split 12,000/500 as in Snell et al. (2024).

The problems are those of Hendrycks et al. (2021); the split is that of Lightman et al. (2023),
whose test part is known as MATH-500.
"""

from collections.abc import Sequence
from os import PathLike

from ttc_jax.tasks.answers import boxed
from ttc_jax.tasks.grading import Grader
from ttc_jax.tasks.jsonl import Row, load_questions, text_field
from ttc_jax.tasks.task import Question, Verdict


class Math:
    r"""The 12,000 training and 500 test problems, or rows of the same form in files at hand.

    A row has `problem` and `answer`, and may have `solution`, `level` and `unique_id`. A
    solution's final answer is its last `\boxed{}`.

    Args:
        path: A JSONL file for the split "test".
        train_path: A JSONL file for the split "train". Without any file the rows come from TFDS,
            downloaded when first needed.
        grader: Judges the answers; by default one of the task's own, with five seconds and 1 GB
            an answer.
    """

    def __init__(
        self,
        path: str | PathLike[str] = "",
        train_path: str | PathLike[str] = "",
        grader: Grader | None = None,
    ) -> None:
        self.files = {"train": train_path, "test": path}
        self.grader = grader or Grader()

    def questions(self, split: str) -> list[Question]:
        """See `ttc_jax.tasks.task.Task.questions`."""

        def to_question(i: int, row: Row, where: str) -> Question:
            # unique_id is the problem's place in the original data set, whatever the split.
            return Question(
                id=f"math/{_optional(row, 'unique_id', where) or f'{split}/{i}'}",
                text=text_field(row, "problem", where),
                answer=text_field(row, "answer", where),
                level=_optional(row, "level", where),
                solution=_optional(row, "solution", where),
            )

        return load_questions("math", split, self.files, to_question)

    def judge(self, question: Question, solutions: Sequence[str]) -> list[Verdict]:
        """See `ttc_jax.tasks.task.Task.judge`."""
        return self.grader.judge(question.answer, [boxed(solution) for solution in solutions])


def _optional(row: Row, name: str, where: str) -> str:
    return "" if row.get(name) in (None, "") else text_field(row, name, where)
