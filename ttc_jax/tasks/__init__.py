"""The tasks: questions with gold answers, prompts, and the grading of solutions.

A new task is one file with a class that follows `ttc_jax.tasks.task.Task`, or is a
`ttc_jax.tasks.data_set.DataSet`; configs name it "package.module:Class".
"""

import difflib
from typing import TYPE_CHECKING, Any

from ttc_jax.errors import UserError
from ttc_jax.plugins import imported, made
from ttc_jax.tasks.own import OwnTask

if TYPE_CHECKING:
    from ttc_jax.tasks.task import Task

TASKS = {
    "countdown": "ttc_jax.tasks.countdown:Countdown",
    "gsm8k": "ttc_jax.tasks.gsm8k:GSM8K",
    "math": "ttc_jax.tasks.math:Math",
    "aime24": "ttc_jax.tasks.competitions:AIME24",
    "aime25": "ttc_jax.tasks.competitions:AIME25",
    "aime26": "ttc_jax.tasks.competitions:AIME26",
    "amc23": "ttc_jax.tasks.competitions:AMC23",
    "omni_math": "ttc_jax.tasks.olympiads:OmniMath",
    "olympiad_bench": "ttc_jax.tasks.olympiads:OlympiadBench",
    "gpqa": "ttc_jax.tasks.olympiads:GPQA",
    "humaneval": "ttc_jax.tasks.code.sets:HumanEval",
    "humanevalplus": "ttc_jax.tasks.code.sets:HumanEvalPlus",
    "mbpp": "ttc_jax.tasks.code.sets:MBPP",
    "mbppplus": "ttc_jax.tasks.code.sets:MBPPPlus",
}


def load_task(name: str, /, **options: Any) -> "Task":
    """Returns a task by its name.

    Args:
        name: One of `TASKS`, or "package.module:Class" for one of your own.
        options: Keywords of that task's class.

    Raises:
        UserError: The name is unknown, an option is not one of the task's, or a class of one's own
            that is no task. What that returns is checked, see `OwnTask`.
    """
    kind = imported(name if ":" in name else _home(name), "task.name")
    task = made(kind, options, name, "task")
    return OwnTask(task, name) if ":" in name else task


def _home(name: str) -> str:
    if name not in TASKS:
        near = difflib.get_close_matches(name, TASKS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(TASKS)}"
        raise UserError(f"unknown task {name!r}: {hint}, or 'package.module:Class'")
    return TASKS[name]
