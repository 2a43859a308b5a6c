"""PRMs that were trained elsewhere: Hugging Face checkpoints of a language model and a head."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from ttc_jax.errors import UserError
from ttc_jax.models import hub, int8, parameters
from ttc_jax.models.config import ModelConfig
from ttc_jax.models.tokenizers import Tokenizer, load_tokenizer
from ttc_jax.models.weights import SafetensorsFolder, load
from ttc_jax.sharding.mesh import place, whole
from ttc_jax.verifiers.formats import PRMFormat
from ttc_jax.verifiers.prm import ProcessRewardModel
from ttc_jax.verifiers.prm_config import PRMConfig
from ttc_jax.verifiers.steps import StepFormat

WRAPPERS = (("pretrained_model.", ""),)  # what names begin with in checkpoints of wrapped models


def load_public(
    path: str,
    form: PRMFormat,
    *,
    dtype: jax.typing.DTypeLike,
    weights: str = "",
    cache: str = "",
    mesh: Mesh | None = None,
) -> ProcessRewardModel:
    """Loads the PRM at `path` with its format; its storage is as for `load_generator`.

    Its head becomes one output, of which `score_steps` gives the sigmoid: softmax over two outputs
    is the sigmoid of their difference. So of a head over the vocabulary two rows are read.

    Args:
      path: a folder with `config.json`, safetensors and a tokenizer, or a hub name.

    Raises:
      UserError: as `load_generator`; a head that the checkpoint does not have, of another shape, or
        without the outputs that the format names.
    """
    folder = hub.resolve(path)
    if not folder.is_dir():
        raise UserError(f"verifier.path={path}: a PRM is a folder with config.json and safetensors")
    source = SafetensorsFolder(folder, WRAPPERS)
    tokenizer = load_tokenizer(folder, source.config.vocab_size)
    head = _head(source, form, tokenizer)
    # Of a head over the vocabulary nothing else is wanted.
    source.config = dataclasses.replace(source.config, tied_head=True)
    source.leftovers += tuple(rf"{re.escape(layer)}\.(weight|bias)" for layer in form.head)
    trunk = load(source, dtype=jnp.dtype(dtype), weights=weights, cache=cache, mesh=mesh)
    config = _config(source.config, head)
    prm = _outline(config, dtype, weights, cache)
    arrays = {f"trunk.{name}": array for name, array in parameters.named(trunk).items()}
    for name, value in head.items():
        arrays[name] = jnp.asarray(value, dtype)
    prm = parameters.filled(prm, arrays)
    prm.format, prm.tokenizer = form, tokenizer
    return place(prm, mesh)


def outline_public(
    trunk: ModelConfig,
    form: PRMFormat,
    *,
    dtype: jax.typing.DTypeLike,
    weights: str = "",
    cache: str = "",
) -> ProcessRewardModel:
    """Returns the same without weights, its head as wide as the trunk where it has two layers.

    Its tokenizer is not read; markers stand in for as many tokens as its marks will take.
    """
    hidden = trunk.width if len(form.head) == 2 else 0
    markers = StepFormat((0,) * form.mark_tokens)
    config = PRMConfig(
        dataclasses.replace(trunk, tied_head=True), hidden=hidden, step_format=markers
    )
    prm = _outline(config, dtype, weights, cache)
    prm.format = form
    return prm


def _outline(
    config: PRMConfig, dtype: jax.typing.DTypeLike, weights: str, cache: str
) -> ProcessRewardModel:
    def build() -> ProcessRewardModel:
        prm = ProcessRewardModel(
            config, rngs=nnx.Rngs(0), dtype=jnp.dtype(dtype), int8_cache=int8.wanted(cache)
        )
        return int8.quantised(prm) if int8.wanted(weights) else prm

    return parameters.outline(build)


def _config(trunk: ModelConfig, head: Mapping[str, np.ndarray]) -> PRMConfig:
    hidden = len(head["score"]) if "hidden" in head else 0
    return PRMConfig(trunk, hidden=hidden, bias="score_bias" in head)


def _head(
    source: SafetensorsFolder, form: PRMFormat, tokenizer: Tokenizer
) -> dict[str, np.ndarray]:
    """Returns the head's parameters, as `ProcessRewardModel` calls them, float32."""
    *before, last = form.head
    found: dict[str, np.ndarray] = {}
    width = source.config.width
    if before:
        found["hidden"] = _all(source, f"{before[0]}.weight", (None, width)).T
        width = found["hidden"].shape[1]
    weight = f"{last}.weight"
    if last == "lm_head" and weight not in source.shapes and source.config.tied_head:
        weight = "model.embed_tokens.weight"
    outputs = [_output(name, getattr(form, name), tokenizer, source) for name in ("good", "bad")]
    rows = [row for row in outputs if row is not None]
    _check(source, weight, (None if rows else 1, width))
    size = source.shapes[weight][0]
    if too_high := [row for row in rows if row >= size]:
        raise UserError(f"{source.where}: {weight} has {size} outputs, and none is {too_high[0]}")

    def difference(name: str) -> np.ndarray:
        good, *bad = (
            source.read(name, (slice(row, row + 1), *whole(source.shapes[name][1:])))[0]
            for row in rows or [0]
        )
        return good.astype(np.float32) - (bad[0].astype(np.float32) if bad else 0)

    found["score"] = difference(weight)
    biases = [f"{layer}.bias" for layer in form.head if f"{layer}.bias" in source.shapes]
    if biases and len(biases) < len(form.head):
        raise UserError(f"{source.where}: of the layers of the head just {biases[0]} is there")
    if before and biases:
        found["hidden_bias"] = _all(source, f"{before[0]}.bias", (width,))
    if biases:
        _check(source, f"{last}.bias", (size,))
        found["score_bias"] = difference(f"{last}.bias")
    return found


def _output(
    name: str, value: int | str | None, tokenizer: Tokenizer, source: SafetensorsFolder
) -> int | None:
    """Returns which output of the head `good` or `bad` is."""
    if not isinstance(value, str):
        return value
    tokens = tokenizer.encode(value, inside=True)
    if len(tokens) != 1:
        raise UserError(
            f"{source.where}: {name} is {value!r}, which is {len(tokens)} tokens of the PRM's "
            "tokenizer and must be one; its format does not belong to it"
        )
    return tokens[0]


def _all(source: SafetensorsFolder, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    _check(source, name, shape)
    return source.read(name, whole(source.shapes[name])).astype(np.float32)


def _check(source: SafetensorsFolder, name: str, shape: tuple[int | None, ...]) -> None:
    """Checks that a tensor is there and has a shape, of which None may be any length."""
    found = source.shapes.get(name)
    if found is None:
        raise UserError(f"{source.where}: {name} is missing, which the format's head names")
    fits = len(found) == len(shape) and all(
        wanted in (None, size) for wanted, size in zip(shape, found, strict=True)
    )
    if not fits:
        wanted = ["any" if size is None else size for size in shape]
        raise UserError(
            f"{source.where}: {name} of the head is {list(found)}, not {wanted}; "
            "check the format's head, good and bad"
        )
