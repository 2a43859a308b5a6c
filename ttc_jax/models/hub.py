"""What comes from Hugging Face: their package, and the files of a hub name."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from ttc_jax.errors import UserError

# Configs, tokenizers and safetensors only: no pickles, no code, no second copy in another format.
WANTED = (
    "config.json",
    "generation_config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template*",
)
NAME = r"[\w-][\w.-]*/[\w.-]+"  # "organisation/model"


def transformers() -> ModuleType:
    """The transformers package, quiet.

    Imported late: it takes seconds, and the embedded task needs nothing of it.
    """
    # Silences "PyTorch was not found": that is how it should be.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    import transformers

    transformers.logging.set_verbosity_error()
    return transformers


def resolve(path: str | Path) -> Path:
    """The local file or folder that `path` names; a hub name ("organisation/model") is downloaded.

    Raises:
      UserError: there is no such file or folder, and no hub name that can be reached.
    """
    local = Path(path).expanduser()
    if local.exists():
        return local
    if not re.fullmatch(NAME, str(path)):
        raise UserError(f"{path}: no such file or folder")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(path), allow_patterns=list(WANTED)))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{path} is no file or folder here, and the Hugging Face hub does not give it "
            f"({reason}); check the name, or give the path of a local copy"
        ) from error


def snapshot(name: str, *, download: bool = False) -> Path | None:
    """The folder of a hub name's files on this machine; None where `name` is none, or not here.

    Args:
      download: fetches what is not here.

    Raises:
      UserError: it cannot be fetched.
    """
    if not re.fullmatch(NAME, name):
        return None
    if download:
        return resolve(name)
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(name, allow_patterns=list(WANTED), local_files_only=True)
    except (OSError, ValueError):
        return None
    return Path(found)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a model folder.

    Raises:
      UserError: the file is missing or is something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; is {path.parent} a whole model folder?") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not JSON ({error})") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: not a JSON object")
    return data
