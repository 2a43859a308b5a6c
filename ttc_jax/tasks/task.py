"""What a task is: questions, and a verdict on every solution."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ttc_jax.errors import UserError
from ttc_jax.text import check_name, check_text


@dataclass(frozen=True)
class Question:
    """One question of a task.

    Attributes:
        id: Unique within the task and split, and the same in every run, whatever other questions
            there are, e.g. "gsm8k/test/1b2f0a9c44d1".
        text: The problem as it is put to the model.
        answer: The gold final answer.
        level: The data set's own difficulty label; "" when it has none.
        solution: A worked solution, steps and final answer, for training; "" when it has none.
        turns: (role, content) of each message of a conversation that the question ends; () when it
            stands alone.
        tolerance: By how much numerals may differ from those of the answer, of each or one for all;
            () where they must be equal.

    Raises:
        UserError: A field that is no text or no Unicode, or an id that is not printable.
    """

    id: str
    text: str
    answer: str
    level: str = ""
    solution: str = ""
    turns: tuple[tuple[str, str], ...] = ()
    tolerance: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name in ("turns", "tolerance"):  # turns are checked where a template takes them
                continue
            what = f"question {self.id!r}: its {name}"
            if not isinstance(value, str):
                raise UserError(f"{what} is {type(value).__name__}; it must be text")
            check = check_name if name in ("id", "level") else check_text
            check(value, what)


@dataclass(frozen=True)
class Verdict:
    """What a task says of one solution.

    Attributes:
        answer: The canonical final answer, a function of the solution alone (never of the gold
            answer): candidates with equal `answer` vote together. None when the solution holds no
            final answer.
        correct: Whether the final answer is the gold one.
        unboxed: Whether the solution has no box, so that its answer was read from elsewhere in it;
            tasks that do not tell leave it out. No part of equality.
    """

    answer: str | None
    correct: bool
    unboxed: bool = field(default=False, compare=False)


class Task(Protocol):
    """Questions with a judge."""

    def questions(self, split: str) -> list[Question]:
        """The questions of a split, in the data set's order.

        Raises:
            UserError: The split is unknown, a file is missing or malformed (named with its line),
                or there are no questions.
        """
        ...

    def judge(self, question: Question, solutions: Sequence[str]) -> list[Verdict]:
        """One verdict a solution, in their order.

        Solutions are untrusted text. Where the prompt ends with a mark that opens a thought
        (`<think>`), each solution begins with it.
        """
        ...
