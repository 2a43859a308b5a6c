"""What comes from Hugging Face: their package, and the files of a hub name."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ttc_jax.errors import UserError
from ttc_jax.models import limits

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
WITHOUT_WEIGHTS = tuple(name for name in WANTED if not name.startswith("model"))
MOST_BYTES = 64 << 20  # of a JSON file; the largest index of shards that is known has 5 MiB
NAME = r"[\w-][\w.-]*/[\w.-]+"  # "organisation/model"
COPIES = "TTC_MODELS"  # in the environment: a folder with models in folders of their hub names


def transformers() -> ModuleType:
    """The transformers package, quiet.

    Imported late: it takes seconds, and the embedded task needs nothing of it.
    """
    # Silences "PyTorch was not found": that is how it should be.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    import transformers

    transformers.logging.set_verbosity_error()
    return transformers


def local(path: str | Path) -> Path:
    """The path as one of this machine, whether something is there or not.

    Raises:
      UserError: no such path can be: it is too long, of an unknown user, or holds a null byte.
    """
    try:
        found = Path(path).expanduser()
        found.exists()
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: no path of a file or folder ({reason(error)})") from error
    return found


def resolve(path: str | Path, wanted: Sequence[str] = WANTED) -> Path:
    """The local file or folder that `path` names; a hub name ("organisation/model") is downloaded.

    Where the variable TTC_MODELS names a folder that holds a copy of it, that is taken.

    Args:
      path: of either.
      wanted: the files that are downloaded, as patterns.

    Raises:
      UserError: there is no such file or folder, and no hub name that can be reached.
    """
    if (found := local(path)).exists():
        return found
    if not re.fullmatch(NAME, str(path)):
        raise UserError(f"{path}: no such file or folder")
    if (copy := _copy(str(path))) is not None:
        return copy
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(path), allow_patterns=list(wanted)))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is no file or folder here, and the Hugging Face hub does not give it "
            f"({reason(error)}); check the name, or give the path of a local copy"
        ) from error


def _copy(name: str) -> Path | None:
    """Returns the folder of a hub name below TTC_MODELS; None where there is none."""
    if not (folder := os.environ.get(COPIES)):
        return None
    found = local(Path(folder) / name)
    return found if found.is_dir() else None


def reason(error: Exception) -> str:
    """The first line of what an error of another package says, or else its type."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return limits.printable(lines[0])


def snapshot(name: str, *, download: bool = False) -> Path | None:
    """The folder of a hub name's files on this machine; None where `name` is none, or not here.

    Args:
      download: fetches what is not here.

    Raises:
      UserError: it cannot be fetched.
    """
    if not re.fullmatch(NAME, name):
        return None
    if (copy := _copy(name)) is not None:
        return copy
    if download:
        return resolve(name)
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(name, allow_patterns=list(WANTED), local_files_only=True)
    except (OSError, ValueError):
        return None
    return Path(found)


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object of a model folder; every such file goes through here.

    Raises:
      UserError: the file is missing, no regular file, larger than any such file is, or something
        else than a JSON object of Unicode text.
    """
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: not a file")
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise UserError(f"{path}: larger than {MOST_BYTES >> 20} MiB, as no such file is")
        data = json.loads(text.decode("utf-8"))
        if b"\\u" in text:  # halves of a pair of \\u escapes are no text, and cannot be printed
            json.dumps(data, ensure_ascii=False).encode("utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; is {path.parent} a whole model folder?") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except UnicodeEncodeError as error:
        raise UserError(f"{path}: holds half of a surrogate pair, which is no text") from error
    except RecursionError as error:
        raise UserError(f"{path}: nested too deeply") from error
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({reason(error)})") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: not a JSON object")
    return data
