"""Puts trained models into one folder, with a manifest of what made them and how good they are.

Of each model the manifest says the command, seed, training tokens, parameters, size and figures,
and what runs found that measured it (config.measured). The folder, WORKDIR/models, is what ships.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ttc_jax.config import claim_workdir
from ttc_jax.errors import UserError
from ttc_jax.models.checkpoints import describe
from ttc_jax.parallel import hosts
from ttc_jax.results.summary import versions, write_json

MANIFEST = "manifest.json"
MEASURED = ("pass_at_1", "questions", "chains")  # of a run's summary, where it has them


def main(config: ConfigDict, workdir: Path) -> None:
    """Copies `config.models` and writes the manifest; of several hosts the first does.

    Raises:
      UserError: a model that is none, a run without a summary, or more than `config.megabytes`.
    """
    if not hosts.is_first():
        return
    models = {name: _entry(Path(path)) for name, path in config.models.items()}
    for name, runs in config.measured.items():
        if name not in models:
            raise UserError(f"measured.{name}: config.models has no such model")
        models[name]["measured"] = {run: _summary(Path(path)) for run, path in runs.items()}
    claim_workdir(workdir, config)
    folder = workdir / "models"
    shutil.rmtree(folder, ignore_errors=True)
    for name, path in config.models.items():
        shutil.copytree(path, folder / name)
        models[name]["bytes"] = _size(folder / name)
    total = _size(folder)
    if total > config.megabytes * 10**6:
        raise UserError(
            f"{folder}: {total / 10**6:.1f} MB, more than megabytes={config.megabytes}; train "
            "smaller models"
        )
    path = write_json(folder / MANIFEST, {"models": models, "bytes": total, "versions": versions()})
    print(f"{len(models)} models, {total / 10**6:.1f} MB: {folder}\nmanifest: {path}")


def _entry(folder: Path) -> dict[str, Any]:
    """What is known of a model: all of its metadata, the config's most telling fields alone."""
    found = describe(folder)
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
    path = workdir / "summary.json"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no summary of a run ({error})") from error
    return {name: summary[name] for name in MEASURED if name in summary}


def _size(folder: Path) -> int:
    """Bytes of all files below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
