"""Model configs that must be refused in one line: what is changed in a good one, and what is named.

A further one is a further row.
"""

from __future__ import annotations

from typing import Any

NAN, INFINITY = float("nan"), float("inf")
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e6,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def _rope(rope: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"rope_parameters": {**rope, **changes}}


# Family in `small.CONFIGS`, changed fields of its config.json, what the message holds.
BAD: list[tuple[str, dict[str, Any], str]] = [
    # Sizes: of every wrong type, none, negative, absurd.
    *(
        ("llama", {field: value}, field)
        for field in (
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "head_dim",
            "intermediate_size",
            "max_position_embeddings",
        )
        for value in (0, -1, 10**12, "12", True, 2.5, NAN, [4], {"a": 1})
    ),
    ("llama", {"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000; it must be a whole"),
    ("qwen2", {"num_hidden_layers": 10**9}, "num_hidden_layers"),  # transformers lists its layers
    ("gemma3", {"num_hidden_layers": 10**9, "layer_types": None}, "num_hidden_layers"),
    ("mistral", {"vocab_size": 10**400}, "vocab_size is a number of 401 digits"),
    ("llama", {"num_hidden_layers": None}, "num_hidden_layers"),
    ("llama", {"num_attention_heads": 5}, "num_attention_heads is 5, not a multiple of"),
    ("llama", {"num_key_value_heads": 4}, "not a multiple of num_key_value_heads 4"),
    ("llama", {"head_dim": 15}, "even"),
    # Numbers of the forward pass.
    *(
        ("llama", {"rms_norm_eps": value}, "rms_norm_eps")
        for value in (0.0, -1e-5, NAN, INFINITY, "1e-5", True, None, 5.0, 1e-60)
    ),
    *(
        ("gemma2", {field: value}, field)
        for field in ("attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar")
        for value in (0.0, -30.0, NAN, INFINITY, "30", [30.0])
    ),
    *(
        ("mistral", {"sliding_window": value}, "sliding_window")
        for value in (0, -1, "8", 2.5, True)
    ),
    ("llama", {"hidden_act": "relu"}, "activation 'relu' is not supported"),
    ("llama", {"hidden_act": None}, "hidden_act"),
    ("llama", {"hidden_act": ["silu"]}, "hidden_act"),
    ("gemma2", {"layer_types": ["full_attention"]}, "layer"),
    ("gemma2", {"layer_types": ["full_attention"] * 4}, "layer"),
    ("gemma2", {"layer_types": ["none"] * 3}, "layer_types"),
    ("gemma2", {"layer_types": "full"}, "layer_types"),
    ("gemma2", {"layer_types": 3}, "layer_types"),
    ("gemma2", {"layer_types": ["a long text"] * 100_000}, "layer_types"),
    ("gemma2", {"layer_types": [["full_attention"]] * 3}, "layer_types"),
    ("llama", {"hidden_act": "a\nb\x1b[31m" * 10_000}, "activation"),
    ("llama", {"tie_word_embeddings": "false"}, "tie_word_embeddings"),
    ("llama", {"tie_word_embeddings": None}, "tie_word_embeddings"),
    ("llama", {"attention_bias": "no"}, "attention_bias"),
    ("llama", {"mlp_bias": 1}, "mlp_bias"),
    ("llama", {"model_type": ["llama"]}, "model_type"),
    ("llama", {"model_type": {"llama": 1}}, "model_type"),
    ("llama", {"model_type": "x" * 10_000}, "model_type"),
    ("gemma3", {"model_type": "gemma3", "text_config": 3}, "text_config is 3"),
    ("gemma3", {"model_type": "gemma3", "text_config": {"num_hidden_layers": 10**9}}, "num_hidden"),
    # Rope.
    *(
        ("llama", _rope({"rope_type": "default"}, rope_theta=value), "rope_theta")
        for value in (0.0, -1e4, NAN, INFINITY, "1e4", None, True, 0.5)
    ),
    *(
        ("qwen2", _rope({"rope_type": "linear", "rope_theta": 1e4}, factor=value), "factor")
        for value in (0, -2.0, NAN, INFINITY, "2", None, [2.0])
    ),
    *(
        ("llama", _rope(_LLAMA3, **{field: value}), field)
        for field in (
            "factor",
            "low_freq_factor",
            "high_freq_factor",
            "original_max_position_embeddings",
        )
        for value in (0, -1, NAN, "4", None)
    ),
    ("llama", _rope(_LLAMA3, low_freq_factor=4.0), "must be below rope high_freq_factor"),
    *(
        ("qwen3", _rope(_YARN, **{field: value}), field)
        for field in (
            "factor",
            "original_max_position_embeddings",
            "attention_factor",
            "beta_fast",
            "beta_slow",
        )
        for value in (-1, NAN, INFINITY, "4", [4])
    ),
    ("qwen3", _rope(_YARN, factor=0.5), "factor"),
    ("qwen3", _rope(_YARN, truncate="no"), "truncate"),
    ("qwen3", _rope(_YARN, mscale=-1.0, mscale_all_dim=1.0), "mscale"),
    ("qwen3", _rope(_YARN, mscale=1.0, mscale_all_dim="1"), "mscale_all_dim"),
    ("qwen3", _rope(_YARN, beta_fast=1.0, beta_slow=32.0), "must be below rope beta_fast"),
    ("qwen3", _rope(_YARN, rope_theta=1.0), "rope_theta"),
    ("qwen3", _rope({"rope_type": "yarn", "rope_theta": 1e6}), "factor"),
    ("qwen3", _rope(_YARN, rope_type="dynamic"), "rope type 'dynamic' is not supported"),
    ("qwen3", _rope(_YARN, rope_type="su"), "rope type 'su' is not supported"),
    ("qwen3", _rope(_YARN, rope_type=3), "rope type 3 is not supported"),
    ("qwen3", _rope(_YARN, rope_type=["yarn"]), "yarn"),
    ("qwen3", _rope(_YARN, partial_rotary_factor=0.5), "over whole heads"),
    ("llama", _rope({"rope_type": "default"}, partial_rotary_factor=0.5), "partial_rotary_factor"),
    ("llama", {"rope_parameters": None, "rope_scaling": "yarn"}, "rope_scaling is 'yarn'; it must"),
    ("llama", {"rope_parameters": None, "rope_scaling": [{}]}, "rope_scaling is [{}]; it must"),
    ("llama", {"rope_parameters": "x"}, "rope_parameters"),
    ("llama", {"rope_parameters": [1]}, "rope_parameters"),
    ("gemma3", {"rope_parameters": {"full_attention": 3, "sliding_attention": {}}}, "config.json"),
    ("llama", {"rope_parameters": None, "rope_theta": "x"}, "rope_theta"),
    ("llama", {"rope_parameters": None, "rope_scaling": {"type": 3}}, "rope type 3"),
    # Quantized weights.
    ("llama", {"quantization_config": {"quant_method": "gptq"}}, "quantized weights (gptq"),
    ("llama", {"quantization_config": {"quant_method": "fp8"}}, "quantized weights (fp8"),
    ("llama", {"quantization_config": {"load_in_4bit": True}}, "quantization_config"),
    ("llama", {"quantization_config": [1]}, "quantization_config"),
    ("llama", {"compression_config": {"format": "pack"}}, "compression_config"),
]
