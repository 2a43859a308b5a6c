"""What sets the public model families apart, as data: how a config reads, where each tensor goes.

Tensor names and layouts are those of Hugging Face checkpoints. A linear layer there is
[outputs, inputs]; the axes in a layout are the letters of the glossary.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from ttc_jax.errors import UserError
from ttc_jax.models import hf_config, limits, quantized
from ttc_jax.models.config import ModelConfig
from ttc_jax.sharding.mesh import Part


@dataclasses.dataclass(frozen=True)
class Rule:
    """Where one tensor of a checkpoint goes; `{i}` in the names stands for the layer.

    `layout` says how the tensor's axes become those of its place: "(K G h) D -> D K G h" splits the
    first axis by key/value head, query of that head and feature, and moves D to the front.
    """

    tensor: str
    parameter: str
    layout: str
    place: tuple[slice | int, ...] = ()  # index into the parameter; () is all of it
    shift: float = 0.0  # added to the tensor

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Shape that the tensor must have, by the lengths of the axes."""
        source, _ = self.layout.split("->")
        return tuple(math.prod(sizes[axis] for axis in group) for group in _groups(source))

    def read(
        self, read: Callable[[Part], np.ndarray], sizes: Mapping[str, int], part: Part
    ) -> np.ndarray:
        """A part of the tensor as it stands in its place, of which no more is read than it takes.

        Args:
          read: gives a part of the tensor.
          part: of the place. It cuts axes that stand alone there and come first in their group of
            the tensor, such as heads and features of the ffn.
        """
        source, target = map(_groups, self.layout.split("->"))
        before, after = ([axis for group in side for axis in group] for side in (source, target))
        taken = {axis: slice(0, sizes[axis]) for axis in before}
        for group, span in zip(target, part, strict=True):
            if len(group) == 1:
                taken[group[0]] = span
        spans = []
        for first, *others in source:
            assert all(taken[axis] == slice(0, sizes[axis]) for axis in others), self.layout
            inner = math.prod(sizes[axis] for axis in others)
            spans.append(slice(taken[first].start * inner, taken[first].stop * inner))
        lengths = {axis: span.stop - span.start for axis, span in taken.items()}
        tensor = read(tuple(spans)).reshape([lengths[axis] for axis in before])
        tensor = tensor.transpose([before.index(axis) for axis in after])
        tensor = tensor.reshape([math.prod(lengths[axis] for axis in group) for group in target])
        return tensor.astype(np.float32) + self.shift if self.shift else tensor


def _groups(side: str) -> list[list[str]]:
    """The axes that make up each dimension: "D (K h)" is [[D], [K, h]]."""
    return [re.findall(r"\w", group) for group in re.findall(r"\([^)]*\)|\w", side)]


_ALL = slice(None)
_Q, _K, _V = slice(None, -2), -2, -1  # slots of the fused qkv: G queries, the key, the value


def _layer(tensor: str, parameter: str, *rest: Any, shift: float = 0.0) -> Rule:
    return Rule(
        f"model.layers.{{i}}.{tensor}", f"layers.blocks.{{i}}.{parameter}", *rest, shift=shift
    )


_MATRICES = (
    Rule("model.embed_tokens.weight", "embedding", "V D -> V D"),
    Rule("lm_head.weight", "head", "V D -> D V"),
    _layer("self_attn.q_proj.weight", "attention.qkv", "(K G h) D -> D K G h", (_ALL, _ALL, _Q)),
    _layer("self_attn.k_proj.weight", "attention.qkv", "(K h) D -> D K h", (_ALL, _ALL, _K)),
    _layer("self_attn.v_proj.weight", "attention.qkv", "(K h) D -> D K h", (_ALL, _ALL, _V)),
    _layer("self_attn.q_proj.bias", "attention.qkv_bias", "(K G h) -> K G h", (_ALL, _Q)),
    _layer("self_attn.k_proj.bias", "attention.qkv_bias", "(K h) -> K h", (_ALL, _K)),
    _layer("self_attn.v_proj.bias", "attention.qkv_bias", "(K h) -> K h", (_ALL, _V)),
    _layer("self_attn.o_proj.weight", "attention.out", "D (K G h) -> K G h D"),
    _layer("self_attn.o_proj.bias", "attention.out_bias", "D -> D"),
    _layer("mlp.gate_proj.weight", "ffn.gate_up", "F D -> D F", (_ALL, 0)),
    _layer("mlp.up_proj.weight", "ffn.gate_up", "F D -> D F", (_ALL, 1)),
    _layer("mlp.gate_proj.bias", "ffn.gate_up_bias", "F -> F", (0,)),
    _layer("mlp.up_proj.bias", "ffn.gate_up_bias", "F -> F", (1,)),
    _layer("mlp.down_proj.weight", "ffn.down", "D F -> F D"),
    _layer("mlp.down_proj.bias", "ffn.down_bias", "D -> D"),
)


def _norms(shift: float, **ours_to_theirs: str) -> tuple[Rule, ...]:
    """The final norm, the norms of queries and keys, and those of a layer."""
    return (
        Rule("model.norm.weight", "final_norm.scale", "D -> D", shift=shift),
        _layer("self_attn.q_norm.weight", "attention.q_norm.scale", "h -> h", shift=shift),
        _layer("self_attn.k_norm.weight", "attention.k_norm.scale", "h -> h", shift=shift),
        *(
            _layer(f"{theirs}.weight", f"{ours}.scale", "D -> D", shift=shift)
            for ours, theirs in ours_to_theirs.items()
        ),
    )


_NORMS = _norms(0.0, attention_norm="input_layernorm", ffn_norm="post_attention_layernorm")
_GEMMA_NORMS = _norms(
    1.0,  # stored as scale - 1
    attention_norm="input_layernorm",
    attention_post_norm="post_attention_layernorm",
    ffn_norm="pre_feedforward_layernorm",
    ffn_post_norm="post_feedforward_layernorm",
)


@dataclasses.dataclass(frozen=True)
class Family:
    """One family of checkpoints.

    Rules for parameters that a model does not have (biases, an untied head) rest.
    """

    qkv_bias: bool | None = None  # None: config.attention_bias tells, for the output too
    qk_norm: bool = False
    windows: Literal["none", "all", "by layer"] = "none"  # layers with a sliding window
    gemma: bool = False  # scaled embedding, own attention scale, norms on both sides
    softcaps_attention: bool = False
    rules: tuple[Rule, ...] = _MATRICES + _NORMS
    renamed: tuple[tuple[str, str], ...] = ()  # prefix of a tensor's name -> what it is here
    # Regexes of tensors that a checkpoint may hold beyond the rules, all derived from others: a
    # stored copy of a tied head, buffers of older releases (rotary frequencies, causal masks).
    leftovers: tuple[str, ...] = (
        r"lm_head\.weight",
        r"model\.(.*\.)?rotary_emb(_local)?\.(inv_freq|cos_cached|sin_cached)",
        r"model\.layers\.\d+\.self_attn\.(masked_)?bias",
    )


_GEMMA = Family(windows="by layer", gemma=True, rules=_MATRICES + _GEMMA_NORMS)
FAMILIES: dict[str, Family] = {
    "llama": Family(),
    "mistral": Family(windows="all"),
    "qwen2": Family(windows="by layer", qkv_bias=True),
    "qwen3": Family(windows="by layer", qk_norm=True),
    "gemma2": dataclasses.replace(_GEMMA, softcaps_attention=True),
    "gemma3_text": dataclasses.replace(
        _GEMMA,
        qk_norm=True,
        renamed=(
            ("language_model.model.", "model."),
            ("model.language_model.", "model."),
            ("language_model.lm_head.", "lm_head."),
        ),
        # Gemma 3 with eyes: the text model is used alone.
        leftovers=(*_GEMMA.leftovers, r"(model\.)?(vision_tower|multi_modal_projector)\..*"),
    ),
}
NESTED = {"gemma3": "gemma3_text"}  # model types that hold one of the above as `text_config`
ACTIVATIONS: dict[str, Literal["silu", "gelu_tanh"]] = {
    "silu": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
}


def read_config(
    fields: Mapping[str, Any], where: str, names: Mapping[str, str] | None = None
) -> tuple[Family, ModelConfig]:
    """Family and shape of the model that the fields of a `config.json` describe.

    Args:
      fields: of today's or older transformers releases (`rope_scaling`, `rope_theta`).
      where: file that errors name.
      names: field -> what the file itself calls it, if that is not `config.json`.

    Raises:
      UserError: a model type, activation, rope type or other feature that is not supported, or a
        field beyond its limits.
    """
    names = names or {}
    of_file = {ours: names.get(theirs, theirs) for ours, theirs in hf_config.NAMES.items()}
    for ours, theirs in hf_config.ROPE_NAMES.items():
        of_file[ours] = names.get(theirs, f"rope {theirs}")
    with limits.naming(where, of_file):
        return _read(fields, where)


def _read(fields: Mapping[str, Any], where: str) -> tuple[Family, ModelConfig]:
    kind = fields.get("model_type")
    if not isinstance(kind, str) or kind not in (*FAMILIES, *NESTED):
        known = ", ".join(sorted((*FAMILIES, *NESTED)))
        raise UserError(
            f"{where}: model_type {limits.show(kind)} is not supported; supported are {known}"
        )
    quantized.refuse_config(fields, where)
    hf = hf_config.parse(kind, fields, where)
    kind = NESTED.get(kind, kind)
    family = FAMILIES[kind]

    activation = hf.hidden_activation if family.gemma else hf.hidden_act
    if activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise UserError(
            f"{where}: activation {limits.show(activation)} is not supported; supported are {known}"
        )
    if getattr(hf, "use_bidirectional_attention", None):
        raise UserError(f"{where}: use_bidirectional_attention is not supported")

    depth, width = hf.num_hidden_layers, hf.hidden_size
    kinds = (
        hf.layer_types
        if family.windows == "by layer"
        else ["sliding_attention" if family.windows == "all" else "full_attention"] * depth
    )
    if unknown := set(kinds) - {"sliding_attention", "full_attention"}:
        raise UserError(f"{where}: layer type {unknown.pop()!r} is not supported")
    ropes = {kind: hf_config.read_rope(hf.rope_parameters, kind, where) for kind in set(kinds)}
    attention_bias = bool(getattr(hf, "attention_bias", False))
    if family.gemma:
        limits.check("attention_scale", hf.query_pre_attn_scalar, limits.POSITIVE)
    return family, ModelConfig(
        vocab_size=hf.vocab_size,
        width=width,
        depth=depth,
        heads=hf.num_attention_heads,
        kv_heads=hf.num_key_value_heads,
        head_size=getattr(hf, "head_dim", None) or width // hf.num_attention_heads,
        ffn_width=hf.intermediate_size,
        context=hf_config.context(hf.max_position_embeddings, ropes.values()),
        windows=tuple(hf.sliding_window if k == "sliding_attention" else None for k in kinds),
        ropes=tuple(ropes[k] for k in kinds),
        norm_eps=hf.rms_norm_eps,
        activation=ACTIVATIONS[activation],
        qkv_bias=attention_bias if family.qkv_bias is None else family.qkv_bias,
        out_bias=attention_bias if family.qkv_bias is None else False,
        ffn_bias=bool(getattr(hf, "mlp_bias", False)),
        qk_norm=family.qk_norm,
        post_norms=family.gemma,
        tied_head=hf.tie_word_embeddings,
        embedding_scale=width**0.5 if family.gemma else 1.0,
        attention_scale=hf.query_pre_attn_scalar**-0.5 if family.gemma else None,
        attention_softcap=hf.attn_logit_softcapping if family.softcaps_attention else None,
        logit_softcap=hf.final_logit_softcapping if family.gemma else None,
    )


def sizes(config: ModelConfig) -> dict[str, int]:
    """Length of each axis that a layout can name."""
    return {
        "V": config.vocab_size,
        "D": config.width,
        "F": config.ffn_width,
        "K": config.kv_heads,
        "G": config.group,
        "h": config.head_size,
        "p": 2,  # the two halves of a head that rotate together,
        "c": config.head_size // 2,  # and the pairs (GGUF stores them interleaved)
    }
