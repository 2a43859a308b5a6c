"""What a config names by path, known by content: files, models, records, and own code."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection
from pathlib import Path

from ml_collections import ConfigDict

from ttc_jax import assets, hashing
from ttc_jax.config import belongs, fields
from ttc_jax.errors import UserError
from ttc_jax.experiments.sections import task_of
from ttc_jax.models import hub
from ttc_jax.models.checkpoints import is_model
from ttc_jax.plugins import imported
from ttc_jax.policy_file import FILE
from ttc_jax.verifiers.judge_format import GENERATOR

# Fields that name what is read, and sections any text of which may do so.
_NAMES = ("path", "train_path", "generator", "verifier", "judge")
_SECTIONS = ("task", "data", "options")
_NO_PATH = "confidence:"  # what a verifier may be instead
# Fields that may name a class "package.module:Class".
_CLASSES = ("name", "strategy")
_CLASS = re.compile(r"\w+(\.\w+)*:[A-Za-z_]\w*")


def named(config: ConfigDict, apart_from: Collection[str] = ()) -> dict[str, str]:
    """Returns dotted field -> value, of all fields that name what is read.

    Args:
        apart_from: dotted fields or sections that are left out.
    """
    found: dict[str, str] = {}
    for field, value in fields(config).items():
        *sections, name = field.split(".")
        if not isinstance(value, str) or not value or belongs(field, apart_from):
            continue
        if name in _CLASSES:
            reads = bool(_CLASS.fullmatch(value))
        elif name in _NAMES:
            reads = not value.startswith(_NO_PATH)
        else:
            reads = not set(_SECTIONS).isdisjoint(sections) and _exists(value)
        if reads:
            found[field] = value
    return found


def digests(
    config: ConfigDict, apart_from: Collection[str] = (), *, download: bool = False
) -> dict[str, str]:
    """Returns dotted field -> the digest of what it names, where that can be read here.

    Of a model folder only the files that are read count, of a workdir only its records. A folder or
    file that is moved keeps its digest. See `hashing.of_file` for what the digest of a large file
    sees.

    Args:
        download: fetches models of the Hugging Face hub that are not here.

    Raises:
        UserError: a class of the user's that cannot be imported, a model that cannot be fetched.
    """
    found = {}
    for field, value in named(config, apart_from).items():
        if field.rpartition(".")[2] in _CLASSES:
            digest = _of_class(value, field)
        else:
            digest = _of_value(value, download)
        if digest:
            found[field] = digest
    return found


def check(config: ConfigDict, apart_from: Collection[str] = ()) -> None:
    """Refuses a path that leads nowhere and a task that there is not, before anything is read.

    A hub name may stand for a folder, so that only whoever loads it can tell; files of a task's
    questions have no such names.

    Args:
        apart_from: dotted fields that are left out, such as those of what does not exist yet.

    Raises:
        UserError: names the field.
    """
    for field, value in named(config, apart_from).items():
        *_, section, name = field.rsplit(".", 2)
        if name not in ("path", "train_path") or ":" in value or _exists(value):
            continue
        if section == "task" or not re.fullmatch(hub.NAME, value):
            raise UserError(f"{field}={value}: no such file or folder")
    if "name" in config.get("task", {}):
        task_of(config.task)


def _exists(value: str) -> bool:
    try:
        return Path(value).exists()
    except (OSError, ValueError):  # too long for a path, or with a zero byte
        return False


def _of_class(value: str, field: str) -> str:
    """The digest of the source file that a class of the user's comes from."""
    imported(value, field)
    source = getattr(sys.modules[value.partition(":")[0]], "__file__", None)
    return _of_path(Path(source)) if source else ""


def _of_value(value: str, download: bool) -> str:
    """The digest of what a field's text names; "" for what is not here.

    A path may stand behind words with colons: "flipped:0.2:PATH", "FORMAT:PATH", "my.json:PATH".
    """
    if value.startswith(assets.PREFIX):
        try:
            return _of_path(Path(assets.locate(value)))
        except UserError:  # which whoever reads it raises too
            return ""
    if _exists(value):
        return _of_path(Path(value))
    word, colon, rest = value.partition(":")
    if colon:
        own = _of_path(Path(word)) if _exists(word) else word
        if rest in GENERATOR:  # as a judge: its content is known by its own field
            return hashing.of_texts(own)
        inner = _of_value(rest, download)
        return hashing.of_texts(own, inner) if inner else ""
    snapshot = hub.snapshot(value, download=download)
    return _of_path(snapshot) if snapshot else ""


def _of_path(path: Path) -> str:
    """Returns the digest of a file or folder; "" where it cannot be read."""
    try:
        if path.is_file():
            return hashing.of_file(path)
        if is_model(path):
            return hashing.of_folder(path)
        if (path / "results").is_dir():
            return hashing.of_folder(path / "results", ("*.jsonl", "*.jsonl.gz"))
        if (path / FILE).is_file():
            return hashing.of_file(path / FILE)
        is_public = any(path.glob("*.safetensors")) or (path / "config.json").is_file()
        return hashing.of_folder(path, hub.WANTED if is_public else ("*",))
    except OSError:  # which whoever reads it tells
        return ""
