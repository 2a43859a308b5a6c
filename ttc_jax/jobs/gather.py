"""Puts trained models into one folder, with a manifest of what made them and how good they are.

Of each model the manifest says the command, seed, training tokens, parameters, size and figures,
and what runs found that measured it (config.measured). The folder, WORKDIR/models, is what ships.
It is made beside its place and then put there; what was gathered before is replaced, but no folder
that holds anything else.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ttc_jax import files, hashing
from ttc_jax.errors import UserError
from ttc_jax.experiments.workdir import claim_workdir, exclusive
from ttc_jax.hosts import hosts
from ttc_jax.models.checkpoints import describe
from ttc_jax.results.summary import versions
from ttc_jax.results.summary_file import read_summary

MANIFEST = "manifest.json"
MEASURED = ("pass_at_1", "questions", "chains")  # of a run's summary, where it has them


@exclusive
def main(config: ConfigDict, workdir: Path) -> None:
    """Copies `config.models` and writes the manifest; of several hosts the first does.

    Raises:
      UserError: a model that is none, two that overlap or one that overlaps with the output, a run
        without a summary, more than `config.megabytes`, or an output folder that holds what was
        not gathered. Nothing has been written then.
    """
    if not hosts.is_first():
        return
    folder = workdir / "models"
    sources = {name: Path(path) for name, path in config.models.items()}
    models = {name: _entry(path) for name, path in sources.items()}
    for name, runs in config.measured.items():
        if name not in models:
            raise UserError(f"measured.{name}: config.models has no such model")
        models[name]["measured"] = {run: _summary(Path(path)) for run, path in runs.items()}
    _refuse_overlaps(sources, folder)
    _refuse_foreign(folder)
    total = sum(map(_size, sources.values()))
    if total > config.megabytes * 10**6:
        raise UserError(
            f"{folder}: {total / 10**6:.1f} MB, more than megabytes={config.megabytes}; train "
            "smaller models"
        )
    claim_workdir(workdir, config)
    fresh, old = (workdir / f".models.{state}" for state in ("partial", "replaced"))
    try:
        shutil.rmtree(fresh, ignore_errors=True)  # what a kill left
        for name, path in sources.items():
            shutil.copytree(path, fresh / name)
            models[name] |= {
                "bytes": _size(fresh / name),
                "digest": hashing.of_folder(fresh / name),
            }
        found = {"models": models, "bytes": total, "versions": versions()}
        files.write_json(fresh / MANIFEST, found)
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(fresh, ignore_errors=True)
        reason = getattr(error, "strerror", None) or str(error)[:200]
        way = files.remedy(error) if isinstance(error, OSError) else "mend that"
        raise UserError(f"{folder}: {reason}; {way}, then run the command again") from error
    shutil.rmtree(old, ignore_errors=True)
    print(f"{len(models)} models, {total / 10**6:.1f} MB: {folder}\nmanifest: {folder / MANIFEST}")


def _refuse_overlaps(sources: Mapping[str, Path], folder: Path) -> None:
    """Refuses sources that lie in each other or in the output, or the output in them."""
    places = {f"models.{name}={path}": path.resolve() for name, path in sources.items()}
    for name in sources:
        if name in ("", ".", "..", MANIFEST) or Path(name).name != name:
            raise UserError(f"models.{name}: a model's name must be one that a folder may have")
    places[f"the output {folder}"] = folder.resolve()
    for (one, here), (other, there) in itertools.combinations(places.items(), 2):
        if here.is_relative_to(there) or there.is_relative_to(here):
            raise UserError(
                f"{one} and {other} are the same folder or lie in each other; name each model "
                "once, outside of the --workdir's models"
            )


def _refuse_foreign(folder: Path) -> None:
    """Refuses to replace a folder that is not as `main` left it."""
    if not folder.exists() and not folder.is_symlink():
        return
    advice = f"move {folder} away, or use another --workdir"
    if folder.is_symlink() or not (folder / MANIFEST).is_file():
        raise UserError(f"{folder} was not written by ttc gather: {advice}")
    models = files.read_json(folder / MANIFEST, advice).get("models", {})
    for path in folder.iterdir():
        if path.name == MANIFEST:
            continue
        # Older manifests have no digests.
        known = models.get(path.name, {}).get("digest", "")
        if path.name not in models or (known and hashing.of_folder(path) != known):
            raise UserError(f"{path} is not as ttc gather left it: {advice}")


def _entry(folder: Path) -> dict[str, Any]:
    """What is known of a model: all of its metadata, the config's most telling fields alone."""
    found = describe(folder)
    files.check_seal(folder, "copy the folder anew")
    about = dict(found.metadata)
    settings = about.pop("config", {})
    return {
        "kind": settings.get("kind", found.kind),
        "command": about.pop("command", None),
        "seed": settings.get("seed"),
        "train": settings.get("train"),
        **about,
    }


def _summary(workdir: Path) -> dict[str, Any]:
    summary = read_summary(workdir, "", "run that job to its end")
    return {name: summary[name] for name in MEASURED if name in summary}


def _size(folder: Path) -> int:
    """Bytes of all files below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
