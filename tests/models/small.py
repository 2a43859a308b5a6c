"""Small models of every family, with the features that are easily forgotten switched on.

Sizes are odd on purpose, windows are shorter than the tests' sequences, and soft caps bite.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from flax import nnx

from ttc_jax.models import parameters
from ttc_jax.models.families import read_config, sizes
from ttc_jax.models.transformer import Transformer

_SHARED = {"vocab_size": 131, "max_position_embeddings": 160, "initializer_range": 0.2}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}

# Fields of config.json, as today's transformers writes them.
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {
        **_SHARED,
        "model_type": "llama",
        "hidden_size": 60,
        "intermediate_size": 100,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 14,
        "attention_bias": True,
        "mlp_bias": True,
        "tie_word_embeddings": False,
        "rope_parameters": _LLAMA3,
    },
    "mistral": {
        **_SHARED,
        "model_type": "mistral",
        "hidden_size": 52,
        "intermediate_size": 76,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 18,
        "sliding_window": 7,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
    },
    "qwen2": {
        **_SHARED,
        "model_type": "qwen2",
        "hidden_size": 112,
        "intermediate_size": 90,
        "num_hidden_layers": 3,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "use_sliding_window": True,
        "sliding_window": 9,
        "max_window_layers": 1,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0},
    },
    "qwen3": {
        **_SHARED,
        "model_type": "qwen3",
        "hidden_size": 44,
        "intermediate_size": 70,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 22,
        "attention_bias": True,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    },
    "gemma2": {
        **_SHARED,
        "model_type": "gemma2",
        "hidden_size": 48,
        "intermediate_size": 66,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 20,
        "query_pre_attn_scalar": 13,
        "sliding_window": 8,
        "attn_logit_softcapping": 3.0,
        "final_logit_softcapping": 5.0,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
    },
    "gemma3": {
        **_SHARED,
        "model_type": "gemma3_text",
        "hidden_size": 64,
        "intermediate_size": 58,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 26,
        "query_pre_attn_scalar": 19,
        "sliding_window": 6,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "final_logit_softcapping": 4.0,
        "attention_bias": True,
        "tie_word_embeddings": False,
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    },
}


def wanted_parameters(fields: dict[str, Any]) -> dict[str, Any]:
    """Every parameter of the model that the fields describe, by name, as shapes."""
    _, config = read_config(fields, "config.json")
    return parameters.named(parameters.outline(lambda: Transformer(config, rngs=nnx.Rngs(0))))


def random_tensors(fields: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """Tensors of a checkpoint under Hugging Face's names."""
    family, config = read_config(fields, "config.json")
    wanted, rng = wanted_parameters(fields), np.random.default_rng(seed)
    return {
        rule.tensor.format(i=i): rng.normal(0, 0.2, rule.shape(sizes(config))).astype(np.float32)
        for rule in family.rules
        for i in range(config.depth if "{i}" in rule.tensor else 1)
        if rule.parameter.format(i=i) in wanted
    }


def write_folder(
    folder: Path, fields: dict[str, Any], *shards: dict[str, np.ndarray], index: bool = False
) -> Path:
    """A model folder with one file, or with shards and their index."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(fields))
    if len(shards) == 1 and not index:
        safetensors.numpy.save_file(shards[0], folder / "model.safetensors")
        return folder
    places = {}
    for number, tensors in enumerate(shards, start=1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        safetensors.numpy.save_file(tensors, folder / name)
        places |= dict.fromkeys(tensors, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return folder
