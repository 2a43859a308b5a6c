"""Weights of a generator, wherever they are: Hugging Face folder or name, GGUF, our own folder."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from ttc_jax.errors import UserError
from ttc_jax.models import checkpoints, folders, gguf, hub, int8, parameters, quantized
from ttc_jax.models.config import ModelConfig
from ttc_jax.models.families import Rule, read_config, sizes
from ttc_jax.models.transformer import FLOAT32, Transformer
from ttc_jax.sharding.mesh import Part, copies, part_of_copied, place, whole

_log = logging.getLogger(__name__)
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
COMPARED = 1 << 22  # numbers of each of two tensors in memory at a time
# What a config says of how a model is kept, and what that may be.
KEPT = ("dtype", "weights", "cache")


@runtime_checkable
class Source(Protocol):
    """A checkpoint whose tensors can be read one by one."""

    @property
    def where(self) -> str:
        """The name that errors give it."""
        ...

    @property
    def config(self) -> ModelConfig:
        """Shape of the model."""
        ...

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Where each tensor goes."""
        ...

    @property
    def leftovers(self) -> tuple[str, ...]:
        """Regexes of tensors that may be there and are not read."""
        ...

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every tensor, by name."""
        ...

    @property
    def repeated(self) -> Sequence[str]:
        """Tensors stored more than once."""
        ...

    def read(self, name: str, part: Part) -> np.ndarray:
        """A part of one tensor."""
        ...


def load_generator(
    path: str | Path,
    *,
    dtype: jax.typing.DTypeLike = jnp.float32,
    weights: str = "",
    cache: str = "",
    mesh: Mesh | None = None,
) -> Transformer:
    """The generator at `path`.

    The checkpoint is read tensor by tensor, of each just what this host's devices need, and goes
    straight to where it lies on the mesh: the host holds about one parameter at a time. Key/value
    heads are copied where they are fewer than `model` (`sharding.mesh.copied`).

    Args:
      path: a folder with `config.json` and safetensors (one file, or shards with their index), a
        `.gguf` file, a folder that `ttc train` wrote, or a Hugging Face hub name.
      dtype: of the parameters, whatever the checkpoint's is, and so of all that is computed.
      weights: "int8" keeps matrices in int8 instead, quantised one by one as they come.
      cache: "int8" does so with keys and values.
      mesh: from `sharding.mesh.make_mesh`; None: the default device.

    Raises:
      UserError: no such path; no weights in it; an unsupported model; tensors missing, extra,
        mis-shaped or stored twice (all of them in one message); a mesh that does not divide the
        model.
    """
    found = hub.resolve(path)
    if checkpoints.is_model(found):
        return checkpoints.load_model(found, dtype=dtype, weights=weights, cache=cache, mesh=mesh)
    if found.is_file() and found.suffix != ".gguf":
        raise UserError(f"{found}: neither a .gguf file nor a model folder; give its folder")
    if found.is_file():
        source: Source = gguf.GGUFFile(found)
    else:
        source = SafetensorsFolder(found)
        source.settle_head(jnp.dtype(dtype))
    return load(source, dtype=jnp.dtype(dtype), weights=weights, cache=cache, mesh=mesh)


def load(
    source: Source, *, dtype: np.dtype, weights: str = "", cache: str = "", mesh: Mesh | None
) -> Transformer:
    """The transformer that `source` describes, filled with its tensors."""
    config, narrow, int8_cache = source.config, int8.wanted(weights), int8.wanted(cache)

    def build() -> Transformer:
        return Transformer(config, rngs=nnx.Rngs(0), dtype=dtype, int8_cache=int8_cache)

    pieces = match(source)
    model = parameters.outline(build)
    wanted = parameters.named(model)
    axes = sizes(config)
    arrays: dict[str, jax.Array] = {}
    targets = parameters.named(place(model, mesh))
    for name, like in wanted.items():
        quantise = narrow and int8.is_matrix(name)
        read = functools.partial(
            _assemble, source, pieces[name], axes, FLOAT32 if quantise else like.dtype
        )
        if mesh is None:
            array = jax.device_put(read(whole(like.shape)))
        else:
            array = _spread(name, like.shape, targets[name], mesh, read)
        arrays |= int8.split(name, array, dtype) if quantise else {name: array}
    if not narrow:
        return parameters.filled(model, arrays)
    model = parameters.outline(lambda: int8.quantised(build()))
    return place(parameters.filled(model, arrays), mesh)


def _spread(
    name: str,
    shape: tuple[int, ...],
    target: jax.Array,
    mesh: Mesh,
    read: Callable[[Part], np.ndarray],
) -> jax.Array:
    """A parameter of `shape` over the mesh, every part of it read once."""
    count = copies(name, shape, mesh)

    @functools.cache
    def part(bounds: tuple[tuple[int, int], ...]) -> np.ndarray:
        wanted = tuple(slice(*pair) for pair in bounds)
        return part_of_copied(name, shape, count, wanted, read)

    def of_device(index: Any) -> np.ndarray:
        spans = zip(index, target.shape, strict=True)
        return part(tuple(span.indices(size)[:2] for span, size in spans))

    return jax.make_array_from_callback(target.shape, target.sharding, of_device)


def _assemble(
    source: Source,
    pieces: Sequence[tuple[str, Rule]],
    axes: Mapping[str, int],
    dtype: np.dtype,
    part: Part,
) -> np.ndarray:
    """A part of the parameter that some tensors make up."""
    host = np.empty([span.stop - span.start for span in part], dtype)
    for tensor, rule in pieces:
        # A mesh cuts no axis along which several tensors share the parameter.
        held = rule.place + (slice(None),) * (len(part) - len(rule.place))
        inner = tuple(
            span if at == slice(None) else slice(0, len(range(span.stop)[at]))
            for span, at in zip(part, held, strict=True)
            if isinstance(at, slice)
        )
        host[rule.place] = rule.read(functools.partial(source.read, tensor), axes, inner)
    return host


def match(source: Source) -> dict[str, list[tuple[str, Rule]]]:
    """The tensors that make up each parameter of the model, every tensor used exactly once.

    Raises:
      UserError: names all tensors that are missing, extra, mis-shaped or stored twice.
    """
    axes, depth = sizes(source.config), source.config.depth
    wanted = _of_one_layer(source.config)
    expected: dict[str, tuple[str, Rule]] = {}
    for rule in source.rules:
        if rule.parameter.format(i=0) in wanted:
            for i in range(depth if "{i}" in rule.tensor else 1):
                expected[rule.tensor.format(i=i)] = (rule.parameter.format(i=i), rule)
    leftover = re.compile("|".join(source.leftovers))
    problems = [f"missing {name}" for name in expected if name not in source.shapes]
    problems += [
        f"extra {name}"
        for name in source.shapes
        if name not in expected and not leftover.fullmatch(name)
    ]
    problems += [f"{name} is stored more than once" for name in source.repeated]
    for name, (_, rule) in expected.items():
        shape, needed = source.shapes.get(name), rule.shape(axes)
        if shape is not None and shape != needed:
            problems.append(f"{name} is {list(shape)}, not {list(needed)}")
    parameters.refuse(
        source.where,
        problems,
        "the config and the weights do not belong together, or a copy is cut off",
    )
    pieces: dict[str, list[tuple[str, Rule]]] = {}
    for name, (parameter, rule) in expected.items():
        pieces.setdefault(parameter, []).append((name, rule))
    assert wanted <= pieces.keys(), "the table of tensors leaves a parameter empty"
    return pieces


def _of_one_layer(config: ModelConfig) -> set[str]:
    """Names of the parameters with those of the first layer alone, to which all layers are alike.

    So a model's depth costs nothing before it is known that so many layers are stored.
    """
    one = dataclasses.replace(config, depth=1, windows=(), ropes=())
    return set(parameters.named(parameters.outline(lambda: Transformer(one, rngs=nnx.Rngs(0)))))


class SafetensorsFolder:
    """A folder as Hugging Face's `save_pretrained` writes it.

    Args:
      renamed: prefixes of tensors' names, and what they are here, beyond the family's own.

    Raises:
      UserError: no config or weights, an unsupported model, or files that are damaged.
    """

    def __init__(self, folder: Path, renamed: Sequence[tuple[str, str]] = ()):
        self.where = str(folder)
        config = folder / folders.CONFIG
        if not config.exists():
            folders.refuse(folder)
        family, self.config = read_config(hub.read_json(config), str(config))
        files = folders.weight_files(folder)
        self.rules, self.leftovers = family.rules, family.leftovers
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._files: dict[str, tuple[str, Path]] = {}  # our name -> the file's own name, the file
        repeated: list[str] = []
        dtypes: dict[str, str] = {}

        def ours(stored: str) -> str:
            for prefix, here in (*renamed, *family.renamed):
                if stored.startswith(prefix):
                    return here + stored.removeprefix(prefix)
            return stored

        for path in files.paths:
            with folders.opened(path) as file:
                for stored in file.keys():  # noqa: SIM118, not a dict
                    if (name := ours(stored)) in self.shapes:
                        repeated.append(name)
                    described = file.get_slice(stored)
                    self.shapes[name] = tuple(described.get_shape())
                    dtypes[name] = described.get_dtype()
                    self._files[name] = (stored, path)
        self.repeated = tuple(repeated)
        derived = re.compile("|".join(self.leftovers))
        unread = [name for name in map(ours, files.indexed) if not derived.fullmatch(name)]
        parameters.refuse(
            self.where,
            [f"missing {name}" for name in unread if name not in self.shapes],
            f"{folders.INDEX} names it; copy the files anew",
        )
        quantized.refuse_tensors(
            {n: dtype for n, dtype in dtypes.items() if n == HEAD or not derived.fullmatch(n)},
            self.where,
        )

    def read(self, name: str, part: Part) -> np.ndarray:
        """A part of one tensor, in the dtype it is stored in; nothing else leaves the disk."""
        stored, path = self._files[name]
        with folders.opened(path) as file:
            return file.get_slice(stored)[part]

    def settle_head(self, dtype: np.dtype) -> None:
        """Decides, where the config ties the head to the embedding, by what is stored.

        As transformers 5 does: a stored head with other values than the embedding is the model's,
        config or not; a head without an embedding is both.

        Args:
          dtype: in which the two are compared, since the model has them in it.
        """
        if not self.config.tied_head or HEAD not in self.shapes:
            return
        if EMBEDDING not in self.shapes:
            self.shapes[EMBEDDING], self._files[EMBEDDING] = self.shapes[HEAD], self._files[HEAD]
        elif self.shapes[HEAD] != self.shapes[EMBEDDING]:  # for `match` to refuse
            self.config = dataclasses.replace(self.config, tied_head=False)
        elif not self._equal(HEAD, EMBEDDING, dtype):
            self.config = dataclasses.replace(self.config, tied_head=False)
            _log.warning(
                "%s: tie_word_embeddings is true, and %s is stored beside %s with other values: "
                "it is used, as transformers does; set tie_word_embeddings to false to say so",
                self.where, HEAD, EMBEDDING,
            )  # fmt: skip

    def _equal(self, one: str, other: str, dtype: np.dtype) -> bool:
        """Whether two tensors of one shape hold the same, compared by parts of some MiB."""
        rows, *inner = self.shapes[one]
        step = max(1, COMPARED // max(1, math.prod(inner)))
        for start in range(0, rows, step):
            part = (slice(start, min(start + step, rows)), *whole(tuple(inner)))
            mine, its = (self.read(name, part).astype(dtype) for name in (one, other))
            if not np.array_equal(mine, its):
                return False
        return True
