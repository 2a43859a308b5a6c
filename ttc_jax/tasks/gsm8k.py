"""GSM8K: grade-school word problems with whole answers (Cobbe et al., 2021)."""

import re

from ttc_jax.errors import UserError
from ttc_jax.tasks.answers import strip
from ttc_jax.tasks.data_set import DataSet, Download
from ttc_jax.tasks.extraction import boxed
from ttc_jax.tasks.jsonl import Row, text_field
from ttc_jax.tasks.numerals import without_unit
from ttc_jax.tasks.prose import after_hashes, last_number, stated_number
from ttc_jax.tasks.task import Question

_FOLDER = (
    "https://raw.githubusercontent.com/openai/grade-school-math/"
    "3101c7d5072418e28b9008a6636bde82a006892c/grade_school_math/data"
)
_CALCULATION = re.compile(r"<<[^<>]*>>")


class GSM8K(DataSet):
    """The 7473 training and 1319 test problems, with worked solutions.

    A row has `question` and `answer`, a worked solution that ends with `#### n`. The gold answer
    is n without commas; the calculator's annotations (`<<2*3=6>>`) are left out of the solution.
    """

    name = "gsm8k"
    downloads = (
        Download(
            "train",
            f"{_FOLDER}/train.jsonl",
            4_166_206,
            "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465",
        ),
        Download(
            "test",
            f"{_FOLDER}/test.jsonl",
            749_738,
            "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",
        ),
    )
    homepage = "https://github.com/openai/grade-school-math"
    license = "MIT"
    needed, optional = ("question", "answer"), ()

    def read(self, row: Row, where: str) -> Question:
        """See `DataSet.read`."""
        solution = text_field(row, "answer", where)
        _, mark, answer = solution.rpartition("####")
        answer = strip(answer.replace(",", ""))
        if not mark or not answer:
            raise UserError(f"{where}: field 'answer' must end with '#### n', the final answer")
        return Question(
            id="",
            text=text_field(row, "question", where),
            answer=answer,
            solution=_CALCULATION.sub("", solution),
        )

    def final_answer(self, solution: str) -> str | None:
        r"""The last box without its unit, the number behind `####`, or what prose gives.

        That is the number near "the answer is", or else the last one: models that were not taught a
        format rarely keep to one. With `unboxed=False` there is no answer in prose.
        """
        if answer := boxed(solution):
            return without_unit(answer)
        if not self.unboxed:
            return after_hashes(solution)
        return stated_number(solution) or last_number(solution)
