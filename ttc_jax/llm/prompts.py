"""Prompts and questions as callers write them: texts, token ids, conversations, one or several."""

from __future__ import annotations

import json
import numbers
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ttc_jax import hashing
from ttc_jax.errors import UserError
from ttc_jax.models.limits import printable
from ttc_jax.models.tokenizers import Tokenizer
from ttc_jax.tasks.task import Question

Message = Mapping[str, str]  # {"role", "content"}
Prompt = str | Sequence[int] | Sequence[Message]  # text, token ids, or a conversation
Asked = str | Question | Sequence[Message]  # what a budget can be spent on

_CONVERSATION = "a conversation, [{'role': 'user', 'content': …}]"


def prompts_of(given: Any) -> list[Prompt]:
    """Returns prompts as a list, whether there is one or several.

    Raises:
      UserError: there is none, or what is no prompt.
    """
    one = "a text, token ids or " + _CONVERSATION
    return [_prompt(x) for x in _several(given, "prompts", one, ("text",), ("token", "message"))]


def questions_of(given: Any) -> list[str | Question]:
    """Returns questions as a list, whether there is one or several.

    A conversation becomes a question with the text of its user's last turn.

    Raises:
      UserError: there is none, or what is no question.
    """
    one = "a text, a Question or " + _CONVERSATION
    asked = _several(given, "questions", one, ("text", "question"), ("message",))
    return [_question(x) if _kind(x) == "several" else x for x in asked]


def _several(
    given: Any, name: str, one: str, single: tuple[str, ...], parts: tuple[str, ...]
) -> list[Any]:
    """Returns what was given as a list of prompts.

    Args:
      one: says what a prompt is.
      single, parts: kinds that are a prompt, and kinds of which a list is one.
    """
    if _kind(given) in single:
        return [given]
    wanted = f"{name} must be {one}, or a list of such"
    if _kind(given) != "several" and not isinstance(given, Iterator):
        raise UserError(f"{wanted}; it is {printable(repr(given), 60)}")
    items = given.tolist() if isinstance(given, np.ndarray) else list(given)
    if not items:
        raise UserError(f"{name} is empty: give at least one")
    kinds = {_kind(x) for x in items}
    if kinds <= {*single, "several"}:
        return items
    if len(kinds) == 1 and kinds <= {*parts}:
        return [items]
    raise UserError(
        f"{wanted}; a list holds " + " and ".join(sorted({type(x).__name__ for x in items}))
    )


def _kind(x: object) -> str:
    match x:
        case str():
            return "text"
        case Question():
            return "question"
        case bool() | bytes() | bytearray():
            return "other"
        case numbers.Integral():
            return "token"
        case Mapping():
            return "message"
        case Sequence() | np.ndarray():
            return "several"
        case _:
            return "other"


def _prompt(x: Any) -> Prompt:
    """Returns a prompt of Python's own types, checked."""
    if isinstance(x, str):
        return str(x)
    items = list(x)
    if not items:
        raise UserError("prompts: a prompt is empty: give a text, token ids or messages")
    if {_kind(item) for item in items} == {"token"}:
        return [int(token) for token in items]
    return [_message(item, "prompts") for item in items]


def _question(messages: Any) -> Question:
    """Returns the question that a conversation ends with."""
    turns = [_message(x, "questions") for x in messages]
    if not turns:
        raise UserError("questions: a conversation is empty: give at least one message")
    return Question(
        id=hashing.name_of(json.dumps(turns)),
        text=_last_asked(turns),
        answer="",
        turns=tuple((turn["role"], turn["content"]) for turn in turns),
    )


def _message(x: object, name: str) -> dict[str, str]:
    """Returns a message of a conversation, checked."""
    if not isinstance(x, Mapping) or not {"role", "content"} <= x.keys():
        shown = printable(repr(x), 80)
        raise UserError(f"{name}: {shown} is no message; it needs 'role' and 'content'")
    for key in ("role", "content"):
        if not isinstance(x[key], str):
            shown = printable(repr(x[key]), 80)
            raise UserError(f"{name}: a message's {key} is {shown}; it must be text")
    return {"role": x["role"], "content": x["content"]}


def _last_asked(messages: Sequence[Message]) -> str:
    """Returns the last turn of a user, or of whoever speaks last."""
    users = [message["content"] for message in messages if message["role"] == "user"]
    return users[-1] if users else messages[-1]["content"]


def encode(prompt: Prompt, tokenizer: Tokenizer) -> list[int]:
    """Returns the token ids of a prompt."""
    if isinstance(prompt, str):
        return tokenizer.encode(prompt, add_bos=True)
    tokens, messages = _parts(prompt)
    return tokenizer.chat(messages) if messages else tokens


def question_text(prompt: Prompt, tokenizer: Tokenizer) -> str:
    """Returns what a PRM with a format of its own is shown as the question."""
    if isinstance(prompt, str):
        return prompt
    tokens, messages = _parts(prompt)
    return _last_asked(messages) if messages else tokenizer.decode(tokens)


def _parts(prompt: Sequence[Any]) -> tuple[list[int], list[dict[str, str]]]:
    """Returns the token ids or the messages of a prompt, and nothing for the others."""
    if isinstance(prompt[0], int):
        return list(prompt), []
    return [], list(prompt)
