"""A task of a user's own, whose mistakes are one line with its name."""

from collections.abc import Sequence
from typing import Any

from ttc_jax.errors import UserError
from ttc_jax.plugins import calling
from ttc_jax.tasks.task import Question, Task, Verdict


class OwnTask:
    """Checks what a task of one's own returns; all else of it is as it was.

    Args:
        task: An instance of the user's class.
        name: What the config calls it, which errors name.

    Raises:
        UserError: It lacks a method of `ttc_jax.tasks.task.Task`.
    """

    def __init__(self, task: Task, name: str) -> None:
        self._task, self._name = task, name
        for method in ("questions", "judge"):
            if not callable(getattr(task, method, None)):
                raise UserError(
                    f"task.name: {name} has no method {method!r}; a task has questions(split) and "
                    "judge(question, solutions)"
                )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # of a copy, before it has any
            raise AttributeError(name)
        return getattr(self._task, name)

    def questions(self, split: str) -> list[Question]:
        """See `Task.questions`.

        Raises:
            UserError: What the task raises, or no list of questions with ids of their own.
        """
        what = f"{self._name}.questions"
        with calling(what):
            found: Any = self._task.questions(split)
        if not isinstance(found, list | tuple):
            raise UserError(f"{what} must return a list of Question, not {_kind(found)}")
        if not found:
            raise UserError(f"{what} returned no questions for split={split!r}")
        seen = set[str]()
        for place, question in enumerate(found):
            if not isinstance(question, Question):
                raise UserError(
                    f"{what} must return a list of Question; element {place} is {_kind(question)}"
                )
            if question.id in seen:
                raise UserError(f"{what} returned the id {question.id!r} twice; each needs its own")
            seen.add(question.id)
        return list(found)

    def judge(self, question: Question, solutions: Sequence[str]) -> list[Verdict]:
        """See `Task.judge`.

        Raises:
            UserError: What the task raises, or anything but a verdict for each solution.
        """
        what = f"{self._name}.judge, of question {question.id!r},"
        with calling(what):
            found: Any = self._task.judge(question, solutions)
        if not isinstance(found, list | tuple):
            raise UserError(f"{what} must return a list of Verdict, not {_kind(found)}")
        if len(found) != len(solutions):
            raise UserError(
                f"{what} returned {len(found)} verdicts for {len(solutions)} solutions; it must "
                "return one for each"
            )
        for place, verdict in enumerate(found):
            if not isinstance(verdict, Verdict):
                raise UserError(
                    f"{what} must return a list of Verdict; element {place} is {_kind(verdict)}"
                )
            if not isinstance(verdict.answer, str | None):
                raise UserError(
                    f"{what} gave the answer {verdict.answer!r:.60}; it must be text or None"
                )
            if not isinstance(verdict.correct, bool):
                raise UserError(
                    f"{what} gave correct={verdict.correct!r:.60}; it must be True or False"
                )
        return list(found)


def _kind(value: object) -> str:
    """The type of a value, in words."""
    return "None" if value is None else f"a value of type {type(value).__name__}"
