"""Workdirs: to which config and to which inputs their results belong, and who works in them."""

from __future__ import annotations

import functools
import json
import logging
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from ml_collections import ConfigDict

from ttc_jax import files, hashing
from ttc_jax.config import as_flag, belongs, fields, to_json
from ttc_jax.errors import UserError
from ttc_jax.experiments import inputs
from ttc_jax.hosts import hosts

CONFIG, INPUTS = "config.json", "inputs.json"
_OWN = "config"  # what the digest of the config itself is called among the others
VISIBLE = 30.0  # seconds that a network disk may take to show what another host wrote
_SHOWN = 8  # digits of a digest in a message
_log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


def exclusive(
    main: Callable[Concatenate[ConfigDict, Path, P], R],
) -> Callable[Concatenate[ConfigDict, Path, P], R]:
    """Makes a job refuse a workdir in which another process of this host works.

    The lock ends with the process, however that ends.
    """

    @functools.wraps(main)
    def alone(config: ConfigDict, workdir: Path, *args: P.args, **kwargs: P.kwargs) -> R:
        files.refuse_url(workdir, "--workdir")
        refusal = (
            f"--workdir={workdir}: another process works there; wait for its end, or use another "
            "--workdir"
        )
        with files.locked(workdir / f".lock-{hosts.index():05d}", refusal):
            return main(config, workdir, *args, **kwargs)

    return alone


def claim_workdir(workdir: Path, config: ConfigDict, may_change: Collection[str] = ()) -> None:
    """Makes a workdir belong to a config, for a job that does all of its work anew.

    The first claim makes the folder and writes the config to `config.json` there; a later one
    compares with it. Of many hosts the first claims it.

    Args:
        workdir: folder of a job's results.
        config: the job's config.
        may_change: dotted fields or sections that do not alter results, such as a batch size.

    Raises:
        UserError: the workdir belongs to another config, is no folder or cannot be written.
    """
    files.refuse_url(workdir, "--workdir")
    path = workdir / CONFIG
    if path.exists():
        _compare(workdir, config, may_change, {}, {})
    elif hosts.is_first():  # all hosts have the same config
        files.write_json(path, to_json(config))


class Claim:
    """A workdir's claim by a config and by the contents of what it reads, for work that goes on.

    A new claim changes nothing until `take`, so that a mistake found in between leaves the workdir
    free for the mended config. `inputs.json` beside `config.json` holds the digests of the config
    and of all that it names by path (`inputs.digests`); so does every record.

    Attributes:
        digests: by dotted field, and of the config as "config". Models that have to be fetched
            first come in with `take`; of several hosts only the first has any before.

    Args:
        workdir: folder of a job's results.
        config: the job's config.
        may_change: dotted fields or sections that do not alter results, such as a batch size.

    Raises:
        UserError: the workdir belongs to another config, or what is read has changed since it
            began: names all of it.
    """

    def __init__(self, workdir: Path, config: ConfigDict, may_change: Collection[str] = ()):
        files.refuse_url(workdir, "--workdir")
        self._workdir, self._config, self._may_change = workdir, config, may_change
        self.digests = {_OWN: _digest(config, may_change)}
        if hosts.is_first():
            self.digests |= inputs.digests(config, may_change)
        self._compare()

    def take(self, *, download: bool = False, alone: bool = False) -> None:
        """Makes the workdir belong to the config and to what is read.

        Args:
            download: fetches models of the Hugging Face hub that are not here.
            alone: of several hosts only the first calls it; else all do, and wait for it.

        Raises:
            UserError: as the class, and a workdir that is no folder or cannot be written.
        """
        path = self._workdir / INPUTS
        if hosts.is_first():
            known = (*self._may_change, *self.digests)
            self.digests |= inputs.digests(self._config, known, download=download)
            self._compare()
            if (self._workdir / CONFIG).exists() and not path.exists():
                _log.warning("%s: no digests of what was read: taken as it is now", self._workdir)
            held = _inputs(self._workdir)
            if held != held | self.digests:
                files.write_json(path, held | self.digests)
            if not (self._workdir / CONFIG).exists():
                files.write_json(self._workdir / CONFIG, to_json(self._config))
        if alone:
            return
        hosts.wait("the workdir is claimed")
        if not hosts.is_first():
            deadline = time.monotonic() + VISIBLE
            while not path.exists() and time.monotonic() < deadline:
                time.sleep(0.2)
            self.digests |= _inputs(self._workdir)

    def _compare(self) -> None:
        held = _inputs(self._workdir)
        if (self._workdir / CONFIG).exists():
            _compare(self._workdir, self._config, self._may_change, held, self.digests)
            # Which fields may change is up to the version: that of the first claim counts.
            self.digests[_OWN] = held.get(_OWN, self.digests[_OWN])
        elif held.get(_OWN, self.digests[_OWN]) != self.digests[_OWN]:
            raise UserError(
                f"--workdir={self._workdir} belongs to another config, and its {CONFIG} is lost: "
                "put that back, or use another --workdir"
            )


def _compare(
    workdir: Path,
    config: ConfigDict,
    may_change: Collection[str],
    held: Mapping[str, str],
    now: Mapping[str, str],
) -> None:
    """Refuses another config than the one in a workdir, and inputs whose digests have changed."""
    old = files.read_json(workdir / CONFIG, "delete it, or use another --workdir")
    old, new = fields(old), fields(to_json(config))
    stale, changes = [], []
    for name in sorted(old.keys() | new.keys()):
        if belongs(name, may_change):
            continue
        # A field that came with a later version is empty where it changes nothing.
        differs = old.get(name, "") != new.get(name, "")
        known = name in held and name in now
        if known and held[name] != now[name] and not differs:
            stale.append(
                f"{as_flag(name, new[name])} has changed since this workdir began (was "
                f"{held[name][:_SHOWN]}…, now {now[name][:_SHOWN]}…)"
            )
        elif differs and not (known and held[name] == now[name]):
            changes.append(name)
    if changes:
        listed = ", ".join(
            f"{name} (there {old.get(name)!r}, now {new.get(name)!r})" for name in changes
        )
        back = " ".join(as_flag(name, old[name]) for name in changes if old.get(name) is not None)
        raise UserError(
            f"--workdir={workdir} belongs to another config: {listed}; "
            f"use another --workdir{f' or {back}' if back else ''}"
        )
    if stale:
        raise UserError(f"{'; '.join(stale)}: put it back, or use another --workdir than {workdir}")


def _inputs(workdir: Path) -> dict[str, str]:
    """The digests that a workdir was claimed with; none in those of older versions."""
    path = workdir / INPUTS
    if not path.exists():
        return {}
    return files.read_json(path, "use another --workdir")


def _digest(config: ConfigDict, may_change: Collection[str]) -> str:
    """The digest of what decides results, apart from what has digests of its own."""
    read = inputs.named(config, may_change)
    deciding = {
        name: value
        for name, value in sorted(fields(to_json(config)).items())
        if value != "" and name not in read and not belongs(name, may_change)
    }
    return hashing.of_texts(json.dumps(deciding))
