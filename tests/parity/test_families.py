"""Every family against transformers: logits and greedy tokens of small random models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from tests.models.small import CONFIGS
from tests.parity import reference
from ttc_jax.models.weights import load_generator

pytestmark = pytest.mark.torch_parity
PROMPTS = np.random.default_rng(1).integers(3, 131, (3, 19), dtype=np.int32)


@pytest.mark.parametrize("family", CONFIGS)
def test_logits_and_greedy_tokens(family: str, tmp_path: Path) -> None:
    model = reference.random_reference(CONFIGS[family])
    folder = reference.save(model, tmp_path)
    reference.check(load_generator(folder), reference.expect(model, PROMPTS))


YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}
YARN |= {"original_max_position_embeddings": 24}  # the sequences are three times as long


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("qwen2", {}),
        ("llama", {"factor": 2.5, "beta_fast": 8, "beta_slow": 0.5, "truncate": False}),
        ("qwen3", {"mscale": 1.0, "mscale_all_dim": 0.7}),
        ("mistral", {"attention_factor": 1.3, "factor": 1.5}),
        ("gemma3", {"truncate": False}),
    ],
)
def test_yarn(family: str, changes: dict[str, Any], tmp_path: Path) -> None:
    rope: dict[str, Any] = {**YARN, **changes}
    if family == "gemma3":  # transformers reads `truncate` outside, where it is not
        rope = {**CONFIGS[family]["rope_parameters"], "full_attention": rope}
    model = reference.random_reference({**CONFIGS[family], "rope_parameters": rope})
    folder = reference.save(model, tmp_path)
    reference.check(load_generator(folder), reference.expect(model, PROMPTS))


@pytest.mark.parametrize("stored", ["another head", "a copy", "no embedding"])
def test_tied_config_beside_a_stored_head(stored: str, tmp_path: Path) -> None:
    model = reference.random_reference(CONFIGS["qwen2"])
    file = reference.save(model, tmp_path) / "model.safetensors"
    tensors = safetensors.numpy.load_file(file)
    assert "lm_head.weight" not in tensors
    embedding = tensors["model.embed_tokens.weight"]
    tensors["lm_head.weight"] = embedding[::-1].copy() if stored == "another head" else embedding
    if stored == "no embedding":
        del tensors["model.embed_tokens.weight"]
    safetensors.numpy.save_file(tensors, file, {"format": "pt"})
    package = reference.transformers()
    again = package.AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    reference.check(load_generator(tmp_path), reference.expect(again.eval(), PROMPTS))


def test_a_single_file_goes_before_an_index(tmp_path: Path) -> None:
    old = reference.random_reference(CONFIGS["mistral"], seed=1)
    reference.save(old, tmp_path, max_shard_size="40KB")
    shards = {path: path.read_bytes() for path in tmp_path.glob("model*")}
    reference.save(reference.random_reference(CONFIGS["mistral"]), tmp_path)
    for path, content in shards.items():  # `save_pretrained` has removed them
        path.write_bytes(content)
    package = reference.transformers()
    again = package.AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    reference.check(load_generator(tmp_path), reference.expect(again.eval(), PROMPTS))


def test_shards_and_older_config(tmp_path: Path) -> None:
    """Several files with an index, and rope fields as transformers 4 wrote them."""
    model = reference.random_reference(CONFIGS["llama"])
    folder = reference.save(model, tmp_path, max_shard_size="40KB")
    assert len(list(folder.glob("*.safetensors"))) > 3
    fields = json.loads((folder / "config.json").read_text())
    rope = fields.pop("rope_parameters")
    fields["rope_theta"] = rope.pop("rope_theta")
    fields["rope_scaling"] = rope
    (folder / "config.json").write_text(json.dumps(fields))
    reference.check(load_generator(folder), reference.expect(model, PROMPTS))


def test_gemma3_with_eyes(tmp_path: Path) -> None:
    """The text model inside a multimodal checkpoint, where transformers does not cap the logits."""
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    text = {**CONFIGS["gemma3"], "tie_word_embeddings": True, "final_logit_softcapping": None}
    fields = {"model_type": "gemma3", "text_config": text, "vision_config": vision}
    model = reference.random_reference(fields)
    folder = reference.save(model, tmp_path)
    reference.check(load_generator(folder), reference.expect(model, PROMPTS))
