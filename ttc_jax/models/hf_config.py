"""Fields of a Hugging Face `config.json`: which of them tell a model's shape, and what they may be.

GGUF's metadata come under the same names, so that both pass one check.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from typing import Any

from ttc_jax.errors import UserError
from ttc_jax.models import limits
from ttc_jax.models.config import Rope
from ttc_jax.models.hub import transformers
from ttc_jax.models.limits import FieldError

_log = logging.getLogger(__name__)
TEXT = "text_config"  # where a model with eyes holds the config of its text model
# Field of `ModelConfig` -> field of config.json.
NAMES = {
    "vocab_size": "vocab_size",
    "width": "hidden_size",
    "depth": "num_hidden_layers",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_size": "head_dim",
    "ffn_width": "intermediate_size",
    "context": "max_position_embeddings",
    "windows": "sliding_window",
    "norm_eps": "rms_norm_eps",
    "attention_scale": "query_pre_attn_scalar",
    "attention_softcap": "attn_logit_softcapping",
    "logit_softcap": "final_logit_softcapping",
    "qkv_bias": "attention_bias",
    "out_bias": "attention_bias",
    "ffn_bias": "mlp_bias",
    "tied_head": "tie_word_embeddings",
}
ROPE_NAMES = {
    f"rope.{ours}": theirs
    for theirs, all_of_ours in {
        "rope_theta": ("theta",),
        "factor": ("linear_factor", "llama3_factor", "yarn_factor"),
        "low_freq_factor": ("llama3_low_freq_factor",),
        "high_freq_factor": ("llama3_high_freq_factor",),
        "original_max_position_embeddings": ("llama3_original_context", "yarn_original_context"),
        "beta_fast": ("yarn_beta_fast",),
        "beta_slow": ("yarn_beta_slow",),
        "truncate": ("yarn_truncate",),
        "mscale": ("yarn_mscale",),
        "mscale_all_dim": ("yarn_mscale_all_dim",),
        "attention_factor": ("attention_factor",),
    }.items()
    for ours in all_of_ours
}
SIZES = ("vocab_size", "width", "depth", "heads", "kv_heads", "head_size", "ffn_width", "context")
# All that a shape is read from. What else stands in the file never reaches transformers, which
# makes dictionaries of `num_labels` entries, looks up `dtype` in torch, and so on.
READ = {
    *NAMES.values(),
    "model_type",
    "hidden_act",
    "hidden_activation",
    "layer_types",
    "max_window_layers",
    "use_sliding_window",
    "sliding_window_pattern",
    "use_bidirectional_attention",
    "original_max_position_embeddings",
    "rope_theta",
    "partial_rotary_factor",
    "rope_local_base_freq",
    "rope_parameters",
    "rope_scaling",
}
ROPE_TYPES = ("default", "linear", "llama3", "yarn")
# What the section of a rope of any type may hold, beside its parameters.
ROPE_TOO = {
    "type",
    "rope_type",
    "partial_rotary_factor",
    "finetuned",
    "original_max_position_embeddings",
    "truncate",
}


def parse(kind: str, fields: Mapping[str, Any], where: str) -> Any:
    """The fields, with the defaults of the model type, as transformers' config of its text model.

    Raises:
      UserError: transformers refuses them.
      FieldError: a size is of another type or beyond its limits.
    """
    nested = fields.get(TEXT)
    if nested is not None and not isinstance(nested, dict):
        raise UserError(f"{where}: {TEXT} is {limits.show(nested)}; it must be an object")
    read = {name: value for name, value in fields.items() if name in READ}
    if nested is not None:
        read[TEXT] = {name: value for name, value in nested.items() if name in READ}
    for part in (read, read.get(TEXT, {})):  # before transformers makes a list of so many layers
        for name in SIZES:
            if (value := part.get(NAMES[name])) is not None:
                limit = limits.LAYERS if name == "depth" else limits.MODEL[name]
                limits.check(name, value, limit)
    try:
        config = transformers().CONFIG_MAPPING[kind].from_dict(read)
    except Exception as error:  # whatever it raises, the file is at fault
        _explain_ropes(read.get(TEXT, read), where)
        raise UserError(f"{where}: {limits.printable(str(error))}") from error
    text = getattr(config, TEXT, config)
    # Of a model with eyes the outer field is the one that transformers goes by.
    if isinstance(tied := fields.get("tie_word_embeddings"), bool):
        text.tie_word_embeddings = tied
    return text


def _explain_ropes(fields: Mapping[str, Any], where: str) -> None:
    """Says of ropes at which transformers stumbled what is wrong, if it is that.

    Raises:
      UserError, FieldError: as `read_rope`.
    """
    for name in ("rope_parameters", "rope_scaling"):
        found = fields.get(name)
        if found is not None and not isinstance(found, dict):
            raise UserError(f"{where}: {name} is {limits.show(found)}; it must be an object")
        if found is not None:
            of_types = [rope for rope in found.values() if isinstance(rope, dict)]
            for rope in of_types or [found]:
                kind = rope.get("rope_type", rope.get("type", "default"))
                read_rope({"rope_theta": 1e4, **rope, "rope_type": kind}, "", where)


def context(stored: int, ropes: Iterable[Rope]) -> int:
    """The longest sequence: as stored, or as far as YaRN stretches the original context.

    Configs that got their YaRN by hand, as the model cards of Qwen say, still store the original.
    """
    stretched = [int(r.yarn_factor * r.yarn_original_context) for r in ropes if r.yarn_factor != 1]
    return max(stretched, default=stored)


def read_rope(rope_parameters: Any, layer_type: str, where: str) -> Rope:
    """The rope of one type of layer.

    Args:
      rope_parameters: of all types together, or by type.

    Raises:
      UserError: a rope type that is not supported.
      FieldError: a parameter is missing, of another type or beyond its limits.
    """
    parameters = rope_parameters
    if isinstance(rope_parameters, Mapping) and layer_type in rope_parameters:
        parameters = rope_parameters[layer_type]
        if isinstance(parameters, Mapping):
            # transformers looks for this one beside the types of layers, not in them.
            parameters = {**parameters, "truncate": rope_parameters.get("truncate", True)}
    if not isinstance(parameters, Mapping):
        raise UserError(
            f"{where}: rope_parameters is {limits.show(parameters)}; it must be an object"
        )
    kind = parameters.get("rope_type", "default")
    if kind not in ROPE_TYPES:
        raise UserError(
            f"{where}: rope type {limits.show(kind)} is not supported; supported are "
            f"{', '.join(ROPE_TYPES)}"
        )
    if (part := parameters.get("partial_rotary_factor", 1)) != 1:
        raise UserError(
            f"{where}: partial_rotary_factor is {limits.show(part)}; supported is 1, a rope over "
            "whole heads"
        )
    wanted = {"theta": "rope_theta"}
    if kind == "linear":
        wanted |= {"linear_factor": "factor"}
    if kind == "llama3":
        wanted |= {
            "llama3_factor": "factor",
            "llama3_low_freq_factor": "low_freq_factor",
            "llama3_high_freq_factor": "high_freq_factor",
            "llama3_original_context": "original_max_position_embeddings",
        }
    known = ROPE_TOO.union(ROPE_NAMES.values() if kind == "yarn" else wanted.values())
    if unread := [key for key in parameters if key not in known]:
        shown = ", ".join(map(limits.show, unread[:10]))
        _log.warning("%s: keys that say nothing of a %s rope are ignored: %s", where, kind, shown)
    if kind == "yarn":
        return _yarn(parameters)
    return Rope(**{ours: _number(ours, parameters, theirs) for ours, theirs in wanted.items()})


def _number(ours: str, parameters: Mapping[str, Any], theirs: str) -> Any:
    """A parameter that must be there, within its limits."""
    if theirs not in parameters:
        raise FieldError(f"rope.{ours}", "is missing")
    limits.check(f"rope.{ours}", value := parameters[theirs], limits.ROPE[ours])
    return value if isinstance(limits.ROPE[ours], limits.Whole) else float(value)


def _yarn(parameters: Mapping[str, Any]) -> Rope:
    """The rope of YaRN, with the attention factor and defaults as transformers has them."""
    factor = _number("yarn_factor", parameters, "factor")
    mscale, mscale_all = (parameters.get(name) for name in ("mscale", "mscale_all_dim"))
    for name, value in (("yarn_mscale", mscale), ("yarn_mscale_all_dim", mscale_all)):
        limits.check(f"rope.{name}", value or None, limits.Or(limits.POSITIVE))

    def growth(multiplier: float = 1.0) -> float:
        return 0.1 * multiplier * math.log(factor) + 1.0

    given = parameters.get("attention_factor")
    if given is None:
        given = growth(mscale) / growth(mscale_all) if mscale and mscale_all else growth()
    return Rope(
        theta=_number("theta", parameters, "rope_theta"),
        yarn_factor=factor,
        yarn_original_context=_number(
            "yarn_original_context", parameters, "original_max_position_embeddings"
        ),
        yarn_beta_fast=parameters.get("beta_fast") or 32.0,
        yarn_beta_slow=parameters.get("beta_slow") or 1.0,
        yarn_truncate=parameters.get("truncate", True),
        attention_factor=given,
    )
