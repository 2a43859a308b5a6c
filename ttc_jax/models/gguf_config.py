"""What the metadata of a GGUF file says of a model's shape, in the words of a `config.json`.

Names and defaults are those of llama.cpp, which wrote the files and defines what they mean.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from typing import Any

from ttc_jax.models.gguf_metadata import Metadata

_log = logging.getLogger(__name__)
EMBEDDING, HEAD = "token_embd.weight", "output.weight"
# llama.cpp's name of an architecture -> ours (Mistral is a "llama" there).
ARCHITECTURES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
}
MAX_WIDTH = 1 << 20  # of anything that a layer has
# Field of a `config.json` -> key of the architecture that it is read from.
KEYS = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "intermediate_size": "feed_forward_length",
    "max_position_embeddings": "context_length",
    "sliding_window": "attention.sliding_window",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "rope_theta": "rope.freq_base",
    "factor": "rope.scaling.factor",
    "original_max_position_embeddings": "rope.scaling.original_context_length",
    "beta_fast": "rope.scaling.yarn_beta_fast",
    "beta_slow": "rope.scaling.yarn_beta_slow",
    "attention_factor": "rope.scaling.attn_factor",
}
# Layers of the largest Gemma, whose attention scale is 1 / sqrt(D / H) where the others' is
# 1 / sqrt(h). The files do not say; llama.cpp tells them by this number too.
LARGEST_GEMMA = {"gemma2": 46, "gemma3": 62}
# Every how many layers one is without a window, where the file does not say.
PATTERN = {"gemma2": 2, "gemma3": 6}
WINDOW = {"gemma2": 4096, "gemma3": None}
SOFTCAPS = {"gemma2": (50.0, 30.0), "gemma3": (0.0, 0.0)}  # of attention, of the logits
# Keys that change what a model computes in ways that are not supported, and what they may be.
NEUTRAL: dict[str, Any] = {
    "expert_count": 0,
    "attention.causal": True,
    "attention.clamp_kqv": 0.0,
    "attention.max_alibi_bias": 0.0,
    "use_parallel_residual": False,
    "logit_scale": 1.0,
    "residual_scale": 1.0,
    "embedding_scale": 1.0,
}
SCALINGS = ("none", "linear", "yarn")
# Keys that say nothing which the tensors or other keys do not say.
UNUSED = {"vocab_size", "expert_used_count", "tensor_data_layout", "rope.scaling.finetuned"}


def read_fields(
    metadata: Metadata, architecture: str, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Any]:
    """The metadata under the names of a `config.json`.

    Args:
      shapes: of all tensors.

    Raises:
      UserError: a key is missing, of the wrong type, or says what is not supported.
    """

    def own(key: str) -> str:
        return f"{architecture}.{key}"

    depth = metadata.whole(own("block_count"), least=1)
    stored = len({found[1] for name in shapes if (found := re.match(r"blk\.(\d+)\.", name))})
    if depth != stored:
        metadata.refuse(own("block_count"), f"is {depth}, but there are tensors of {stored} layers")
    if len(embedding := shapes.get(EMBEDDING, ())) != 2:
        metadata.refuse(own("embedding_length"), f"cannot be checked: no matrix {EMBEDDING}")
    width = metadata.whole(own("embedding_length"), least=1, most=MAX_WIDTH)
    if width != embedding[1]:
        metadata.refuse(own("embedding_length"), f"is {width}, but {EMBEDDING} has {embedding[1]}")
    heads = metadata.whole_of_layers(own("attention.head_count"), depth, most=MAX_WIDTH)
    head_size = _head_size(metadata, architecture, width // heads)
    for key, neutral in NEUTRAL.items():
        if metadata.has(own(key)) and repr(metadata.values[own(key)]) != repr(neutral):
            metadata.refuse(own(key), f"is not {neutral!r}, which is not supported")
    context = metadata.whole(own("context_length"), least=1)
    rope = _rope(metadata, architecture, context)
    fields = {
        "model_type": ARCHITECTURES[architecture],
        "vocab_size": embedding[0],
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.whole_of_layers(
            own("attention.head_count_kv"), depth, heads, most=MAX_WIDTH
        ),
        "head_dim": head_size,
        "intermediate_size": metadata.whole_of_layers(
            own("feed_forward_length"), depth, most=MAX_WIDTH
        ),
        "max_position_embeddings": context,
        "rms_norm_eps": metadata.number(own("attention.layer_norm_rms_epsilon")),
        "tie_word_embeddings": HEAD not in shapes,
        "attention_bias": "blk.0.attn_q.bias" in shapes,
        "mlp_bias": "blk.0.ffn_gate.bias" in shapes,
        "rope_parameters": rope,
    }
    if architecture in LARGEST_GEMMA:
        largest = depth == LARGEST_GEMMA[architecture]
        fields["query_pre_attn_scalar"] = width // heads if largest else head_size
        fields |= _gemma_fields(metadata, architecture, depth, rope)
    _warn_of_unread(metadata, architecture)
    return fields


def _gemma_fields(
    metadata: Metadata, architecture: str, depth: int, rope: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the fields that Gemma alone has."""

    def own(key: str) -> str:
        return f"{architecture}.{key}"

    attention, logits = SOFTCAPS[architecture]
    kinds = _layer_types(metadata, own("attention.sliding_window_pattern"), architecture, depth)
    fields: dict[str, Any] = {
        "attn_logit_softcapping": metadata.number(own("attn_logit_softcapping"), attention) or None,
        "final_logit_softcapping": metadata.number(own("final_logit_softcapping"), logits) or None,
        "layer_types": kinds,
    }
    if "sliding_attention" in kinds:
        window = own("attention.sliding_window")
        fields["sliding_window"] = metadata.whole(window, WINDOW[architecture], least=1)
    if architecture == "gemma3":
        theta = metadata.number(own("rope.freq_base_swa"), 10_000.0)
        local = {"rope_theta": theta, "rope_type": "default"}
        fields["rope_parameters"] = {"full_attention": rope, "sliding_attention": local}
    return fields


def _head_size(metadata: Metadata, architecture: str, default: int) -> int:
    """Features of a head, which all that is stored of it must agree on."""
    size = metadata.whole(f"{architecture}.attention.key_length", default, least=1, most=MAX_WIDTH)
    for key in ("attention.value_length", "rope.dimension_count"):
        for name in (f"{architecture}.{key}", f"{architecture}.{key}_swa"):
            if (other := metadata.whole(name, size)) != size:
                metadata.refuse(name, f"is {other} of heads of {size}, which is not supported")
    return size


def _layer_types(metadata: Metadata, key: str, architecture: str, depth: int) -> list[str]:
    """The kind of each layer: by a flag for each, or by every how many one has no window."""
    pattern = metadata.values.get(key)
    if pattern is None or isinstance(pattern, int):
        every = metadata.whole(key, PATTERN[architecture])
        windows = [every == 0 or i % every < every - 1 for i in range(depth)]
    else:
        metadata.asked.add(key)
        if not hasattr(pattern, "__len__") or len(pattern) != depth:
            metadata.refuse(key, f"is not one number, nor a flag for each of {depth} layers")
        windows = list(map(bool, pattern))
        if any(flag not in (True, False) for flag in pattern):
            metadata.refuse(key, "has other entries than true and false")
    return ["sliding_attention" if window else "full_attention" for window in windows]


def _rope(metadata: Metadata, architecture: str, context: int) -> dict[str, Any]:
    """The rope of a layer without a window."""

    def number(key: str, default: float) -> float:
        return metadata.number(f"{architecture}.rope.{key}", default)

    rope: dict[str, Any] = {"rope_theta": number("freq_base", 10_000.0), "rope_type": "default"}
    # A factor alone is a linear one, and had another name before other kinds of scaling came.
    kind = metadata.text(key := f"{architecture}.rope.scaling.type", "linear")
    if kind not in SCALINGS:
        metadata.refuse(key, f"is {kind!r}; supported are {', '.join(SCALINGS)}")
    factor = number("scaling.factor", number("scale_linear", 1.0)) or 1.0
    if kind == "none" or (kind == "linear" and factor == 1.0):
        return rope
    rope |= {"rope_type": kind, "factor": factor}
    if kind == "yarn":
        extrapolation = f"{architecture}.rope.scaling.yarn_ext_factor"
        if (mix := metadata.number(extrapolation, 1.0)) != 1.0:
            metadata.refuse(extrapolation, f"is {mix}, which is not supported")
        rope |= {
            "original_max_position_embeddings": metadata.whole(
                f"{architecture}.rope.scaling.original_context_length", context, least=1
            ),
            "attention_factor": _yarn_attention(number, factor),
            "beta_fast": number("scaling.yarn_beta_fast", 32.0),
            "beta_slow": number("scaling.yarn_beta_slow", 1.0),
        }
    return rope


def _yarn_attention(number: Any, factor: float) -> float:
    """By what YaRN multiplies cosines and sines."""

    def scale(multiplier: float) -> float:
        return 0.1 * multiplier * math.log(factor) + 1.0 if factor > 1 else 1.0

    multiplier = number("scaling.yarn_log_multiplier", 0.0)
    usual = scale(1.0) / scale(multiplier) if multiplier else scale(1.0)
    return number("scaling.yarn_attn_factor", usual) * number("scaling.attn_factor", 1.0)


def _warn_of_unread(metadata: Metadata, architecture: str) -> None:
    """Names the keys of the architecture that were not looked at, if any."""
    known = metadata.asked | {f"{architecture}.{key}" for key in UNUSED}
    prefix = f"{architecture}."
    if unread := [key for key in metadata.values if key.startswith(prefix) and key not in known]:
        shown = ", ".join(map(repr, unread[:10]))
        _log.warning("%s: keys that are not known here, and ignored: %s", metadata.where, shown)
