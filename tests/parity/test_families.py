"""Every family against transformers: logits and greedy tokens of small random models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

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
