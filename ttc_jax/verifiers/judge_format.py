"""Formats of language models as judges, as data: what they are asked, and how a verdict is read.

The known ones are in judges.json; one of your own is a JSON file like one of these (see
docs/language-judges.md).
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from pydantic import ConfigDict as Rules
from pydantic import Field, FiniteFloat, NonNegativeInt

from ttc_jax.errors import UserError
from ttc_jax.models import hub
from ttc_jax.typed_json import parse_json

GENERATOR: Final = ("", "generator")  # paths that stand for the generator itself
_SLOT = re.compile(r"\{(question|solution|answers|number)\}")
_PRM_FIELDS = ("mark", "head")  # of a `PRMFormat`, which has a JSON file like these


@dataclasses.dataclass(frozen=True)
class JudgeFormat:
    r"""How a language model is asked to judge; all of it is text.

        prompt   thought   verdict   what is read

    A prompt with `{solution}` shows one solution: the score is the probability of `good` against
    `bad` behind `verdict`, the mean over `samples` thoughts (Zhang et al., 2024, generative
    verifiers). One with `{answers}` shows several: the judge writes the number of one of them, or
    an answer of its own (Chen et al., 2023, universal self-consistency).

    Attributes:
      prompt: text with `{question}`, and `{solution}` or `{answers}`.
      chat: whether that is a user's turn in the judge's chat template.
      system: system turn of the chat; "" for none.
      thought: tokens of the thought at most; 0: there is none.
      stop: text that ends a thought, such as "</think>", beside the model's end tokens.
      verdict: text behind the thought, such as "\n</think>\n\n" of a model that thinks.
      temperature: of thoughts, and of what is written.
      samples: thoughts, or orders in which answers are shown.
      good, bad: one token each.
      answer: how one of `{answers}` is written, with `{number}` and `{solution}`.
      shown: answers that are shown at most.
      tokens: written at most, as a number or as the judge's own answer.
      merges: whether it writes an answer of its own; else the first whole number that it writes
        says which one it picks.

    Raises:
      UserError: a text without its slots, or values that cannot go together.
    """

    __pydantic_config__: ClassVar[Rules] = Rules(extra="forbid", strict=True)

    prompt: str
    chat: bool = True
    system: str = ""
    thought: Annotated[NonNegativeInt, Field(le=1 << 20)] = 0
    stop: str = ""
    verdict: str = ""
    temperature: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    samples: Annotated[int, Field(ge=1, le=256)] = 1
    good: str = "Yes"
    bad: str = "No"
    answer: str = "Answer {number}:\n{solution}\n\n"
    shown: Annotated[int, Field(ge=2, le=256)] = 16
    tokens: Annotated[int, Field(ge=1, le=1 << 20)] = 8
    merges: bool = False

    def __post_init__(self) -> None:
        self._check_slots("prompt", self.prompt, "question")
        if ("{solution}" in self.prompt) == ("{answers}" in self.prompt):
            raise UserError(
                "prompt must hold either {solution}, of one answer that is scored, or {answers}, "
                "of several that are chosen from"
            )
        self._check_slots("answer", self.answer, "solution")
        if self.system and not self.chat:
            raise UserError("system is a turn of a chat: set chat to true, or leave it out")
        if self.stop and not self.thought:
            raise UserError("stop ends a thought, and there is none: set thought to its tokens")
        if self.selects:
            if not self.merges:
                self._check_slots("answer", self.answer, "number")
        elif self.merges:
            raise UserError("merges: the prompt must hold {answers}")
        elif self.samples > 1 and not (self.thought and self.temperature):
            raise UserError(
                f"samples is {self.samples}: they would all be alike; set thought, the tokens of "
                "each, and a temperature above 0"
            )
        elif self.good == self.bad:
            raise UserError(f"good and bad are both {self.good!r}; they must differ")

    @property
    def selects(self) -> bool:
        """Whether it reads several answers, and chooses; else it scores one."""
        return "{answers}" in self.prompt

    def asked(self, question: str, solution: str = "", answers: str = "") -> str:
        """Returns the prompt's text. What stands in a slot is never searched for other slots."""
        return _fill(self.prompt, {"question": question, "solution": solution, "answers": answers})

    def listed(self, number: int, solution: str) -> str:
        """Returns one of several answers as it is shown."""
        return _fill(self.answer, {"number": str(number), "solution": solution})

    def _check_slots(self, name: str, text: str, slot: str) -> None:
        if f"{{{slot}}}" not in text:
            raise UserError(f"{name} is {text!r:.60}; it must hold {{{slot}}}")


def _fill(template: str, values: Mapping[str, str]) -> str:
    return _SLOT.sub(lambda match: values.get(match[1], match[0]), template)


def _parsed(data: Any, where: str) -> JudgeFormat:
    try:
        return parse_json(json.dumps(data), JudgeFormat, where)
    except UserError as error:
        start = f"{where}: "
        raise UserError(start + str(error).removeprefix(start)) from error


@functools.cache
def known() -> Mapping[str, JudgeFormat]:
    """Returns the formats that ship, by name."""
    text = Path(__file__).with_name("judges.json").read_text(encoding="utf-8")
    return {name: _parsed(fields, name) for name, fields in json.loads(text).items()}


def find_judge(path: str) -> tuple[JudgeFormat | None, str]:
    """Returns the format of a judge and the path of its model; None: `path` names no judge.

    Args:
      path: "FORMAT:PATH" with a name of `known` or a JSON file, and a generator's path; "" or
        "generator" is the generator that wrote what is judged: "judge:generator".

    Raises:
      UserError: the JSON file is missing, or describes no judge.
    """
    name, colon, rest = path.partition(":")
    if colon and name in known():
        return known()[name], rest
    if colon and name.endswith(".json"):
        data = hub.read_json(Path(name))
        if not any(field in data for field in _PRM_FIELDS):
            return _parsed(data, name), rest
    return None, path


def check_judge(path: str, field: str, *, selects: bool) -> JudgeFormat | None:
    """Returns the format of the judge that a field names, before its model is read.

    Args:
      selects: whether it is to choose from several answers; else it is a verifier.

    Raises:
      UserError: as `find_judge`; a judge of the other kind; where one is to choose, no judge.
    """
    form, _ = find_judge(path)
    if form is None and selects and path:
        raise UserError(
            f"{field}={path}: is no judge; name its format and its model, as in pick:generator "
            f"({', '.join(name for name, x in known().items() if x.selects)}, or a JSON file)"
        )
    if form is not None and form.selects != selects:
        way = "scores one solution: it is a verifier" if selects else "chooses from several answers"
        other = "verifier.path" if selects else "search.judge"
        raise UserError(f"{field}={path}: {way}; name it by {other}")
    return form
