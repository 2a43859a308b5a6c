"""GGUF files written here, next to the Hugging Face folder of the same model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gguf
import numpy as np
import pytest

from tests.models.small import CONFIGS, random_tensors, write_folder
from ttc_jax.errors import UserError
from ttc_jax.models import parameters
from ttc_jax.models.config import Rope
from ttc_jax.models.gguf import GGUFFile
from ttc_jax.models.rope import frequencies
from ttc_jax.models.weights import load_generator

ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "mistral": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
    "gemma2": gguf.MODEL_ARCH.GEMMA2,
    "gemma3": gguf.MODEL_ARCH.GEMMA3,
}
# What a GGUF file cannot say is left out of the configs that are compared.
SAYABLE: dict[str, dict[str, Any]] = {
    "llama": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
    "mistral": {"sliding_window": None},
    "qwen2": {"use_sliding_window": False},
    "gemma2": {"query_pre_attn_scalar": 20},
    "gemma3": {"query_pre_attn_scalar": 26},
}


def fields_of(family: str) -> dict[str, Any]:
    fields = {**CONFIGS[family], **SAYABLE.get(family, {})}
    # GGUF has no biases of Gemma, and none of the ffn but Llama's.
    return fields | ({"attention_bias": False} if family == "gemma3" else {})


def write_gguf(
    path: Path,
    family: str,
    fields: dict[str, Any],
    tensors: dict[str, np.ndarray],
    extra: dict[str, np.ndarray] | None = None,
    name: str | None = None,
    split: int = 1,
    quantized: Mapping[str, gguf.GGMLQuantizationType] = MappingProxyType({}),
) -> Path:
    """As llama.cpp's converter: Llama's query and key rows interleaved, Gemma's norms plus one."""
    arch = ARCHITECTURES[family]
    writer = gguf.GGUFWriter(path, name or gguf.MODEL_ARCH_NAMES[arch])
    writer.add_context_length(fields["max_position_embeddings"])
    writer.add_embedding_length(fields["hidden_size"])
    writer.add_block_count(fields["num_hidden_layers"])
    writer.add_feed_forward_length(fields["intermediate_size"])
    writer.add_head_count(fields["num_attention_heads"])
    writer.add_head_count_kv(fields["num_key_value_heads"])
    if "head_dim" in fields:
        writer.add_key_length(fields["head_dim"])
    writer.add_layer_norm_rms_eps(2.0**-20)
    rope = fields["rope_parameters"]
    rope = rope.get("full_attention", rope)
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] != "default":
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
    if family.startswith("gemma"):
        writer.add_sliding_window(fields["sliding_window"])
        if cap := fields.get("attn_logit_softcapping"):
            writer.add_attn_logit_softcapping(cap)
        writer.add_final_logit_softcapping(fields["final_logit_softcapping"])
        if family == "gemma3":
            writer.add_sliding_window_pattern(2)
    if split > 1:
        writer.add_uint16("split.count", split)
    names = gguf.get_tensor_name_map(arch, fields["num_hidden_layers"])
    for theirs, values in tensors.items():
        ours = names.get_name(theirs, (".weight", ".bias"))
        assert ours is not None, theirs
        if arch == gguf.MODEL_ARCH.LLAMA and (found := re.search(r"\.([qk])_proj\.", theirs)):
            key = "num_attention_heads" if found[1] == "q" else "num_key_value_heads"
            shape = (fields[key], 2, fields["head_dim"] // 2, *values.shape[1:])
            values = values.reshape(shape).swapaxes(1, 2).reshape(values.shape)
        if family.startswith("gemma") and theirs.endswith("norm.weight"):
            values = values + 1
        if (kind := quantized.get(theirs)) is not None:
            writer.add_tensor(ours, gguf.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(ours, np.ascontiguousarray(values))
    for ours, values in (extra or {}).items():
        writer.add_tensor(ours, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("family", CONFIGS)
def test_same_model_as_safetensors(family: str, tmp_path: Path) -> None:
    fields = fields_of(family) | {"rms_norm_eps": 2.0**-20}
    tensors = random_tensors(fields)
    from_folder = load_generator(write_folder(tmp_path / "folder", fields, tensors))
    from_gguf = load_generator(write_gguf(tmp_path / "model.gguf", family, fields, tensors))
    assert from_gguf.config == from_folder.config
    ours = parameters.named(from_gguf)
    for name, array in parameters.named(from_folder).items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)


def test_quantized(tmp_path: Path) -> None:
    fields = {**fields_of("qwen2"), "hidden_size": 128, "num_attention_heads": 8}
    tensors, kind = random_tensors(fields), gguf.GGMLQuantizationType.Q8_0
    name = "model.layers.0.mlp.gate_proj.weight"
    path = write_gguf(tmp_path / "model.gguf", "qwen2", fields, tensors, quantized={name: kind})
    gate = load_generator(path).layers.blocks[0].ffn.gate_up[:, 0]
    rounded = gguf.dequantize(gguf.quantize(tensors[name], kind), kind)
    np.testing.assert_array_equal(gate, rounded.T)
    assert 0 < np.abs(rounded - tensors[name]).max() < 0.01


def test_rope_factors_of_llama3(tmp_path: Path) -> None:
    fields = fields_of("llama") | {
        "head_dim": 32,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0},
    }
    plain = Rope(500_000.0)
    wanted = Rope(500_000.0, llama3_factor=32.0)
    factors = frequencies(plain, 32) / frequencies(wanted, 32)
    tensors = random_tensors(fields)
    path = write_gguf(
        tmp_path / "model.gguf", "llama", fields, tensors, {"rope_freqs.weight": factors}
    )
    assert load_generator(path).config.ropes == (wanted, wanted)
    other = {"rope_freqs.weight": np.linspace(1, 8, 16, dtype=np.float32)}
    path = write_gguf(tmp_path / "other.gguf", "llama", fields, tensors, other)
    with pytest.raises(UserError, match=r"rope_freqs.weight is not the rope scaling of Llama 3"):
        load_generator(path)


def test_largest_gemma_scales_by_width(tmp_path: Path) -> None:
    fields = fields_of("gemma2") | {"num_hidden_layers": 46, "layer_types": None}
    path = write_gguf(tmp_path / "model.gguf", "gemma2", fields, random_tensors(fields))
    assert GGUFFile(path).config.attention_scale == (48 // 4) ** -0.5


def test_mistakes(tmp_path: Path) -> None:
    fields = fields_of("mistral")
    tensors = random_tensors(fields)

    def refusal(path: Path) -> str:
        with pytest.raises(UserError) as caught:
            load_generator(path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    odd = write_gguf(tmp_path / "odd.gguf", "mistral", fields, tensors, name="falcon")
    assert "architecture 'falcon' is not supported; supported are llama, " in refusal(odd)
    part = write_gguf(tmp_path / "part.gguf", "mistral", fields, tensors, split=2)
    assert "one part of several" in refusal(part)
    extra = {"blk.0.ffn_gate_exps.weight": np.ones((2, 3), np.float32)}
    del tensors["model.layers.1.mlp.up_proj.weight"]
    tensors["model.norm.weight"] = tensors["model.norm.weight"][:-2]
    message = refusal(write_gguf(tmp_path / "bad.gguf", "mistral", fields, tensors, extra))
    assert "missing blk.1.ffn_up.weight" in message
    assert "extra blk.0.ffn_gate_exps.weight" in message
    assert "output_norm.weight is [50], not [52]" in message
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(odd.read_bytes()[:5000])
    assert "cut.gguf: not a whole GGUF file" in refusal(cut)
    cut.write_bytes(b"not at all")
    assert "cut.gguf: not a whole GGUF file" in refusal(cut)
