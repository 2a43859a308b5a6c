"""Chat templates of tokenizers, rendered as transformers does, but bounded and the same every day.

Templates come with checkpoints and are programs. transformers runs them in a sandbox, which keeps
them from files and from Python, but not from loops without end: so they run in a worker process
with bounds on time and memory.
"""

from __future__ import annotations

import atexit
import functools
import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ttc_jax.errors import UserError
from ttc_jax.models import hub
from ttc_jax.text import check_text
from ttc_jax.workers import DIED, Worker

TODAY = "26 Jul 2024"  # for templates that state the date (Llama 3.2): prompts stay the same
# Variables that are not the user's to set, and arguments that transformers would take for itself.
OURS = (
    "messages",
    "conversations",
    "chat_template",
    "add_generation_prompt",
    "continue_final_message",
    "return_assistant_tokens_mask",
)
SECONDS, MEGABYTES = 1.0, 1024  # for one conversation; real ones take milliseconds
_lock = threading.Lock()


def render(
    template: str,
    messages: Sequence[Mapping[str, str]],
    special_tokens: Mapping[str, str],
    arguments: Mapping[str, Any],
) -> str:
    """The text of a conversation, up to where the assistant answers.

    Args:
      template: Jinja source.
      messages: {"role", "content"} each.
      special_tokens: Texts by names such as "bos_token".
      arguments: Further variables of the template, such as {"enable_thinking": False}.

    Raises:
      UserError: the template does not read one of the arguments, does not take the messages, or
        breaks the bounds.
    """
    if arguments:
        _check_arguments(template, arguments)
    variables = {**special_tokens, "date_string": TODAY, **arguments}
    reply = _ask({"template": template, "messages": list(messages), "variables": variables})
    return reply["text"]


def _check_arguments(template: str, arguments: Mapping[str, Any]) -> None:
    """Refuses what Jinja would ignore in silence, and what cannot be sent to it as JSON."""
    try:
        text = json.dumps(dict(arguments), ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        reason = hub.reason(error)
        raise UserError(
            f"prompt.chat_template_kwargs must be what JSON can say: {reason}"
        ) from error
    check_text(text, "prompt.chat_template_kwargs, as JSON,")
    names = [name for name in _names(template) if name not in OURS]
    for name in arguments:
        if name in OURS:
            raise UserError(
                f"prompt.chat_template_kwargs: {name!r} is set by ttc_jax; leave it out"
            )
        if name not in names:
            raise UserError(
                f"prompt.chat_template_kwargs: the tokenizer's chat template does not read "
                f"{name!r}; it reads {', '.join(names) or 'no arguments'}"
            )


@functools.cache
def _names(template: str) -> tuple[str, ...]:
    """The variables that a template reads."""
    return tuple(_ask({"template": template})["names"])


def _ask(request: Mapping[str, Any]) -> dict[str, Any]:
    with _lock:
        reply = _worker().ask(request)
    if reply is DIED:
        raise UserError(
            f"the tokenizer's chat template takes more than {SECONDS:g} second or "
            f"{MEGABYTES:,} MB for one conversation: use a tokenizer with another template, or set "
            "prompt.chat=False"
        )
    if "error" in reply:
        reason = " ".join(reply["error"].split())
        raise UserError(f"the chat template does not take this conversation: {reason}")
    return reply


@functools.cache
def _worker() -> Worker:
    """The worker of this process, which ends with it."""
    program = Path(__file__).with_name("template_worker.py")
    worker = Worker(program, seconds=SECONDS, megabytes=MEGABYTES, needs="transformers")
    atexit.register(worker.close)
    return worker
