"""GGUF files: weights, config and tokenizer in one, as llama.cpp writes them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import gguf
import numpy as np

from ttc_jax.errors import UserError
from ttc_jax.models.config import ModelConfig, Rope
from ttc_jax.models.families import FAMILIES, Rule, read_config
from ttc_jax.models.gguf_config import ARCHITECTURES, KEYS, read_fields
from ttc_jax.models.gguf_header import read_header as read_header
from ttc_jax.models.gguf_metadata import Metadata
from ttc_jax.models.rope import frequencies
from ttc_jax.sharding.mesh import Part, whole

# By how much Llama 3 slows each frequency down. How the file's author arrived there is not stored;
# all of Meta's releases share these bounds.
ROPE_FACTORS = "rope_freqs.weight"
LLAMA3_LOW, LLAMA3_HIGH, LLAMA3_CONTEXT = 1.0, 4.0, 8192


class GGUFFile:
    """A GGUF file, open for reading; a `weights.Source`.

    Raises:
      UserError: not a whole GGUF file, one part of several, or of an unsupported architecture; a
        key of its metadata that is missing, of the wrong type, or says what is not supported.
    """

    def __init__(self, path: Path):
        self.where = str(path)
        values, self._tensors = read_header(path)
        self.metadata = Metadata(values, self.where)
        self.shapes = {name: tensor.shape for name, tensor in self._tensors.items()}
        self.repeated: tuple[str, ...] = ()  # the header's reader refuses such files
        self.architecture = self.metadata.text("general.architecture")
        if self.architecture not in ARCHITECTURES:
            raise UserError(
                f"{path}: architecture {self.architecture!r} is not supported; "
                f"supported are {', '.join(ARCHITECTURES)}"
            )
        if self.metadata.whole("split.count", 1) > 1:
            raise UserError(
                f"{path}: one part of several; merge them with llama-gguf-split --merge"
            )
        scaled = self.architecture == "llama" and ROPE_FACTORS in self.shapes
        self.leftovers: tuple[str, ...] = (re.escape(ROPE_FACTORS),) if scaled else ()
        fields = read_fields(self.metadata, self.architecture, self.shapes)
        names = {ours: f"metadata {self.architecture}.{key}" for ours, key in KEYS.items()}
        _, self.config = read_config(fields, self.where, names)
        if scaled:
            self.config = self._llama3(self.config)
        self.rules = self._rename_rules()

    def read(self, name: str, part: Part) -> np.ndarray:
        """A part of one tensor, which is dequantized to float32 as a whole."""
        tensor = self._tensors[name]
        try:
            return gguf.dequantize(tensor.data, tensor.kind)[part]
        except NotImplementedError as error:
            raise UserError(
                f"{self.where}: {name} is {tensor.kind.name}, which cannot be read"
            ) from error

    def _rename_rules(self) -> tuple[Rule, ...]:
        """The rules of the family, by the names and layouts of this file."""
        arch = next(a for a, name in gguf.MODEL_ARCH_NAMES.items() if name == self.architecture)
        names = gguf.get_tensor_name_map(arch, 1)  # layer by layer; all layers are named alike
        rules = []
        for rule in FAMILIES[ARCHITECTURES[self.architecture]].rules:
            name = names.get_name(rule.tensor.format(i=0), (".weight", ".bias"))
            if name is None:  # this architecture has no such tensor
                continue
            if "{i}" in rule.tensor:
                name = name.replace("blk.0.", "blk.{i}.")
            layout = rule.layout
            if self.architecture == "llama" and re.search(r"\.[qk]_proj\.", rule.tensor):
                # The two halves of a head that rotate together are stored interleaved.
                source, target = layout.split("->")
                layout = source.replace("h)", "c p)") + "->" + target.replace("h", "(p c)")
            # Norms are stored as the whole scale, Gemma's too.
            rules.append(dataclasses.replace(rule, tensor=name, layout=layout, shift=0.0))
        return tuple(rules)

    def _llama3(self, config: ModelConfig) -> ModelConfig:
        """The config with the rope of Llama 3, of which the file has just the factors."""
        factors = self.read(ROPE_FACTORS, whole(self.shapes[ROPE_FACTORS]))
        plain = config.ropes[0]
        if factors.shape == (config.head_size // 2,) and 1 <= (most := float(factors.max())) < 1e6:
            rope: Rope = dataclasses.replace(
                plain,
                llama3_factor=most,
                llama3_low_freq_factor=LLAMA3_LOW,
                llama3_high_freq_factor=LLAMA3_HIGH,
                llama3_original_context=LLAMA3_CONTEXT,
            )
            usual, slowed = (frequencies(r, config.head_size) for r in (plain, rope))
            if np.allclose(usual / slowed, factors, rtol=1e-3):
                return dataclasses.replace(config, ropes=(rope,) * config.depth)
        raise UserError(f"{self.where}: {ROPE_FACTORS} is not the rope scaling of Llama 3")
