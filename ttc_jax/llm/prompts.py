"""Prompts as callers write them: texts, token ids and conversations, one or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ttc_jax.errors import UserError
from ttc_jax.models.tokenizers import Tokenizer

Message = Mapping[str, str]  # {"role", "content"}
Prompt = str | Sequence[int] | Sequence[Message]  # text, token ids, or a conversation


def several(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """The prompts as a list, whether there is one or several."""
    if isinstance(prompts, str):
        return [prompts]
    given: list[Any] = list(prompts)
    if not given:
        raise UserError("prompts is empty: give at least one prompt")
    kinds = {_kind(x) for x in given}
    if kinds <= {"token"} or kinds <= {"message"}:
        return [given]
    if kinds - {"text", "several"}:
        raise UserError(
            "prompts must be a text, token ids or a conversation, or a list of such; a list holds "
            + " and ".join(sorted({type(x).__name__ for x in given}))
        )
    return given


def _kind(x: object) -> str:
    match x:
        case str():
            return "text"
        case bool():
            return "other"
        case int():
            return "token"
        case Mapping():
            return "message"
        case Sequence():
            return "several"
        case _:
            return "other"


def message_of(x: object) -> dict[str, str]:
    """A message of a conversation, checked."""
    if not isinstance(x, Mapping) or not {"role", "content"} <= x.keys():
        raise UserError(f"prompts: {x!r:.80} is no message; it needs 'role' and 'content'")
    for name in ("role", "content"):
        if not isinstance(x[name], str):
            raise UserError(f"prompts: a message's {name} is {x[name]!r:.80}; it must be text")
    return {"role": x["role"], "content": x["content"]}


def question_of(prompt: Prompt, tokenizer: Tokenizer) -> str:
    """What a PRM with a format of its own is shown as the question: the last turn of a user."""
    if isinstance(prompt, str):
        return prompt
    if _kind(prompt[0]) == "token":
        return tokenizer.decode([int(x) for x in prompt if isinstance(x, int)])
    messages = [message_of(x) for x in prompt]
    users = [message["content"] for message in messages if message["role"] == "user"]
    return users[-1] if users else messages[-1]["content"]
