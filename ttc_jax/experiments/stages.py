"""A config of several stages, each of which is a job with a workdir of its own.

    config.stages = ("generator", "rollouts", "prm")       # in this order
    config.stage.rollouts = {"job": "collect", "generator": {"path": "stage:generator"}, ...}

Stage NAME works in WORKDIR/NAME. A path of "stage:NAME" leads to what an earlier stage left: the
model of one that trained, else the workdir with its records. What can do without a stage that is
left out, such as a page, does. Stages are done once; one that was stopped goes on where it was,
since every job does. With another config a stage that was done is begun again: its job extends the
work or refuses, and the stages that refer to it are done anew.
So is one when a file or a folder that it reads has another content by now.
Many hosts begin each stage together.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ttc_jax.config import as_flag, fields, to_json
from ttc_jax.errors import UserError
from ttc_jax.experiments import inputs
from ttc_jax.files import read_json, write_json
from ttc_jax.hosts import hosts

PREFIX = "stage:"
DONE = "done.json"
# Fields of what a job does without where it is empty, as it is where that stage is left out.
OPTIONAL = ("data.policy", "data.chains", "data.ratios", "data.verifiers", "flops_match.large")
_log = logging.getLogger(__name__)


def run_stages(
    config: ConfigDict,
    workdir: Path,
    jobs: Mapping[str, Callable[..., None]],
    checks: Mapping[str, Callable[..., None]] | None = None,
) -> None:
    """Runs all stages that are not done yet with this config, in their order.

    Args:
      jobs: name -> what runs it, given its config and workdir.
      checks: name -> what refuses a config that the job cannot run, given also the configs of the
        stages whose results it reads, by field. All stages are checked before the first runs, which
        may take hours.

    Raises:
      UserError: a stage without a section, of an unknown job, or that refers to a later one; and
        what its job raises, with the flags of the stage.
    """
    if not config.stages:
        raise UserError(f"{as_flag('stages', ())}: must name a stage: {', '.join(config.stage)}")
    stages = {name: _resolved(config, name, workdir, jobs) for name in config.stages}
    for name, stage in stages.items():
        read = _references(config.stage[name])
        with _flags_of(name):
            inputs.check(stage, read.keys())
            if checks:
                checks[stage.job](stage, {k: stages[x] for k, x in read.items() if x in stages})
    for number, (name, stage) in enumerate(stages.items(), 1):
        # As it was written: a workdir may move.
        done, settings = workdir / name / DONE, to_json(config.stage[name])
        if _is_done(done, settings, stage):
            _log.info("stage %d of %d, %s: done before", number, len(stages), name)
            continue
        _log.info("stage %d of %d, %s: ttc %s", number, len(stages), name, stage.job)
        if hosts.is_first():
            for other in config.stages:
                if name in _references(config.stage[other]).values():
                    (workdir / other / DONE).unlink(missing_ok=True)
        read, began = inputs.digests(stage), time.perf_counter()
        with _flags_of(name):
            jobs[stage.job](stage, workdir / name)
        seconds = round(time.perf_counter() - began, 1)
        hosts.wait(f"the end of stage {name}")
        if hosts.is_first():
            read = inputs.digests(stage, tuple(read)) | read  # models that were fetched meanwhile
            found = {"seconds_of_last_run": seconds, "config": settings, "inputs": read}
            write_json(done, found)


@contextlib.contextmanager
def _flags_of(stage: str) -> Iterator[None]:
    """Makes errors, which name the flags of a job on its own, name those of the stage."""
    try:
        yield
    except UserError as error:
        message = str(error).replace("--config.", f"--config.stage.{stage}.")
        raise UserError(message) from error


def _is_done(path: Path, settings: Mapping[str, Any], stage: ConfigDict) -> bool:
    """Whether a stage was done with this config, and with the same content of all that it reads."""
    if not path.exists():
        return False
    found = read_json(path, "delete it, and the stage is done again")
    if found.get("config") != settings:
        return False
    before, now = found.get("inputs", {}), inputs.digests(stage)
    return all(before[field] == now[field] for field in before.keys() & now.keys())


def _references(stage: ConfigDict) -> dict[str, str]:
    """Returns dotted field -> the earlier stage that it refers to."""
    return {
        field: value.removeprefix(PREFIX)
        for field, value in fields(stage).items()
        if isinstance(value, str) and value.startswith(PREFIX)
    }


def _resolved(config: ConfigDict, name: str, workdir: Path, known: Iterable[str]) -> ConfigDict:
    """Returns a stage's config, with the paths of earlier stages filled in."""
    if name not in config.stage:
        raise UserError(f"stages: {name} has no section stage.{name}")
    stage = config.stage[name].copy_and_resolve_references()
    if stage.job not in known:
        raise UserError(f"stage.{name}.job={stage.job}: must be one of {', '.join(known)}")
    earlier = config.stages[: config.stages.index(name)]
    for field, other in _references(stage).items():
        left_out = field in OPTIONAL and other in config.stage and other not in config.stages
        if not left_out and other not in earlier:
            raise UserError(
                f"stage.{name}.{field}={PREFIX}{other}: must name an earlier stage, one of "
                f"{', '.join(earlier) or 'none'}"
            )
        section: ConfigDict = stage
        *path, last = field.split(".")
        for part in path:
            section = section[part]
        if left_out:
            section[last] = ""
        else:
            trained = config.stage[other].job == "train"
            section[last] = str(workdir / other / "model" if trained else workdir / other)
    return stage
