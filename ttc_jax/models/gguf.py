"""GGUF files: weights, config and tokenizer in one, as llama.cpp writes them."""

from __future__ import annotations

import dataclasses
import functools
import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from ttc_jax.errors import UserError
from ttc_jax.models.config import ModelConfig, Rope
from ttc_jax.models.families import FAMILIES, Rule, read_config
from ttc_jax.models.rope import frequencies
from ttc_jax.parallel.mesh import Part, whole

# llama.cpp's name of an architecture -> ours (Mistral is a "llama" there).
ARCHITECTURES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
}
# Layers of the largest Gemma, whose attention scale is 1 / sqrt(D / H) where the others' is
# 1 / sqrt(h). The files do not say; llama.cpp tells them by this number too.
LARGEST_GEMMA = {"gemma2": 46, "gemma3": 62}
# By how much Llama 3 slows each frequency down. How the file's author arrived there is not stored;
# all of Meta's releases share these bounds.
ROPE_FACTORS = "rope_freqs.weight"
LLAMA3_LOW, LLAMA3_HIGH, LLAMA3_CONTEXT = 1.0, 4.0, 8192


class GGUFFile:
    """A GGUF file, open for reading; a `weights.Source`.

    Raises:
      UserError: not a whole GGUF file, one part of several, or of an unsupported architecture.
    """

    def __init__(self, path: Path):
        self.where = str(path)
        self.metadata, self._tensors = read_header(path)
        # GGUF writes dimensions innermost first.
        self.shapes = {
            name: tuple(int(n) for n in reversed(tensor.shape))
            for name, tensor in self._tensors.items()
        }
        self.repeated: tuple[str, ...] = ()  # the reader refuses such files
        self.leftovers = (r"rope_freqs\.weight",)
        self.architecture = str(self.metadata.get("general.architecture"))
        if self.architecture not in ARCHITECTURES:
            raise UserError(
                f"{path}: architecture {self.architecture!r} is not supported; "
                f"supported are {', '.join(ARCHITECTURES)}"
            )
        if self.metadata.get("split.count", 1) > 1:
            raise UserError(
                f"{path}: one part of several; merge them with llama-gguf-split --merge"
            )
        self.config = self._read_config()
        self.rules = self._rename_rules()

    def read(self, name: str, part: Part) -> np.ndarray:
        """A part of one tensor, which is dequantized to float32 as a whole."""
        tensor = self._tensors[name]
        try:
            return gguf.dequantize(tensor.data, tensor.tensor_type)[part]
        except NotImplementedError as error:
            kind = tensor.tensor_type.name
            raise UserError(f"{self.where}: {name} is {kind}, which cannot be read") from error

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

    def _read_config(self) -> ModelConfig:
        _, config = read_config(self._fields(), self.where)
        if ROPE_FACTORS in self.shapes:
            rope = self._llama3_rope(config.ropes[0], config.head_size)
            config = dataclasses.replace(config, ropes=(rope,) * config.depth)
        return config

    def _own(self, key: str, default: Any = None) -> Any:
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        if value is None:
            raise UserError(f"{self.where}: metadata {self.architecture}.{key} is missing")
        return value

    def _fields(self) -> dict[str, Any]:
        """The metadata under the names of a `config.json`."""
        own = self._own
        heads, width, depth = (
            own("attention.head_count"),
            own("embedding_length"),
            own("block_count"),
        )
        head_size = own("attention.key_length", width // heads)
        rope = {"rope_theta": own("rope.freq_base", 10_000.0), "rope_type": "default"}
        if (scaling := own("rope.scaling.type", "none")) != "none":
            rope |= {"rope_type": scaling, "factor": own("rope.scaling.factor", 1.0)}
        fields = {
            "model_type": ARCHITECTURES[self.architecture],
            "vocab_size": self.shapes.get("token_embd.weight", (0,))[0],
            "hidden_size": width,
            "num_hidden_layers": depth,
            "num_attention_heads": heads,
            "num_key_value_heads": own("attention.head_count_kv", heads),
            "head_dim": head_size,
            "intermediate_size": own("feed_forward_length"),
            "max_position_embeddings": own("context_length"),
            "rms_norm_eps": own("attention.layer_norm_rms_epsilon"),
            "tie_word_embeddings": "output.weight" not in self.shapes,
            "attention_bias": "blk.0.attn_q.bias" in self.shapes,
            "mlp_bias": "blk.0.ffn_gate.bias" in self.shapes,
            "rope_parameters": rope,
        }
        if self.architecture in LARGEST_GEMMA:
            largest = depth == LARGEST_GEMMA[self.architecture]
            fields |= {
                "sliding_window": own("attention.sliding_window"),
                "query_pre_attn_scalar": width // heads if largest else head_size,
                "attn_logit_softcapping": own("attn_logit_softcapping", 0.0) or None,
                "final_logit_softcapping": own("final_logit_softcapping", 0.0) or None,
            }
        if self.architecture == "gemma3":
            local = {"rope_theta": own("rope.freq_base_swa", 10_000.0), "rope_type": "default"}
            fields |= {
                "rope_parameters": {"full_attention": rope, "sliding_attention": local},
                "sliding_window_pattern": own("attention.sliding_window_pattern", 6),
            }
        return fields

    def _llama3_rope(self, rope: Rope, head_size: int) -> Rope:
        factors = self.read(ROPE_FACTORS, whole(self.shapes[ROPE_FACTORS]))
        scaled = dataclasses.replace(
            rope,
            llama3_factor=float(factors.max()),
            llama3_low_freq_factor=LLAMA3_LOW,
            llama3_high_freq_factor=LLAMA3_HIGH,
            llama3_original_context=LLAMA3_CONTEXT,
        )
        ratio = frequencies(rope, head_size) / frequencies(scaled, head_size)
        if not np.allclose(ratio, factors, rtol=1e-3):
            raise UserError(f"{self.where}: {ROPE_FACTORS} is not the rope scaling of Llama 3")
        return scaled


def read_header(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metadata by key, and tensors (mapped into memory, quantized) by name.

    Raises:
      UserError: not a whole GGUF file.
    """
    stat = path.stat()
    return _parse_header(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=2)  # parsing takes seconds, and both weights and tokenizer need it
def _parse_header(path: Path, modified: int, size: int) -> tuple[dict[str, Any], dict[str, Any]]:
    del modified, size  # they tell one state of the file from the next
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError) as error:
        raise UserError(f"{path}: not a whole GGUF file ({error})") from error
    metadata = {key: field.contents() for key, field in reader.fields.items()}
    return metadata, {tensor.name: tensor for tensor in reader.tensors}
