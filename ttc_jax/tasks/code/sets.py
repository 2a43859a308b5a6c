"""HumanEval and MBPP: functions to write in Python, judged by running them.

Their rows come from a file of the user's, as their authors publish them, or with the further tests
of EvalPlus (Liu et al., 2023) as their data sets on the Hugging Face hub have them.
"""

import re
from collections.abc import Iterator, Sequence
from os import PathLike
from typing import ClassVar

from ttc_jax.errors import UserError
from ttc_jax.tasks.code.executor import Executor
from ttc_jax.tasks.code.inputs import arguments, examples
from ttc_jax.tasks.code.programs import asked, program
from ttc_jax.tasks.code.sandbox import OFF
from ttc_jax.tasks.data_set import DataSet
from ttc_jax.tasks.jsonl import Row, name_field, optional_field, text_field
from ttc_jax.tasks.task import Question, Verdict
from ttc_jax.text import check_text

_NONE = Verdict(None, False)
_NAME = re.compile(r"[A-Za-z_]\w*")
_ON_THE_HUB = "such as the Hugging Face data set {} saved as JSON lines"


class Programs(DataSet):
    """Questions whose answer is a program.

    A question's text begins the function that is asked for, or has asserts that call it; its answer
    is the tests, Python that raises an exception where the function is wrong. Answers vote
    together when their programs do the same on the arguments of the text's examples and on
    variations of them; one that fails on all of these does not vote.

    Args:
        path: The file of rows.
        execute: "isolated" or "limits": how programs are run; "" runs none, and judges nothing.
        seconds: Of the processor's time, for the tests and for the behaviour of a program each.
        megabytes: Of a program's address space.
        executor: Runs the programs; by default one of the task's own.

    Raises:
        UserError: As `Executor`.
    """

    splits: ClassVar[tuple[str, ...]] = ("test",)

    def __init__(
        self,
        path: str | PathLike[str] = "",
        execute: str = OFF,
        seconds: float = 5.0,
        megabytes: int = 1024,
        executor: Executor | None = None,
    ) -> None:
        self.files = dict.fromkeys(self.splits, path)
        self.executor = executor or Executor(execute, seconds, megabytes)

    def ready(self) -> None:
        """Makes sure that programs can be run.

        Raises:
            UserError: They cannot, or may not.
        """
        self.executor.ready()

    def judge(self, question: Question, solutions: Sequence[str]) -> list[Verdict]:
        """See `ttc_jax.tasks.task.Task.judge`."""
        found = [program(question.text, solution) for solution in solutions]
        name = asked(question.text)
        inputs = arguments(question.text, name)
        shown = bool(examples(question.text, name))
        given = list(dict.fromkeys(each for each in found if each is not None))
        outcomes = self.executor.judge(name, question.answer, inputs, given)
        verdicts = {
            # On arguments that were guessed a right program may fail.
            each: Verdict(None if x.fails and shown else x.behaviour, x.passed)
            for each, x in zip(given, outcomes, strict=True)
        }
        return [_NONE if each is None else verdicts[each] for each in found]


class HumanEval(Programs):
    """The 164 functions of Chen et al. (2021): a header with a description to go on with."""

    name = "humaneval"
    advice = "such as HumanEval.jsonl of https://github.com/openai/human-eval"
    homepage = "https://github.com/openai/human-eval"
    license = "MIT"
    needed, optional = ("task_id", "prompt", "entry_point", "test"), ("canonical_solution",)

    def read(self, row: Row, where: str) -> Question:
        """See `DataSet.read`."""
        prompt, entry = text_field(row, "prompt", where), text_field(row, "entry_point", where)
        if not _NAME.fullmatch(entry) or asked(prompt) != entry:
            raise UserError(
                f"{where}: field 'entry_point' is {entry!r:.60}, and the last function that "
                f"'prompt' begins is {asked(prompt)!r:.60}"
            )
        return Question(
            id=name_field(row, "task_id", where),
            text=prompt,
            answer=f"{text_field(row, 'test', where)}\n\ncheck({entry})\n",
            solution=optional_field(row, "canonical_solution", where),
        )


class HumanEvalPlus(HumanEval):
    """HumanEval with 80 times as many tests."""

    name = "humanevalplus"
    advice = _ON_THE_HUB.format("evalplus/humanevalplus")
    homepage, license = "https://github.com/evalplus/evalplus", "Apache-2.0"


class MBPP(Programs):
    """Functions that a sentence and three asserts describe (Austin et al., 2021).

    The file is sanitized-mbpp.json, with 427 of them, or mbpp.jsonl, with 974. The number of a
    question says which split it is of.
    """

    name = "mbpp"
    splits = ("train", "validation", "test", "prompt")
    advice = (
        "such as mbpp/sanitized-mbpp.json of https://github.com/google-research/google-research"
    )
    homepage = "https://github.com/google-research/google-research/tree/master/mbpp"
    license = "CC BY 4.0"
    needed, optional = ("task_id", "prompt", "test_list"), ("code", "test_imports", "test")
    _ends: ClassVar[dict[str, tuple[int, int]]] = {
        "prompt": (1, 10),
        "test": (11, 510),
        "validation": (511, 600),
        "train": (601, 974),
    }

    def read(self, row: Row, where: str) -> Question:
        """See `DataSet.read`."""
        asked_for = text_field(row, "text" if "text" in row else "prompt", where)
        tests = _several(row, "test_list", where)
        first = _several(row, "test_imports", where) if "test_imports" in row else []
        first.append(optional_field(row, "test_setup_code", where))
        text = f"{asked_for}\nYour code should pass these tests:\n\n" + "\n".join(tests)
        if not asked(text):
            raise UserError(f"{where}: field 'test_list' has no assert that calls a function")
        return Question(
            id=name_field(row, "task_id", where),
            text=text,
            answer=optional_field(row, "test", where) or "\n".join([*first, *tests, ""]),
            solution=optional_field(row, "code", where),
        )

    def _rows(self, split: str) -> Iterator[tuple[str, Row]]:
        """The rows whose numbers are of the split."""
        low, high = self._ends[split]
        for where, row in super()._rows(split):
            number = text_field(row, "task_id", where)
            if not number.isdecimal():
                raise UserError(f"{where}: field 'task_id' is {number!r:.60}; it must be a number")
            if low <= int(number) <= high:
                yield where, row


class MBPPPlus(MBPP):
    """The 378 functions of MBPP that EvalPlus kept, with 35 times as many tests."""

    name = "mbppplus"
    splits = ("test",)
    advice = _ON_THE_HUB.format("evalplus/mbppplus")
    homepage, license = "https://github.com/evalplus/evalplus", "Apache-2.0"
    _ends: ClassVar[dict[str, tuple[int, int]]] = {"test": (1, 974)}


def _several(row: Row, name: str, where: str) -> list[str]:
    """A field that must hold a list of texts."""
    found = row.get(name)
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise UserError(f"{where}: field {name!r} must be a list of texts")
    for each in found:
        check_text(each, f"{where}: field {name!r}")
    return list(found)
