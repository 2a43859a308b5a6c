"""What the sections of a config become: storage, tokenizers, meshes and batch sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from ttc_jax import assets
from ttc_jax.models.tokenizers import Tokenizer, load_tokenizer
from ttc_jax.models.transformer import Transformer
from ttc_jax.models.weights import KEPT, load_generator
from ttc_jax.sampling.draw import SamplingParams
from ttc_jax.sharding.mesh import make_mesh


def storage(section: ConfigDict) -> dict[str, str]:
    """The dtype and int8 options of a model, as `load_generator` takes them."""
    return {field: section[field] for field in KEPT if field in section}


def tokenizer_of(section: ConfigDict, vocab_size: int) -> Tokenizer:
    """The tokenizer of a generator, from its section of a config.

    Args:
      section: with `path`, and perhaps `tokenizer`, the path of its own that this has.
      vocab_size: V of the model.

    Raises:
      UserError: as `load_tokenizer`.
    """
    path, own = (assets.locate(section.get(name) or "") for name in ("path", "tokenizer"))
    return load_tokenizer(own or path, vocab_size, model=path)


def mesh_of(config: ConfigDict, devices: Sequence[Any]) -> Mesh | None:
    """The mesh that `execution.mesh` describes, of the first of `devices`; None: one device.

    Raises:
      UserError: as `make_mesh`.
    """
    data, model = config.execution.mesh.data, config.execution.mesh.model
    if data == model == 1:
        return None
    return make_mesh(data, model, devices[: max(data * model, 1)])


def questions_at_once(config: ConfigDict, candidates: int) -> int:
    """B, questions searched or sampled together: as many as `execution.rows` has room for.

    Every shard of `execution.mesh.data` gets as many, and one at least.
    """
    shards = config.execution.mesh.data
    return shards * max(1, config.execution.rows // (candidates * shards))


def sampling_params(config: ConfigDict) -> SamplingParams:
    """How tokens are drawn, from the section `sampling`."""
    sampling = config.sampling
    return SamplingParams(sampling.temperature, sampling.top_k, sampling.top_p)


def generator_of(
    config: ConfigDict, mesh: Mesh | None, load: Callable[..., Transformer] = load_generator
) -> tuple[Transformer, Tokenizer]:
    """The generator that a config names, and its tokenizer.

    Raises:
      UserError: as `load_generator` and `load_tokenizer`.
    """
    path = assets.locate(config.generator.path)
    generator = load(path, **storage(config.generator), mesh=mesh)
    return generator, tokenizer_of(config.generator, generator.config.vocab_size)
