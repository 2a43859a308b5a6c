"""What the metadata of GGUF files says of a model: older names, defaults, arrays, mistakes."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFValueType

from tests.models import gguf_bytes
from ttc_jax.errors import UserError
from ttc_jax.models.config import ModelConfig, Rope
from ttc_jax.models.gguf import GGUFFile
from ttc_jax.models.gguf_config import read_fields
from ttc_jax.models.gguf_metadata import Metadata

DEPTH = 4
TENSORS = {
    "token_embd.weight": np.zeros((10, 8), np.float32),
    **{f"blk.{i}.attn_norm.weight": np.zeros(8, np.float32) for i in range(DEPTH)},
}
# Without what llama.cpp does not need.
LEAST = {
    "context_length": 100,
    "embedding_length": 8,
    "block_count": DEPTH,
    "feed_forward_length": 12,
    "attention.head_count": 2,
    "attention.layer_norm_rms_epsilon": 1e-5,
}


def write(path: Path, architecture: str, changes: dict[str, Any], **more: np.ndarray) -> Path:
    """A file of an architecture, with some of its keys changed (None: taken away)."""
    window = {"attention.sliding_window": 5} if architecture == "gemma3" else {}
    pairs = {
        f"{architecture}.{key}": value
        for key, value in (LEAST | window | changes).items()
        if value is not None and not key.startswith("general.")
    }
    general = {"general.architecture": architecture, **changes}
    pairs |= {
        key: value
        for key, value in general.items()
        if key.startswith("general.") and value is not None
    }
    path.write_bytes(gguf_bytes.file(pairs, TENSORS | more))
    return path


FULL, SLIDING = None, 5
READ: list[tuple[str, dict[str, Any], str, Any]] = [
    # architecture, changes, field of the config, what it is
    ("llama", {}, "ropes", (Rope(10_000.0),) * DEPTH),
    ("llama", {}, "kv_heads", 2),
    ("llama", {}, "head_size", 4),
    ("llama", {}, "vocab_size", 10),
    ("llama", {}, "windows", (None,) * DEPTH),
    ("qwen2", {}, "ropes", (Rope(10_000.0),) * DEPTH),
    ("llama", {"attention.key_length": 6}, "head_size", 6),
    ("llama", {"attention.head_count_kv": 1}, "kv_heads", 1),
    ("llama", {"attention.head_count_kv": [1] * DEPTH}, "kv_heads", 1),
    ("llama", {"attention.head_count": [4] * DEPTH}, "kv_heads", 4),
    ("llama", {"feed_forward_length": [12] * DEPTH}, "ffn_width", 12),
    ("llama", {"rope.scale_linear": 4.0}, "ropes", (Rope(1e4, linear_factor=4.0),) * DEPTH),
    ("llama", {"rope.scaling.factor": 2.0}, "ropes", (Rope(1e4, linear_factor=2.0),) * DEPTH),
    (
        "llama",
        {"rope.scaling.factor": 2.0, "rope.scale_linear": 4.0},
        "ropes",
        (Rope(1e4, linear_factor=2.0),) * DEPTH,
    ),
    (
        "qwen3",
        {"rope.scaling.type": "linear", "rope.scale_linear": 3.0, "rope.freq_base": 5e5},
        "ropes",
        (Rope(5e5, linear_factor=3.0),) * DEPTH,
    ),
    ("llama", {"rope.scaling.factor": 0.0}, "ropes", (Rope(),) * DEPTH),
    ("llama", {"rope.scaling.factor": 1.0}, "ropes", (Rope(),) * DEPTH),
    ("llama", {"rope.scaling.type": "linear"}, "ropes", (Rope(),) * DEPTH),
    (
        "llama",
        {"rope.scaling.type": "none", "rope.scaling.factor": 8.0},
        "ropes",
        (Rope(),) * DEPTH,
    ),
    ("llama", {"context_length": gguf_bytes.value(GGUFValueType.UINT64, 77)}, "context", 77),
    ("gemma2", {}, "attention_softcap", 50.0),
    ("gemma2", {}, "logit_softcap", 30.0),
    ("gemma2", {"final_logit_softcapping": 0.0}, "logit_softcap", None),
    ("gemma2", {}, "windows", (4096, FULL, 4096, FULL)),
    ("gemma3", {}, "logit_softcap", None),
    ("gemma3", {}, "windows", (SLIDING,) * DEPTH),
    ("gemma3", {"attention.sliding_window_pattern": 2}, "windows", (SLIDING, FULL) * 2),
    ("gemma3", {"attention.sliding_window_pattern": 3}, "windows", (5, 5, FULL, 5)),
    ("gemma3", {"attention.sliding_window_pattern": 0}, "windows", (SLIDING,) * DEPTH),
    (
        "gemma3",
        {"attention.sliding_window_pattern": 1, "attention.sliding_window": None},
        "windows",
        (FULL,) * DEPTH,
    ),
    (
        "gemma3",
        {"attention.sliding_window_pattern": [True, True, False, True]},
        "windows",
        (5, 5, FULL, 5),
    ),
    ("gemma3", {"attention.sliding_window_pattern": [0, 1, 1, 0]}, "windows", (FULL, 5, 5, FULL)),
    (
        "gemma2",
        {"attention.sliding_window_pattern": [False] * DEPTH},
        "windows",
        (FULL,) * DEPTH,
    ),
    (
        "gemma3",
        {
            "attention.sliding_window_pattern": [True, False, True, False],
            "rope.freq_base": 1e6,
            "rope.scaling.factor": 8.0,
        },
        "ropes",
        (Rope(), Rope(1e6, linear_factor=8.0)) * 2,
    ),
    (
        "gemma3",
        {"rope.freq_base_swa": 500.0, "rope.freq_base": 1e6},
        "ropes",
        (Rope(500.0),) * DEPTH,
    ),
    (
        "qwen2",
        {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": 4.0,
            "rope.scaling.original_context_length": 25,
        },
        "ropes",
        (
            Rope(
                yarn_factor=4.0,
                yarn_original_context=25,
                attention_factor=0.1 * math.log(4) + 1,
            ),
        )
        * DEPTH,
    ),
    ("llama", {"expert_count": 0, "rope.scaling.finetuned": False, "vocab_size": 10}, "depth", 4),
]


@pytest.mark.parametrize(("architecture", "changes", "field", "wanted"), READ)
def test_read(
    architecture: str, changes: dict[str, Any], field: str, wanted: Any, tmp_path: Path
) -> None:
    config: ModelConfig = GGUFFile(write(tmp_path / "m.gguf", architecture, changes)).config
    assert getattr(config, field) == wanted


HUGE = gguf_bytes.value(GGUFValueType.UINT64, 1 << 40)
EPS = "attention.layer_norm_rms_epsilon"
MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    *(("llama", {key: None}, f"metadata llama.{key} is missing") for key in LEAST),
    *(
        ("llama", {key: "much"}, f"metadata llama.{key} is 'much', not a whole number")
        for key in LEAST
        if key != EPS
    ),
    *(
        ("llama", {key: 2.5}, f"metadata llama.{key} is 2.5, not a whole number")
        for key in LEAST
        if key != EPS
    ),
    *(
        ("llama", {key: 0}, f"metadata llama.{key} is 0; it must be from 1 to")
        for key in LEAST
        if key != EPS
    ),
    *(
        ("llama", {key: HUGE}, f"metadata llama.{key} is {1 << 40}; it must be from 1 to")
        for key in LEAST
        if key != EPS
    ),
    (
        "llama",
        {"block_count": 10**9},
        "llama.block_count is 1000000000, but there are tensors of 4",
    ),
    ("llama", {"block_count": 3}, "llama.block_count is 3, but there are tensors of 4 layers"),
    ("llama", {"block_count": True}, "llama.block_count is True, not a whole number"),
    ("llama", {"embedding_length": 9}, "llama.embedding_length is 9, but token_embd.weight has 8"),
    ("llama", {"attention.head_count": 9}, "llama.attention.key_length is 0; it must be"),
    ("llama", {EPS: "x"}, f"llama.{EPS} is 'x', not a number"),
    ("llama", {EPS: float("nan")}, f"llama.{EPS} is nan, not a finite number"),
    ("llama", {"rope.freq_base": float("inf")}, "llama.rope.freq_base is inf, not a finite number"),
    ("llama", {EPS: 0.0}, f"metadata llama.{EPS} is 0.0; it must be"),
    ("llama", {"rope.freq_base": -1.0}, "llama.rope.freq_base is -1.0; it must be"),
    ("llama", {"rope.scaling.factor": -2.0}, "llama.rope.scaling.factor is -2.0; it must be"),
    ("llama", {"attention.head_count_kv": 3}, "llama.attention.head_count_kv 3"),
    ("llama", {"attention.head_count": 200_000}, "llama.attention.key_length is 0; it must be"),
    ("gemma2", {"final_logit_softcapping": -1.0}, "gemma2.final_logit_softcapping is -1.0; it"),
    ("llama", {"rope.freq_base": True}, "llama.rope.freq_base is True, not a number"),
    ("llama", {"rope.scaling.type": 1}, "llama.rope.scaling.type is 1, not a string"),
    ("llama", {"rope.scaling.factor": "2"}, "llama.rope.scaling.factor is '2', not a number"),
    (
        "llama",
        {"rope.scaling.type": "longrope", "rope.scaling.factor": 2.0},
        "llama.rope.scaling.type is 'longrope'; supported are none, linear, yarn",
    ),
    (
        "llama",
        {"attention.head_count_kv": [1, 1, 2, 1]},
        "llama.attention.head_count_kv differs between layers (1, 2)",
    ),
    (
        "llama",
        {"attention.head_count_kv": [1, 1]},
        "llama.attention.head_count_kv has 2 entries for 4 layers",
    ),
    ("llama", {"attention.head_count_kv": []}, "head_count_kv has 0 entries for 4 layers"),
    (
        "llama",
        {"feed_forward_length": [12, 12, 12, 13]},
        "llama.feed_forward_length differs between layers (12, 13)",
    ),
    ("llama", {"feed_forward_length": ["a"] * 4}, "feed_forward_length is 'a', not a whole number"),
    ("llama", {"context_length": [100] * 4}, "llama.context_length is an array of 4, not a whole"),
    ("llama", {"attention.value_length": 5}, "llama.attention.value_length is 5 of heads of 4"),
    ("llama", {"rope.dimension_count": 2}, "llama.rope.dimension_count is 2 of heads of 4"),
    ("llama", {"expert_count": 8}, "llama.expert_count is not 0, which is not supported"),
    ("qwen3", {"attention.causal": False}, "qwen3.attention.causal is not True, which is not"),
    ("llama", {"logit_scale": [1.0, 2.0]}, "llama.logit_scale is not 1.0, which is not supported"),
    ("gemma3", {"attention.sliding_window": None}, "gemma3.attention.sliding_window is missing"),
    ("gemma3", {"attention.sliding_window": 0}, "gemma3.attention.sliding_window is 0; it must be"),
    (
        "gemma3",
        {"attention.sliding_window_pattern": [True] * 3},
        "gemma3.attention.sliding_window_pattern is not one number, nor a flag for each of 4",
    ),
    (
        "gemma3",
        {"attention.sliding_window_pattern": [2, 0, 1, 1]},
        "gemma3.attention.sliding_window_pattern has other entries than true and false",
    ),
    (
        "gemma3",
        {"attention.sliding_window_pattern": True},
        "gemma3.attention.sliding_window_pattern is True, not a whole number",
    ),
    (
        "gemma3",
        {"attention.sliding_window_pattern": 2.0},
        "gemma3.attention.sliding_window_pattern is not one number, nor",
    ),
    ("gemma2", {"attn_logit_softcapping": "x"}, "gemma2.attn_logit_softcapping is 'x', not a"),
    ("llama", {"general.architecture": None}, "metadata general.architecture is missing"),
    ("llama", {"general.architecture": 3}, "metadata general.architecture is 3, not a string"),
    ("llama", {"general.architecture": "bert"}, "architecture 'bert' is not supported"),
]


@pytest.mark.parametrize(("architecture", "changes", "message"), MISTAKES)
def test_mistakes(architecture: str, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", architecture, changes)
    with pytest.raises(UserError) as caught:
        GGUFFile(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert message in text
    assert "\n" not in text


def test_without_tensors(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    pairs = {f"llama.{key}": value for key, value in LEAST.items()}
    path.write_bytes(gguf_bytes.file({"general.architecture": "llama"} | pairs))
    with pytest.raises(UserError, match=r"block_count is 4, but there are tensors of 0 layers"):
        GGUFFile(path)
    blocks = {name: array for name, array in TENSORS.items() if name.startswith("blk.")}
    path.write_bytes(gguf_bytes.file({"general.architecture": "llama"} | pairs, blocks))
    with pytest.raises(UserError, match=r"no matrix token_embd.weight"):
        GGUFFile(path)


@pytest.mark.parametrize(
    "factors",
    [np.ones(3), np.ones((2, 2)), np.zeros(2), np.full(2, np.nan), np.full(2, np.inf), np.ones(0)],
)
def test_odd_rope_factors(factors: np.ndarray, tmp_path: Path) -> None:
    more = {"rope_freqs.weight": factors.astype(np.float32)}
    path = write(tmp_path / "m.gguf", "llama", {}, **more)
    with pytest.raises(UserError, match=r"rope_freqs.weight is not the rope scaling of Llama 3"):
        GGUFFile(path)


def test_unknown_keys_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    changes = {"attention.sliding_window": 9, "new.key": 1, "vocab_size": 10}
    with caplog.at_level(logging.WARNING):
        GGUFFile(write(tmp_path / "m.gguf", "llama", changes))
    (record,) = caplog.records
    assert "'llama.attention.sliding_window', 'llama.new.key'" in record.getMessage()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        GGUFFile(write(tmp_path / "m.gguf", "gemma3", {}))
    assert not caplog.records


YARN: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"attention_factor": 0.1 * math.log(4) + 1, "original_max_position_embeddings": 100}),
    (
        {"rope.scaling.original_context_length": 25, "rope.scaling.attn_factor": 0.5},
        {
            "attention_factor": 0.5 * (0.1 * math.log(4) + 1),
            "original_max_position_embeddings": 25,
        },
    ),
    ({"rope.scaling.yarn_attn_factor": 1.25}, {"attention_factor": 1.25}),
    ({"rope.scaling.yarn_log_multiplier": 1.0}, {"attention_factor": 1.0}),
    (
        {"rope.scaling.yarn_beta_fast": 8.0, "rope.scaling.yarn_beta_slow": 2.0},
        {"beta_fast": 8.0, "beta_slow": 2.0},
    ),
    ({"rope.scaling.yarn_ext_factor": 1.0}, {"beta_fast": 32.0, "beta_slow": 1.0}),
]


@pytest.mark.parametrize(("changes", "wanted"), YARN)
def test_yarn(changes: dict[str, Any], wanted: dict[str, Any]) -> None:
    """As llama.cpp reads it, in the fields of a config.json."""
    keys = LEAST | {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0} | changes
    metadata = Metadata({f"qwen2.{key}": value for key, value in keys.items()}, "m.gguf")
    shapes = {name: array.shape for name, array in TENSORS.items()}
    rope = read_fields(metadata, "qwen2", shapes)["rope_parameters"]
    assert rope["rope_type"] == "yarn"
    assert rope["factor"] == 4.0
    assert {key: rope[key] for key in wanted} == pytest.approx(wanted)


def test_yarn_without_extrapolation() -> None:
    keys = LEAST | {"rope.scaling.type": "yarn", "rope.scaling.yarn_ext_factor": 0.0}
    metadata = Metadata({f"qwen2.{key}": value for key, value in keys.items()}, "m.gguf")
    shapes = {name: array.shape for name, array in TENSORS.items()}
    with pytest.raises(UserError, match=r"qwen2.rope.scaling.yarn_ext_factor is 0.0, which is not"):
        read_fields(metadata, "qwen2", shapes)
