"""The tasks: questions with gold answers, prompts, and the grading of solutions.

A new task is one file with a class that follows `ttc_jax.tasks.task.Task`, and one line in `TASKS`.
"""

import difflib
import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ttc_jax.errors import UserError

if TYPE_CHECKING:
    from ttc_jax.tasks.task import Task

TASKS = {
    "arithmetic": "ttc_jax.tasks.arithmetic:Arithmetic",
    "gsm8k": "ttc_jax.tasks.gsm8k:GSM8K",
    "math": "ttc_jax.tasks.math:Math",
}


def load_task(config: Mapping[str, Any]) -> "Task":
    """Builds the task that a config section describes.

    Args:
        config: `name`, one of `TASKS`; every other field is a keyword of that task's class. A
            `ConfigDict` is such a mapping.

    Raises:
        UserError: The name is unknown.
    """
    options = dict(config)
    name = options.pop("name")
    if name not in TASKS:
        near = difflib.get_close_matches(str(name), TASKS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(TASKS)}"
        raise UserError(f"unknown task {name!r}: {hint}")
    module, _, attribute = TASKS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)(**options)
