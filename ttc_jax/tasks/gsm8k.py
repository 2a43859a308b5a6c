"""GSM8K: grade-school word problems with whole answers (Cobbe et al., 2021)."""

import re
from collections.abc import Sequence
from os import PathLike

from ttc_jax.errors import UserError
from ttc_jax.tasks.answers import after_hashes, boxed, last_number, strip
from ttc_jax.tasks.grading import Grader
from ttc_jax.tasks.jsonl import Row, load_questions, text_field
from ttc_jax.tasks.task import Question, Verdict

_CALCULATION = re.compile(r"<<[^<>]*>>")


class GSM8K:
    r"""The 7473 training and 1319 test problems, or rows of the same form in files at hand.

    A row has `question` and `answer`, a worked solution that ends with `#### n`. The gold answer
    is n without commas; the calculator's annotations (`<<2*3=6>>`) are left out of the solution.
    A solution's final answer is its last `\boxed{}`, or what follows its `####`, or else its last
    number: models that were not taught a format rarely keep to one.

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
            solution = text_field(row, "answer", where)
            _, mark, answer = solution.rpartition("####")
            answer = strip(answer.replace(",", ""))
            if not mark or not answer:
                raise UserError(f"{where}: field 'answer' must end with '#### n', the final answer")
            return Question(
                id=f"gsm8k/{split}/{i}",
                text=text_field(row, "question", where),
                answer=answer,
                solution=_CALCULATION.sub("", solution),
            )

        return load_questions("gsm8k", split, self.files, to_question)

    def judge(self, question: Question, solutions: Sequence[str]) -> list[Verdict]:
        """See `ttc_jax.tasks.task.Task.judge`."""
        answers = [boxed(s) or after_hashes(s) or last_number(s) for s in solutions]
        return self.grader.judge(question.answer, answers)
