"""Model configs with fields of another type or beyond every model: one line with file and field."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tests.models.bad_configs import BAD, INFINITY, NAN
from tests.models.small import CONFIGS
from ttc_jax.errors import UserError
from ttc_jax.models.config import ModelConfig, Rope
from ttc_jax.models.families import read_config
from ttc_jax.models.shapes import read_shape

GOOD = ModelConfig(
    vocab_size=64, width=48, depth=2, heads=8, kv_heads=4, head_size=6, ffn_width=120, context=96
)


def one_line(caught: pytest.ExceptionInfo[UserError]) -> str:
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


@pytest.mark.parametrize(("family", "changes", "named"), BAD)
def test_fields_of_config_json(family: str, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError) as caught:
        read_config({**CONFIGS[family], **changes}, "folder/config.json")
    message = one_line(caught)
    assert message.startswith("folder/config.json: ")
    assert named in message


@pytest.mark.parametrize(
    "ignored",
    [
        {"num_labels": 10**12},
        {"dtype": "float99"},
        {"torch_dtype": 3},
        {"id2label": 5},
        {"attribute_map": 3},
        {"eos_token_id": -1},
        {"quantization_config": None},
        {"quantization_config": {}},
    ],
)
def test_fields_that_tell_no_shape_are_not_read(ignored: dict[str, Any]) -> None:
    plain = read_config(CONFIGS["llama"], "config.json")
    assert read_config({**CONFIGS["llama"], **ignored}, "config.json") == plain


def test_names_of_another_format() -> None:
    """GGUF's metadata pass the same check under names of their own."""
    names = {"num_hidden_layers": "llama.block_count", "rope_theta": "llama.rope.freq_base"}
    with pytest.raises(UserError, match=r"^m\.gguf: llama\.block_count is 1000000000; it must be"):
        read_config({**CONFIGS["llama"], "num_hidden_layers": 10**9}, "m.gguf", names)
    rope = {"rope_type": "default", "rope_theta": 0.0}
    with pytest.raises(UserError, match=r"^m\.gguf: llama\.rope\.freq_base is 0\.0; it must be"):
        read_config({**CONFIGS["llama"], "rope_parameters": rope}, "m.gguf", names)


OWN: list[tuple[dict[str, Any], str]] = [
    *(
        ({field.name: value}, f"config.{field.name}")
        for field in dataclasses.fields(ModelConfig)
        for value in (-1, "x", NAN, [[1]], {})
    ),
    ({"depth": 10**9}, "config.depth"),
    ({"depth": 3}, "windows has 2 entries for 3 layers"),
    ({"heads": 6}, "config.heads is 6, not a multiple of config.kv_heads 4"),
    ({"head_size": 7}, "must be even"),
    ({"norm_eps": INFINITY}, "norm_eps"),
    ({"activation": "relu"}, "activation"),
    ({"qkv_bias": 1}, "qkv_bias"),
    ({"surprise": 1}, "config.surprise is unknown"),
    ({"windows": [None, 0]}, "windows"),
    ({"ropes": [{"theta": 1e4}, {"theta": 0}]}, "rope.theta"),
    ({"ropes": [{"theta": 1e4}, {"thet": 0}]}, "ropes[1].thet is unknown"),
    ({"ropes": [3, 4]}, "ropes[0]"),
]


@pytest.mark.parametrize(("changes", "named"), OWN)
def test_fields_of_our_own_folders(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    config = {**GOOD.to_json(), **changes}
    description = {"kind": "generator", "config": config, "metadata": {}}
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(UserError) as caught:
        read_shape(str(tmp_path))
    message = one_line(caught)
    assert message.startswith(f"{tmp_path / 'model.json'}: ")
    assert named in message


@pytest.mark.parametrize("missing", ["vocab_size", "context", "ffn_width"])
def test_missing_fields_of_our_own_folders(tmp_path: Path, missing: str) -> None:
    config = {name: value for name, value in GOOD.to_json().items() if name != missing}
    description = {"kind": "generator", "config": config, "metadata": {}}
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match=f"config.{missing} is missing"):
        read_shape(str(tmp_path))


def test_round_trip_and_older_folders() -> None:
    assert ModelConfig.from_json(json.loads(json.dumps(GOOD.to_json()))) == GOOD
    older = GOOD.to_json()
    for rope in older["ropes"]:
        for name in [name for name in rope if "yarn" in name or name == "attention_factor"]:
            del rope[name]
    assert ModelConfig.from_json({**older, "windows": [None, 8]}).ropes == (Rope(), Rope())


def test_shape_in_python_names_the_config() -> None:
    with pytest.raises(UserError, match=r"^model\.heads is 5, not a multiple of model\.kv_heads 4"):
        dataclasses.replace(GOOD, heads=5)
    with pytest.raises(UserError, match=r"^model\.rope\.theta is nan; it must be a finite number"):
        Rope(NAN)
