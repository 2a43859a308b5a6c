"""The shape of a model by its path: enough to compile programs for it, without its weights."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from ttc_jax import assets
from ttc_jax.errors import UserError
from ttc_jax.models import checkpoints, gguf, hub
from ttc_jax.models.config import ModelConfig
from ttc_jax.models.families import read_config


def read_shape(path: str) -> ModelConfig:
    """The shape of the generator at `path`, as `load_generator` takes it.

    Of a hub name just its `config.json` is downloaded, and not even that of the models in
    `shapes.json`, which holds what theirs say of shapes.

    Raises:
      UserError: no such model, or one that is not supported.
    """
    found = hub.local(assets.locate(path))
    if checkpoints.is_model(found):
        return checkpoints.read_config(found, checkpoints.GENERATOR, ModelConfig.from_json)
    if found.is_file() and found.suffix == ".gguf":
        return gguf.GGUFFile(found).config
    return read_config(_fields(path, found), path)[1]


def _fields(path: str, found: Path) -> dict[str, Any]:
    """The fields of `config.json`."""
    if found.exists():
        return hub.read_json(found / "config.json")
    if path in known():
        return known()[path]
    if not re.fullmatch(hub.NAME, path):
        raise UserError(f"{path}: no such file or folder")
    from huggingface_hub import hf_hub_download

    try:
        return hub.read_json(Path(hf_hub_download(path, "config.json")))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is no file or folder here, and the Hugging Face hub does not give its "
            f"config.json ({hub.reason(error)}); known without it are {', '.join(known())}"
        ) from error


@cache
def known() -> dict[str, dict[str, Any]]:
    """Fields of `config.json` by hub name, for those models whose shapes ship."""
    return json.loads(Path(__file__).with_name("shapes.json").read_text(encoding="utf-8"))
