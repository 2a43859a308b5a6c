"""Formats of PRMs that were trained elsewhere, as data: what they read, where scores stand.

The known ones are in formats.json; one of your own is a JSON file like one of these (see
docs/bring-your-own-prm.md).
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ttc_jax.config import nearest
from ttc_jax.errors import UserError
from ttc_jax.models import hub

QUESTION = "{question}"
SPECIAL = re.compile(r"<\|[^<>|]+\|>|<extra_\d+>")  # no other text looks like these
_PIECE = re.compile(rf"{SPECIAL.pattern}|\w+|\s+|[^\w\s]")


@dataclasses.dataclass(frozen=True)
class PRMFormat:
    r"""How a PRM is shown a question and the steps of an answer; all of it is text, no token ids.

        prompt   step 1   mark between   step 2   mark between   ...

    A question's step is put there without the delimiter that the generator ended it with. The score
    of a step is read at the last token of the mark behind it, from the hidden state h there:

        sigmoid(w·h + b)                         where the head's last layer has one output
        softmax over two of its outputs, `good`  where `good` and `bad` name them

    Attributes:
      prompt: text with `{question}`. The PRM's first token stands before it, if its tokenizer has
        one. Blanks at its end belong to the first step.
      chat: whether all that is a user's turn in the PRM's own chat template, which then begins it.
      mark: behind every step.
      between: behind a mark; a next step may follow.
      head: linear layers on the last hidden state, as the checkpoint names them, one or two; the
        first of two has a ReLU behind it. "lm_head" is the one over the vocabulary.
      good, bad: outputs of the last layer, each a number, or a token's text; both or neither.
      models: hub names that this format goes with.

    Raises:
      UserError: a prompt without `{question}`, no head or more than two layers, `good` without
        `bad`.
    """

    prompt: str
    mark: str
    head: tuple[str, ...]
    between: str = ""
    chat: bool = False
    good: int | str | None = None
    bad: int | str | None = None
    models: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if QUESTION not in self.prompt:
            raise UserError(f"prompt is {self.prompt!r}; it must hold {QUESTION}")
        if len(self.head) not in (1, 2):
            raise UserError(f"head names {len(self.head)} layers; it must be one or two")
        if (self.good is None) != (self.bad is None):
            raise UserError("good and bad: name both outputs of the head, or none where it has one")

    @property
    def mark_tokens(self) -> int:
        """Tokens behind each step, as well as can be told without a tokenizer.

        Special tokens, words, runs of blanks and other signs are taken for one each.
        """
        return len(_PIECE.findall(self.mark + self.between))

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str) -> PRMFormat:
        """Returns the format that a JSON object describes.

        Raises:
          UserError: a field is unknown, missing, of another type or refused above; the message
            begins with `where`.
        """
        known = {field.name: field for field in dataclasses.fields(cls)}
        for name, value in data.items():
            if name not in known:
                near = nearest(name, known)
                hint = f"did you mean {near}?" if near else f"there are {', '.join(known)}"
                raise UserError(f"{where}: unknown field {name}; {hint}")
            if not _fits(name, value):
                raise UserError(f"{where}: {name} is {value!r}; it must be {_KINDS[name]}")
        for name, field in known.items():
            if field.default is dataclasses.MISSING and name not in data:
                raise UserError(f"{where}: {name} is missing; it must be {_KINDS[name]}")
        lists = {name: tuple(data[name]) for name in ("head", "models") if name in data}
        try:
            return cls(**{**data, **lists})
        except UserError as error:
            raise UserError(f"{where}: {error}") from error


_TEXT, _NAMES, _OUTPUT = "a text", "a list of names", "a number or a token's text"
_SWITCH = "true or false"
_KINDS = {"prompt": _TEXT, "mark": _TEXT, "between": _TEXT, "head": _NAMES, "models": _NAMES}
_KINDS |= {"chat": _SWITCH, "good": _OUTPUT, "bad": _OUTPUT}


def _fits(name: str, value: Any) -> bool:
    if _KINDS[name] == _NAMES:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if _KINDS[name] == _SWITCH:
        return isinstance(value, bool)
    kinds = str if _KINDS[name] == _TEXT else int | str
    return isinstance(value, kinds) and not isinstance(value, bool)


@cache
def known() -> Mapping[str, PRMFormat]:
    """Returns the formats that ship, by name."""
    file = Path(__file__).with_name("formats.json")
    data = json.loads(file.read_text(encoding="utf-8"))
    return {name: PRMFormat.from_json(fields, name) for name, fields in data.items()}


def find_format(path: str) -> tuple[PRMFormat | None, str]:
    """Returns the format of the PRM at `path`, if it is known or named, and its checkpoint's path.

    Args:
      path: a folder or hub name, whose last part tells ("/models/Qwen2.5-Math-PRM-7B"), or
        "FORMAT:PATH" with a name of `known` or the path of a JSON file: "my_prm.json:/models/mine".

    Raises:
      UserError: the JSON file is missing or describes no format.
    """
    name, _, rest = path.partition(":")
    if rest and name in known():
        return known()[name], rest
    if rest and name.endswith(".json"):
        return PRMFormat.from_json(hub.read_json(Path(name)), name), rest
    last = Path(path).name.lower()
    for found in known().values():
        if any(model.lower().endswith(f"/{last}") for model in found.models):
            return found, path
    return None, path
