"""How calls of a language model are made: checked, one at a time, until nobody waits for them."""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ttc_jax.errors import UserError
from ttc_jax.experiments.setup import Models
from ttc_jax.experiments.solver import Solution, Solver
from ttc_jax.llm.answers import Solvers, Spending, rule_of
from ttc_jax.llm.arguments import checked, naming_arguments
from ttc_jax.llm.completer import Completer, Drawing
from ttc_jax.llm.output import Output, Piece
from ttc_jax.llm.prompts import Prompt, prompts_of, questions_of
from ttc_jax.llm.turns import Turns, deadline_in, in_turns
from ttc_jax.search.deadline import Deadline
from ttc_jax.tasks.prompts import PromptFormat
from ttc_jax.tasks.task import Question


class Calls:
    """Makes the calls of an `LLM`, each of which is given all arguments by name.

    `left` is an event that is set once nobody waits for what a call gives.

    Args:
      paths: of generator and verifier.
      options: of `Completer` and `Solvers`.
      storage: of `Solvers`.
    """

    def __init__(
        self,
        models: Models,
        paths: tuple[str, str],
        options: Mapping[str, Any],
        storage: Mapping[str, Any],
    ):
        self._turns, self._options, self._storage = Turns(), options, storage
        self._ask(models, paths)

    def _ask(self, models: Models, paths: tuple[str, str]) -> None:
        self._models, self._paths = models, paths
        self._completer = Completer(models, **self._options)
        self._solvers = Solvers(models, paths, storage=self._storage, **self._options)

    def _generate(self, given: dict[str, Any], left: threading.Event | None = None) -> list[Output]:
        """Does as `generate`, until nobody waits for it."""
        own = self._own
        asked, until, drawing = own._drawing(given, left)
        with self._turns.take():
            return own._completer.complete(asked, drawing, until)

    def _stream(
        self, given: dict[str, Any], left: threading.Event | None = None
    ) -> Iterator[Piece]:
        """Does as `stream`, until nobody waits for it."""
        own = self._own
        asked, until, drawing = own._drawing(given, left)
        if len(asked) > 1:
            raise UserError(f"prompt holds {len(asked)} prompts; stream one at a time")
        return in_turns(own._completer.stream(asked[0], drawing, until), self._turns)

    def _solve(self, given: dict[str, Any], left: threading.Event | None = None) -> list[Solution]:
        """Does as `solve`, until nobody waits for it."""
        asked, until, solver = self._own._call(given, left)
        with self._turns.take():
            return solver().solve(asked, deadline=until)

    def _solve_stream(
        self, given: dict[str, Any], left: threading.Event | None = None
    ) -> Iterator[Solution]:
        """Does as `solve_stream`, until nobody waits for it."""
        asked, until, solver = self._own._call(given, left)

        def found() -> Iterator[Solution]:
            yield from solver().stream(asked, deadline=until)

        return in_turns(found(), self._turns)

    @property
    def _own(self) -> Calls:
        """This, but without a verifier where a reward asks: what it draws is not scored."""
        asked_by_reward = self._turns.is_within and self._models.verifier is not None
        return self._unscored if asked_by_reward else self

    @functools.cached_property
    def _unscored(self) -> Calls:
        other = copy.copy(self)
        other._ask(self._models._replace(verifier=None), (self._paths[0], ""))
        return other

    def _call(
        self, given: dict[str, Any], left: threading.Event | None
    ) -> tuple[list[str | Question], Deadline, Callable[[], Solver]]:
        """Returns the questions of a call of `solve`, its deadline, and what makes its solver."""
        given, asked = self._checked(given, 512), questions_of(given["questions"])
        scored = self._models.verifier is not None
        others = {"seed": given.pop("seed"), "rule": rule_of(given.pop("rule"), scored=scored)}
        until = deadline_in(given.pop("deadline"), left)
        prompt = given.pop("prompt") or PromptFormat(chat=self._chats)
        del given["questions"]
        with naming_arguments():
            spending = Spending.of(scored=scored, prompt=prompt, **given)
        return asked, until, lambda: self._solvers.of(spending).changed(**others)

    def _drawing(
        self, given: dict[str, Any], left: threading.Event | None
    ) -> tuple[list[Prompt], Deadline, Drawing]:
        """Returns the prompts of a call of `generate`, its deadline, and how it draws."""
        given = self._checked(given, 256)
        asked, until = prompts_of(given.pop("prompts")), deadline_in(given.pop("deadline"), left)
        return asked, until, Drawing.of(**given)

    def _checked(self, given: dict[str, Any], longest: int) -> dict[str, Any]:
        """Returns checked arguments, with the longest completion where none is given."""
        found = checked(given)
        if found["max_tokens"] is None:
            found["max_tokens"] = min(longest, max(1, self._models.generator.config.context // 2))
        return found

    @functools.cached_property
    def _chats(self) -> bool:
        """Whether the tokenizer has a chat template."""
        try:
            self._models.tokenizer.chat([{"role": "user", "content": "a"}])
        except UserError:
            return False
        return True
