"""Our own model folders: parameters saved with Orbax, and a small `model.json` that says of what.

checksums.json  of all other files
model.json    kind, config, metadata (command, seed, training tokens, metrics …)
parameters/   Orbax, by name: "layers.blocks.0.attention.qkv"
tokenizer/    when the model has its own
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from ttc_jax import files
from ttc_jax.errors import UserError
from ttc_jax.hosts import hosts
from ttc_jax.models import hub, int8, limits, parameters
from ttc_jax.models.config import ModelConfig
from ttc_jax.models.transformer import FLOAT32, Transformer
from ttc_jax.sharding.mesh import copies, place, sharding

if TYPE_CHECKING:
    import orbax.checkpoint as ocp

M = TypeVar("M", bound=nnx.Module)
C = TypeVar("C")
DESCRIPTION, PARAMETERS, TOKENIZER = "model.json", "parameters", "tokenizer"
GENERATOR = "generator"
ANEW = "copy the folder anew"


@runtime_checkable
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
    path: str | Path,
    *,
    dtype: jax.typing.DTypeLike = jnp.float32,
    weights: str = "",
    cache: str = "",
    mesh: Mesh | None = None,
) -> Transformer:
    """The generator in a folder that `save_model` wrote; errors as `describe` and `restore`."""
    config = read_config(path, GENERATOR, ModelConfig.from_json)

    def build() -> Transformer:
        return Transformer(
            config, rngs=nnx.Rngs(0), dtype=jnp.dtype(dtype), int8_cache=int8.wanted(cache)
        )

    return restore(path, build, blocks=config.depth, weights=weights, mesh=mesh)


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
    files.seal(fresh)
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
    data = hub.read_json(file)
    with limits.naming(str(file)):
        limits.check_names(data, Description)
    found = Description(**data)
    if not isinstance(found.kind, str):
        raise UserError(f"{file}: kind is {limits.show(found.kind)}; it must be a text")
    for name in ("config", "metadata"):
        if not isinstance(value := getattr(found, name), dict):
            raise UserError(f"{file}: {name} is {limits.show(value)}; it must be an object")
    if kind is not None and found.kind != kind:
        raise UserError(f"{path}: holds a {found.kind}, not a {kind}")
    return found


def read_config(path: str | Path, kind: str, read: Callable[[dict[str, Any]], C]) -> C:
    """What `read` makes of the config in the folder of a model of this kind.

    Raises:
      UserError: as `describe`; a field of the config is unknown, missing, of another type or beyond
        its limits.
    """
    file, config = Path(path) / DESCRIPTION, describe(path, kind).config
    try:
        with limits.naming(str(file), prefix="config."):
            return read(config)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{file}: not the config of a {kind} ({hub.reason(error)})") from error


def restore(
    path: str | Path,
    build: Callable[[], M],
    *,
    blocks: int = 0,
    weights: str = "",
    mesh: Mesh | None = None,
) -> M:
    """The module that `build` makes, with the parameters saved in `path`.

    Args:
      path: folder that `save` wrote, from whatever devices.
      build: makes the module; it is traced, so nothing is allocated. Its dtypes are what is loaded.
      blocks: how many it makes, which must be stored before they are traced.
      weights: "int8" keeps matrices in int8 instead, quantised one by one as they come.
      mesh: over which they go, key/value heads copied where they are fewer than `model`; None: the
        default device.

    Raises:
      UserError: parameters missing, extra or mis-shaped (all of them in one message); files that
        are damaged.
    """
    folder = Path(path).absolute() / PARAMETERS
    if not folder.is_dir():
        raise UserError(f"{path}: {PARAMETERS}/ is lost or damaged; {ANEW}")
    if hosts.is_first():  # Orbax itself does not see a changed bit of a large parameter
        files.check_seal(Path(path), ANEW)
    stored = _stored(folder)
    found = {block.group(1) for name in stored if (block := re.match(r"(.*blocks\.\d+)\.", name))}
    if blocks > len(found):
        raise UserError(
            f"{path}: {DESCRIPTION} describes {blocks} layers, and {PARAMETERS}/ holds {len(found)}"
        )
    module = parameters.outline(build)

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
    problems = parameters.mismatches(wanted, stored)
    parameters.refuse(str(path), problems, "saved from another architecture")
    if not int8.wanted(weights):
        return place(parameters.filled(module, _read(folder, wanted)), mesh)
    arrays = _read(folder, {n: x for n, x in wanted.items() if not int8.is_matrix(n)})
    for name in filter(int8.is_matrix, wanted):
        wide = wanted[name].update(dtype=FLOAT32)
        arrays |= int8.split(name, _read(folder, {name: wide})[name], wanted[name].dtype)
    module = parameters.outline(lambda: int8.quantised(build()))
    return place(parameters.filled(module, arrays), mesh)


def _stored(folder: Path) -> Mapping[str, Any]:
    """Shapes of the parameters in a folder, by name."""
    with _damaged(folder), _checkpointer() as checkpointer:
        stored = checkpointer.metadata(folder).item_metadata
        if stored is None:
            raise UserError(f"{folder}: damaged; {ANEW}")
        return {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in stored.items()}


def _read(folder: Path, wanted: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
    """Some of the parameters in a folder, with the dtypes and shardings `wanted`."""
    import orbax.checkpoint as ocp  # here: it takes half a second, which other folders do without

    arguments = ocp.args.PyTreeRestore(
        item=dict(wanted),
        restore_args=ocp.checkpoint_utils.construct_restore_args(dict(wanted)),
        partial_restore=True,
    )
    alone = _alone()
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    with _damaged(folder), ocp.Checkpointer(handler, multiprocessing_options=alone) as checkpointer:
        return checkpointer.restore(folder, args=arguments)


@contextlib.contextmanager
def _damaged(folder: Path) -> Iterator[None]:
    """Turns what Orbax raises into one line that names the folder; lack of memory is no damage."""
    try:
        yield
    except (UserError, MemoryError, jax.errors.JaxRuntimeError):
        raise
    except Exception as error:  # there are many kinds; the files are at fault
        raise UserError(f"{folder}: damaged ({hub.reason(error)}); {ANEW}") from error


def _checkpointer() -> ocp.StandardCheckpointer:
    import orbax.checkpoint as ocp

    return ocp.StandardCheckpointer(multiprocessing_options=_alone())


def _alone() -> ocp.options.MultiprocessingOptions:
    """Reads and writes without a word to other hosts: each loads when it comes to it."""
    import orbax.checkpoint as ocp

    here = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=here, active_processes={here}, barrier_sync_key_prefix=f"host{here}"
    )
