"""SmolLM2-135M against transformers, from GGUF and from the safetensors that torch writes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from tests.parity import reference
from ttc_jax.errors import UserError
from ttc_jax.models import parameters
from ttc_jax.models.hub import transformers
from ttc_jax.models.tokenizers import Tokenizer, load_tokenizer
from ttc_jax.models.transformer import Transformer
from ttc_jax.models.weights import load_generator

pytestmark = pytest.mark.torch_parity
QUESTION = "Natalia sold clips to 48 friends in April, and half as many in May. How many in all?"
LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


@pytest.fixture(scope="module")
def model(smollm2: Path) -> Transformer:
    return load_generator(smollm2)


@pytest.fixture(scope="module")
def tokenizer(smollm2: Path, model: Transformer) -> Tokenizer:
    return load_tokenizer(smollm2, model.config.vocab_size)


@pytest.fixture(scope="module")
def torch_model(smollm2: Path) -> Any:
    """LlamaForCausalLM with the dequantized tensors, by nothing of ours."""
    torch = reference.torch_module()
    config = transformers().LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
        tie_word_embeddings=True,
        attn_implementation="eager",
    )
    tensors = {}
    for tensor in gguf.GGUFReader(smollm2).tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        if heads := {"attn_q": 9, "attn_k": 3}.get(tensor.name.split(".")[-2]):
            values = values.reshape(heads, 32, 2, 576).swapaxes(1, 2).reshape(values.shape)
        match tensor.name.split("."):
            case ["blk", layer, name, "weight"]:
                tensors[f"model.layers.{layer}.{LAYER_NAMES[name]}.weight"] = values
            case ["token_embd", "weight"]:
                tensors["model.embed_tokens.weight"] = values
            case ["output_norm", "weight"]:
                tensors["model.norm.weight"] = values
            case _:
                raise AssertionError(tensor.name)
    model = transformers().LlamaForCausalLM(config).eval()
    state = {name: torch.from_numpy(values.copy()) for name, values in tensors.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert missing == ["lm_head.weight"]
    assert not unexpected
    return model


@pytest.fixture(scope="module")
def expected(tokenizer: Tokenizer, torch_model: Any) -> reference.Expected:
    prompt = tokenizer.chat([{"role": "user", "content": QUESTION}])
    return reference.expect(torch_model, np.array([prompt], np.int32))


def test_gguf(model: Transformer, expected: reference.Expected) -> None:
    reference.check(model, expected)


def test_safetensors(model: Transformer, torch_model: Any, tmp_path: Path) -> None:
    loaded = load_generator(reference.save(torch_model, tmp_path, max_shard_size="200MB"))
    assert (tmp_path / "model.safetensors.index.json").is_file()
    ours, same = parameters.named(model), parameters.named(loaded)
    eps = model.config.norm_eps  # a GGUF file has it in single precision
    assert loaded.config.norm_eps == pytest.approx(eps)
    assert dataclasses.replace(loaded.config, norm_eps=eps) == model.config
    assert ours.keys() == same.keys()
    assert all(np.array_equal(ours[name], same[name]) for name in ours)


def test_tokenizer(tokenizer: Tokenizer) -> None:
    text = "Total: 12,345.67 apples\n\n  – naïve café, 日本語 🎉\t\\boxed{42}\n"
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text
    assert tokenizer.encode("<|im_start|>") == [1]
    assert tokenizer.encode("<|im_end|>") == [2]
    assert len(tokenizer.encode("12345")) == 5  # digits stand alone
    assert tokenizer.eos_ids == (0, 2)
    assert tokenizer.bos_id is None
    turn = tokenizer.chat([{"role": "system", "content": "s"}, {"role": "user", "content": "u"}])
    plain = (
        "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\n"
    )
    assert turn == tokenizer.encode(plain)
    newline = tokenizer.containing("\n")
    assert newline[tokenizer.encode("\n")].all()
    assert not newline[tokenizer.encode("word 7")].any()


def test_cut_off(smollm2: Path, tmp_path: Path) -> None:
    part = tmp_path / "part.gguf"
    with smollm2.open("rb") as whole:
        part.write_bytes(whole.read(30_000_000))
    with pytest.raises(UserError, match="not a whole GGUF file"):
        load_generator(part)
