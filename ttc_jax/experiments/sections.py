"""What the sections of a config become: storage, tokenizers, meshes and batch sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from ttc_jax import assets
from ttc_jax.config import as_flag
from ttc_jax.errors import UserError
from ttc_jax.experiments.setup import fitting
from ttc_jax.models.characters import CharTokenizer
from ttc_jax.models.tokenizers import Tokenizer, load_tokenizer
from ttc_jax.models.transformer import Transformer
from ttc_jax.models.weights import KEPT, load_generator
from ttc_jax.policy_file import Entry
from ttc_jax.sampling.draw import SamplingParams
from ttc_jax.sampling.thinking import ThinkingFormat
from ttc_jax.search.strategies import Strategy, make_strategy
from ttc_jax.sharding.mesh import make_mesh
from ttc_jax.tasks import load_task
from ttc_jax.tasks.task import Task


def storage(section: ConfigDict) -> dict[str, str]:
    """Returns the dtype and int8 options of a model, as `load_generator` takes them."""
    return {field: section[field] for field in KEPT if field in section}


def tokenizer_of(section: Mapping[str, Any] | ConfigDict, vocab_size: int) -> Tokenizer:
    """Returns the tokenizer of a generator, from its section of a config.

    Args:
      section: with `path`, and perhaps `tokenizer`, the path of its own that this has.
      vocab_size: V of the model.

    Raises:
      UserError: as `load_tokenizer`.
    """
    path, own = (assets.locate(section.get(name) or "") for name in ("path", "tokenizer"))
    return load_tokenizer(own or path, vocab_size, model=path)


def task_of(section: Mapping[str, Any] | ConfigDict) -> Task:
    """Returns the task that a section describes: its `name`, and the options of its class.

    Raises:
      UserError: as `load_task`, or there is no name.
    """
    options = dict(section)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise UserError("task.name: must be the name of a task, as text")
    return load_task(name, **options)


def make_ready(task: Task) -> None:
    """Lets a task refuse before models are read what it could not judge later.

    A task says so in a method `ready()`, if it has one.

    Raises:
      UserError: what the task raises.
    """
    ready = getattr(task, "ready", None)
    if callable(ready):
        ready()


def strategy_of(section: ConfigDict) -> Strategy:
    """Returns the strategy that a section names, with its `options`.

    Args:
      section: `search`.

    Raises:
      UserError: as `make_strategy`.
    """
    return make_strategy(section.strategy, **section.options)


def entry_of(section: ConfigDict) -> Entry:
    """Returns a strategy with its options, from an entry of `sweep.strategies` or from `search`."""
    held = section.to_dict()
    return Entry(**{x.name: held[x.name] for x in dataclasses.fields(Entry) if x.name in held})


def fresh_tokenizer(config: ConfigDict) -> Tokenizer:
    """Returns the tokenizer of a model that is trained from fresh weights.

    It is `start.tokenizer`; where that is empty, one of the pieces that the task is written in, as
    its attribute `pieces` says.

    Raises:
      UserError: as `load_tokenizer`, or the task does not say.
    """
    if path := config.start.tokenizer:
        return load_tokenizer(assets.locate(path))
    pieces: Sequence[str] = getattr(task_of(config.task), "pieces", ())
    if not pieces:
        raise UserError(
            f"{as_flag('start.tokenizer', '')}: fresh weights need a tokenizer, and the task "
            f"{config.task.name} has no `pieces` to make one of; name a tokenizer, or a model to "
            "start from by --config.start.path"
        )
    return CharTokenizer(pieces)


def mesh_of(config: ConfigDict, devices: Sequence[Any]) -> Mesh | None:
    """Returns the mesh of `execution.mesh`, made of the first devices; None for one device.

    Raises:
      UserError: as `make_mesh`.
    """
    data, model = config.execution.mesh.data, config.execution.mesh.model
    if data == model == 1:
        return None
    return make_mesh(data, model, devices[: max(data * model, 1)])


def questions_at_once(config: ConfigDict, candidates: int) -> int:
    """Returns B, the questions decoded together: as many as `execution.rows` has room for."""
    return fitting(config.execution.rows, candidates, config.execution.mesh.data)


def sampling_params(config: ConfigDict) -> SamplingParams:
    """Returns how tokens are drawn, from the section `sampling`."""
    sampling = config.sampling
    return SamplingParams(sampling.temperature, sampling.top_k, sampling.top_p)


def thinking_of(config: ConfigDict) -> ThinkingFormat | None:
    """Returns the section `thinking`; None without one, and where it names no mark."""
    section = config.get("thinking", {})
    if not section.get("close"):
        return None
    given = dict(section)
    if given.get("maximum", -1) < 0:
        given["maximum"] = None
    return ThinkingFormat(**given)


def generator_of(
    config: ConfigDict, mesh: Mesh | None, load: Callable[..., Transformer] = load_generator
) -> tuple[Transformer, Tokenizer]:
    """Returns the generator that a config names, and its tokenizer.

    Raises:
      UserError: as `load_generator` and `load_tokenizer`.
    """
    path = assets.locate(config.generator.path)
    generator = load(path, **storage(config.generator), mesh=mesh)
    return generator, tokenizer_of(config.generator, generator.config.vocab_size)
