"""The jobs of the command `ttc`: one module each.

A job is a module with a docstring, which is its help (the first line its summary in `ttc --help`),
and a function

    def main(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None

Where `workdir` has a default, the command does without --workdir. Further parameters, which have
defaults too, are arguments that the command takes beside its flags: `question` becomes [QUESTION].
Parameters behind `*` are flags of the job's own, strings: `topology` becomes --topology.
`TAKES` names the jobs whose configs it takes, where they are not its own alone; `TAKES = ()`: the
command takes no --config, and the job gets an empty one.

A module may have `check(config)` too, which refuses what `main` could not run; without one, fields
are held against their ranges. A config of several stages checks all of them before the first runs;
`check_stages(config, read)` then refuses what the stages that a job reads will not give it, `read`
being their configs by the field that names them.

Of many hosts every one calls `main`: what one of them must do alone, or what must wait for the
others, asks `ttc_jax.hosts.hosts`.

It raises `ttc_jax.errors.UserError` for what the user can mend. A module whose name starts with an
underscore is not a job. A job is imported only when it runs.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ttc_jax.experiments.fields import check_fields


def runners() -> dict[str, Callable[..., None]]:
    """Returns what runs each job, by its name; the job is imported when it runs."""
    names = (module.name for module in pkgutil.iter_modules(__path__))
    return {name: partial(_run, name) for name in names if not name.startswith("_")}


def checks() -> dict[str, Callable[..., None]]:
    """Returns what refuses a config that its job cannot run, before anything is read, by job."""
    return {name: partial(_check, name) for name in runners()}


def _check(name: str, config: Any, read: Mapping[str, Any]) -> None:
    job = importlib.import_module(f"{__name__}.{name}")
    getattr(job, "check", check_fields)(config)
    if hasattr(job, "check_stages"):
        job.check_stages(config, read)


def _run(name: str, *arguments: Any) -> None:
    importlib.import_module(f"{__name__}.{name}").main(*arguments)
