"""Our own model folders: parameters saved with Orbax, and a small `model.json` that says of what.

model.json    kind, config, metadata (command, seed, training tokens, metrics …)
parameters/   Orbax, by name: "layers.blocks.0.attention.qkv"
tokenizer/    when the model has its own
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from ttc_jax.errors import UserError
from ttc_jax.models import hub, parameters
from ttc_jax.models.config import ModelConfig
from ttc_jax.models.transformer import Transformer
from ttc_jax.parallel.mesh import copies, place, sharding

M = TypeVar("M", bound=nnx.Module)
DESCRIPTION, PARAMETERS, TOKENIZER = "model.json", "parameters", "tokenizer"
GENERATOR = "generator"


class Savable(Protocol):
    """A tokenizer, as far as a checkpoint is concerned."""

    def save(self, folder: Path) -> None:
        """Writes itself into `folder`."""
        ...


@dataclasses.dataclass(frozen=True)
class Description:
    """What `model.json` says."""

    kind: str  # "generator", "prm" …: which code reads `config`
    config: dict[str, Any]
    metadata: dict[str, Any]


def save_model(
    path: str | Path,
    model: Transformer,
    *,
    tokenizer: Savable | None,
    metadata: Mapping[str, Any],
) -> None:
    """Writes a generator's folder; see `save`."""
    save(
        path,
        model,
        Description(GENERATOR, model.config.to_json(), dict(metadata)),
        tokenizer=tokenizer,
    )


def load_model(
    path: str | Path, *, dtype: jax.typing.DTypeLike = jnp.float32, mesh: Mesh | None = None
) -> Transformer:
    """The generator in a folder that `save_model` wrote; errors as `describe` and `restore`."""
    config = ModelConfig.from_json(describe(path, GENERATOR).config)
    return restore(
        path, lambda: Transformer(config, rngs=nnx.Rngs(0), dtype=jnp.dtype(dtype)), mesh=mesh
    )


def save(
    path: str | Path,
    module: nnx.Module,
    description: Description,
    *,
    tokenizer: Savable | None = None,
) -> None:
    """Writes a model folder for any module: all its parameters, and what it is.

    The folder is written beside `path` and then takes its place: a save that fails or is killed
    leaves no half of a model.
    """
    path = Path(path).absolute()
    fresh, old = (path.with_name(f".{path.name}.{state}") for state in ("partial", "replaced"))
    for folder in (fresh, old):
        shutil.rmtree(folder, ignore_errors=True)
    fresh.mkdir(parents=True)
    with _checkpointer() as checkpointer:
        # As numpy arrays: of those of one host among many Orbax saves no other.
        checkpointer.save(fresh / PARAMETERS, jax.device_get(parameters.named(module)))
    text = json.dumps(dataclasses.asdict(description), indent=2)
    (fresh / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
    if tokenizer is not None:
        tokenizer.save(fresh / TOKENIZER)
    if path.exists():
        path.rename(old)
    fresh.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def is_model(path: Path) -> bool:
    """Whether `path` is a folder that `save` wrote."""
    return (path / DESCRIPTION).is_file()


def describe(path: str | Path, kind: str | None = None) -> Description:
    """What the folder holds.

    Raises:
      UserError: not a model folder, or not of the `kind` asked for.
    """
    file = Path(path) / DESCRIPTION
    try:
        found = Description(**hub.read_json(file))
    except TypeError as error:
        raise UserError(f"{file}: not the description of a model ({error})") from error
    if kind is not None and found.kind != kind:
        raise UserError(f"{path}: holds a {found.kind}, not a {kind}")
    return found


def restore(path: str | Path, build: Callable[[], M], *, mesh: Mesh | None = None) -> M:
    """The module that `build` makes, with the parameters saved in `path`.

    Args:
      path: folder that `save` wrote, from whatever devices.
      build: makes the module; it is traced, so nothing is allocated. Its dtypes are what is loaded.
      mesh: over which they go, key/value heads copied where they are fewer than `model`; None: the
        default device.

    Raises:
      UserError: parameters missing, extra or mis-shaped (all of them in one message).
    """
    module = parameters.outline(build)
    folder = Path(path).absolute() / PARAMETERS

    def target(name: str, shape: tuple[int, ...]) -> Sharding:
        if mesh is None:
            return SingleDeviceSharding(jax.local_devices()[0])
        # Heads that are too few to be split are read as a whole, and then copied by `place`.
        fits = copies(name, shape, mesh) == 1
        return sharding(name, shape, mesh) if fits else NamedSharding(mesh, PartitionSpec())

    wanted = {
        name: jax.ShapeDtypeStruct(like.shape, like.dtype, sharding=target(name, like.shape))
        for name, like in parameters.named(module).items()
    }
    with _checkpointer() as checkpointer:
        stored = checkpointer.metadata(folder).item_metadata if folder.is_dir() else None
        if stored is None:
            raise UserError(f"{path}: {PARAMETERS}/ is lost or damaged; copy the folder anew")
        problems = parameters.mismatches(wanted, stored)
        parameters.refuse(str(path), problems, "saved from another architecture")
        return place(parameters.filled(module, checkpointer.restore(folder, wanted)), mesh)


def _checkpointer() -> ocp.StandardCheckpointer:
    """Reads and writes without a word to other hosts: each loads when it comes to it."""
    here = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=here, active_processes={here}, barrier_sync_key_prefix=f"host{here}"
    )
    return ocp.StandardCheckpointer(multiprocessing_options=alone)
