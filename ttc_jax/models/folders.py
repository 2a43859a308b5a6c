"""Model folders of Hugging Face: the files with the weights, and what folders without are."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NoReturn

from safetensors import SafetensorError, safe_open

from ttc_jax.errors import UserError
from ttc_jax.models import hub, limits, parameters

ADAPTER = "adapter_config.json"
CONFIG, SINGLE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
EXPECTED = f"expected {SINGLE}, or shards with {INDEX}"
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
# File that tells what a folder is that cannot be loaded -> what is said of it. The first one found.
OTHERS = (
    (
        ADAPTER,
        "holds an adapter (LoRA), not a model; merge it into its base model with PEFT's "
        "merge_and_unload, and save that with save_pretrained",
    ),
    (
        "model_index.json",
        "holds a diffusion pipeline, which is no language model",
    ),
    (
        "model-?????-of-?????.safetensors",
        f"holds shards without {INDEX}; copy that too",
    ),
    (
        "consolidated*.safetensors",
        "holds Mistral's own format (consolidated.safetensors); get the files for transformers, "
        f"{SINGLE} or its shards, which the same hub name has",
    ),
    (
        "params.json",
        "holds Meta's own format (params.json); get the files for transformers from the hub name "
        "that ends in -hf, or convert them with transformers' convert_llama_weights_to_hf.py",
    ),
    *(
        (
            pattern,
            "holds pickled weights ({name}), which may run code and are not read; load them with "
            "transformers where you trust them, and save them anew with save_pretrained",
        )
        for pattern in PICKLED
    ),
    *(
        (
            pattern,
            "holds weights of another framework ({name}); save them anew with save_pretrained",
        )
        for pattern in ("*.h5", "*.msgpack", "*.onnx", "*.npz")
    ),
    ("*.gguf", "holds GGUF files; give the path of one of them, such as {name}"),
    (
        "*.safetensors",
        f"{EXPECTED}, and found {{name}}; rename it, if it is the whole model",
    ),
    (
        f"*/{CONFIG}",
        "holds model folders ({name}); give the path of one of them",
    ),
    ("tokenizer*", "holds a tokenizer and no weights; copy the whole model folder"),
)


@dataclasses.dataclass(frozen=True)
class WeightFiles:
    """The files of a folder's weights."""

    paths: tuple[Path, ...]
    indexed: tuple[str, ...] = ()  # tensors that an index says they hold


def weight_files(folder: Path) -> WeightFiles:
    """The files that hold the weights; a single file goes before an index, as in transformers.

    Raises:
      UserError: there are none, or not all that the index names.
    """
    single, index = folder / SINGLE, folder / INDEX
    if not single.is_file() and not index.is_file():
        refuse(folder)
    if (folder / ADAPTER).exists():  # for which transformers takes other weights than these
        raise UserError(
            f"{folder}: holds an adapter (LoRA) beside a model; merge it into its base model with "
            f"PEFT's merge_and_unload, or remove {ADAPTER} to have the model without it"
        )
    if single.is_file():
        return WeightFiles((single,))
    places = hub.read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise UserError(f"{index}: weight_map must be an object that names each tensor's file")
    for tensor, name in places.items():
        if not _is_shard(name):
            raise UserError(
                f"{index}: {limits.printable(tensor)} is in {limits.show(name)}, which is no "
                "safetensors file of this folder"
            )
    names = sorted(set(places.values()))
    parameters.refuse(
        str(folder),
        [f"missing {name}" for name in names if not (folder / name).is_file()],
        "the index names it; copy the rest",
    )
    return WeightFiles(tuple(folder / name for name in names), tuple(places))


def _is_shard(name: Any) -> bool:
    return (
        isinstance(name, str)
        and name.isprintable()
        and name.endswith(".safetensors")
        and "/" not in name
        and "\\" not in name
    )


def refuse(folder: Path) -> NoReturn:
    """Says what a folder without weights or config is, and the way out.

    Raises:
      UserError: always.
    """
    if (folder / SINGLE).exists() or (folder / INDEX).exists():
        raise UserError(f"{folder / CONFIG}: missing; is {folder} a whole model folder?")
    for pattern, problem in OTHERS:
        if found := sorted(folder.glob(pattern)):
            raise UserError(f"{folder}: {problem.format(name=found[0].relative_to(folder))}")
    if not any(folder.iterdir()):
        raise UserError(f"{folder}: an empty folder; {EXPECTED}, and {CONFIG}")
    raise UserError(
        f"{folder}: no weights; {EXPECTED} (other formats can be saved anew with save_pretrained)"
    )


def opened(path: Path) -> Any:
    """The safetensors file at `path`, open for reading."""
    try:
        return safe_open(path, framework="numpy")
    except SafetensorError as error:
        raise UserError(f"{path}: not a whole safetensors file ({hub.reason(error)})") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({hub.reason(error)})") from error
