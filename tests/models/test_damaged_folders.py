"""Model folders of Hugging Face that are damaged, of another kind or unfit: always one line."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from tests.models.small import CONFIGS, random_tensors, write_folder
from ttc_jax.errors import UserError
from ttc_jax.models import hub
from ttc_jax.models.weights import load_generator

QWEN = CONFIGS["qwen2"]
TENSORS = random_tensors(QWEN)
LAYER = "model.layers.0"
WEIGHT = f"{LAYER}.mlp.up_proj.weight"


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_generator(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def with_json(folder: Path, name: str, text: str | bytes) -> Path:
    write_folder(folder, QWEN, TENSORS, {"x": np.ones(1, np.float32)}, index=True)
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


NOT_JSON: list[tuple[str | bytes, str]] = [
    ("", "not JSON"),
    ("{", "not JSON"),
    ('{"a": 1}}', "not JSON"),
    ("\ufeff{}", "not JSON"),
    ("{'a': 1}", "not JSON"),
    ('{"hidden_size": ' + "9" * 5000 + "}", "not JSON"),
    ("[]", "not a JSON object"),
    ("3", "not a JSON object"),
    ("null", "not a JSON object"),
    ('"text"', "not a JSON object"),
    ("[" * 100_000, "nested too deeply"),
    ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
    ('{"a": [' + "[" * 2_000 + "]" * 2_000 + "]}", "nested too deeply"),
    (b'{"a": "\xff"}', "not UTF-8 text"),
    (b"\x00\x01\x02", "not JSON"),
    (b"\xff\xfe{\x00}\x00", "not UTF-8 text"),
    (r'{"a": "\ud800"}', "holds half of a surrogate pair"),
    (r'{"\udc00": 1}', "holds half of a surrogate pair"),
    (r'{"a": {"b": ["\ud800"]}}', "holds half of a surrogate pair"),
]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
@pytest.mark.parametrize(("text", "message"), NOT_JSON)
def test_not_json(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    assert f"{name}: {message}" in refusal(with_json(tmp_path, name, text))


def test_a_pair_of_surrogate_escapes_is_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(r'{"a": "\ud83d\ude00"}')
    assert hub.read_json(tmp_path / "a.json") == {"a": "\U0001f600"}


def test_json_that_is_no_file(tmp_path: Path) -> None:
    write_folder(tmp_path, QWEN, TENSORS)
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").mkdir()
    assert "config.json: not a file" in refusal(tmp_path)
    (tmp_path / "config.json").rmdir()
    os.mkfifo(tmp_path / "config.json")  # opened, it would wait for ever
    assert "config.json: not a file" in refusal(tmp_path)


def test_json_larger_than_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path, QWEN, TENSORS)
    monkeypatch.setattr(hub, "MOST_BYTES", 1 << 20)
    with (tmp_path / "config.json").open("ab") as file:
        file.truncate(5 << 30)  # holds no blocks on disk
    assert "config.json: larger than 1 MiB" in refusal(tmp_path)


INDEXES: list[tuple[dict[str, Any], str]] = [
    ({}, "weight_map must be an object"),
    ({"weight_map": {}}, "weight_map must be an object"),
    ({"weight_map": ["a.safetensors"]}, "weight_map must be an object"),
    ({"weight_map": "a.safetensors"}, "weight_map must be an object"),
    ({"weight_map": {WEIGHT: 3}}, f"{WEIGHT} is in 3, which is no safetensors file"),
    ({"weight_map": {WEIGHT: ["a.safetensors"]}}, "no safetensors file of this folder"),
    ({"weight_map": {WEIGHT: None}}, "no safetensors file of this folder"),
    ({"weight_map": {WEIGHT: "../a.safetensors"}}, "no safetensors file of this folder"),
    ({"weight_map": {WEIGHT: "/a.safetensors"}}, "no safetensors file of this folder"),
    ({"weight_map": {WEIGHT: "pytorch_model.bin"}}, "no safetensors file of this folder"),
    ({"weight_map": {WEIGHT: "a\n.safetensors"}}, "no safetensors file of this folder"),
    ({"weight_map": {WEIGHT: ""}}, "no safetensors file of this folder"),
    ({"weight_map": {WEIGHT: "model-00007-of-00009.safetensors"}}, "missing model-00007"),
    (
        {"weight_map": {"model.layers.9.x": "model-00001-of-00001.safetensors"}},
        "missing model.layers.9.x (model.safetensors.index.json names it",
    ),
]


@pytest.mark.parametrize(("index", "message"), INDEXES)
def test_index(tmp_path: Path, index: dict[str, Any], message: str) -> None:
    write_folder(tmp_path, QWEN, TENSORS, index=True)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert message in refusal(tmp_path)


def test_tensors_of_a_shard_that_the_index_does_not_name_are_read(tmp_path: Path) -> None:
    """As transformers does: whole files are read."""
    write_folder(tmp_path, QWEN, TENSORS, index=True)
    places = {WEIGHT: "model-00001-of-00001.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    assert load_generator(tmp_path).config.depth == 3


def test_a_single_file_goes_before_an_index_of_old_shards(tmp_path: Path) -> None:
    old = {name: tensor + 1 for name, tensor in TENSORS.items()}
    write_folder(tmp_path, QWEN, old, index=True)
    write_folder(tmp_path, QWEN, TENSORS)
    embedding = load_generator(tmp_path).embedding[...]
    np.testing.assert_array_equal(embedding, TENSORS["model.embed_tokens.weight"])


EXTRA: list[tuple[str, Any, str]] = [
    ("score.weight", np.float32, "extra score.weight"),
    ("model.layers.3.mlp.up_proj.weight", np.float32, "extra model.layers.3.mlp.up_proj.weight"),
    (f"{LAYER}.self_attn.o_proj.bias", np.float32, f"extra {LAYER}.self_attn.o_proj.bias"),
    (f"{LAYER}.mlp.up_proj.bias", np.float32, f"extra {LAYER}.mlp.up_proj.bias"),
    (f"{LAYER}.self_attn.q_norm.weight", np.float32, "extra"),
    (f"{LAYER}.mlp.experts.0.up_proj.weight", np.float32, "extra"),
    ("base_model.model.lora_A.weight", np.float32, "extra"),
    ("model.embed_positions.weight", np.float32, "extra"),
    ("lm_head.bias", np.float32, "extra lm_head.bias"),
    ("vision_tower.patch.weight", np.float32, "extra vision_tower.patch.weight"),
    # Quantized, without a word in config.json.
    (f"{LAYER}.mlp.up_proj.weight_scale", np.float32, "FP8 or compressed-tensors: "),
    (f"{LAYER}.mlp.up_proj.weight_scale_inv", np.float32, "quantized weights (FP8: "),
    (f"{LAYER}.mlp.up_proj.input_scale", np.float32, "FP8 or compressed-tensors: "),
    (f"{LAYER}.mlp.up_proj.weight_packed", np.int32, "quantized weights (compressed-tensors: "),
    (f"{LAYER}.mlp.up_proj.weight_shape", np.int64, "quantized weights (compressed-tensors: "),
    (f"{LAYER}.mlp.up_proj.qweight", np.int32, "quantized weights (GPTQ or AWQ: "),
    (f"{LAYER}.mlp.up_proj.qzeros", np.int32, "quantized weights (GPTQ or AWQ: "),
    (f"{LAYER}.mlp.up_proj.g_idx", np.int32, "quantized weights (GPTQ: "),
    (f"{LAYER}.mlp.up_proj.scales", np.float16, "quantized weights (GPTQ or AWQ: "),
    (f"{LAYER}.mlp.up_proj.weight.absmax", np.float32, "quantized weights (bitsandbytes: "),
    (f"{LAYER}.mlp.up_proj.weight.quant_map", np.float32, "quantized weights (bitsandbytes: "),
    (
        f"{LAYER}.mlp.up_proj.weight.quant_state.bitsandbytes__nf4",
        np.uint8,
        "quantized weights (bitsandbytes: ",
    ),
    (f"{LAYER}.mlp.up_proj.SCB", np.float32, "quantized weights (bitsandbytes: "),
    (f"{LAYER}.self_attn.k_scale", np.float32, "quantized weights ("),
    (WEIGHT, np.int8, f"quantized weights ({WEIGHT} is I8)"),
    (WEIGHT, np.uint8, f"quantized weights ({WEIGHT} is U8)"),
    (WEIGHT, np.int32, f"{WEIGHT} is I32"),
    (WEIGHT, np.int64, f"{WEIGHT} is I64"),
    (WEIGHT, np.bool_, f"{WEIGHT} is BOOL"),
    (WEIGHT, ml_dtypes.float8_e4m3fn, f"quantized weights (FP8: {WEIGHT} is F8_E4M3)"),
    (WEIGHT, ml_dtypes.float8_e5m2, f"quantized weights (FP8: {WEIGHT} is F8_E5M2)"),
    ("lm_head.weight", np.int8, "lm_head.weight is I8"),
]


@pytest.mark.parametrize(("name", "dtype", "message"), EXTRA)
def test_every_tensor_is_used_or_refused(
    tmp_path: Path, name: str, dtype: Any, message: str
) -> None:
    shape = TENSORS[name].shape if name in TENSORS else (2, 2)
    tensors = {**TENSORS, name: np.ones(shape, np.float32).astype(dtype)}
    said = refusal(write_folder(tmp_path, QWEN, tensors))
    assert message in said
    assert name in said
    if "quantized" in said:
        assert "give the original checkpoint" in said


def test_names_of_tensors_are_cut_and_escaped(tmp_path: Path) -> None:
    tensors = {**TENSORS, "a\nb\x1b[31m" * 10_000: np.ones(1, np.float32)}
    said = refusal(write_folder(tmp_path, QWEN, tensors))
    assert r"extra a b\x1b[31ma b" in said
    assert len(said) < 600


@pytest.mark.parametrize(
    "name",
    [
        f"{LAYER}.self_attn.rotary_emb.inv_freq",
        "model.rotary_emb.inv_freq",
        f"{LAYER}.self_attn.rotary_emb.cos_cached",
        f"{LAYER}.self_attn.bias",
        f"{LAYER}.self_attn.masked_bias",
    ],
)
def test_tensors_that_are_known_to_be_derived(tmp_path: Path, name: str) -> None:
    load_generator(write_folder(tmp_path, QWEN, {**TENSORS, name: np.ones((1, 1), np.uint8)}))


def test_absurd_depth_costs_nothing(tmp_path: Path) -> None:
    """Layers that are not stored are never made, nor are their names spelt out."""
    folder = write_folder(tmp_path, {**QWEN, "num_hidden_layers": 1000}, TENSORS)
    message = refusal(folder)
    assert "missing model.layers.3." in message
    assert "more (" in message
    assert len(message) < 2000


def header(folder: Path, described: Any, data: bytes = b"", length: int | None = None) -> Path:
    """A folder whose safetensors file has this header."""
    write_folder(folder, QWEN, TENSORS)
    text = described if isinstance(described, bytes) else json.dumps(described).encode()
    size = struct.pack("<Q", len(text) if length is None else length)
    (folder / "model.safetensors").write_bytes(size + text + data)
    return folder


def tensor(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


HEADERS: list[tuple[Any, bytes, int | None]] = [
    (b"", b"", None),
    (b"{}", b"trailing", None),
    (b"[]", b"", None),
    (b"not json", b"", None),
    (b"\xff\xff", b"", None),
    (b"{}", b"", 1 << 62),
    (b"{}", b"", 100),
    (b'{"a":' * 10_000, b"", None),
    (tensor(), b"", None),
    (tensor(), bytes(4), None),
    (tensor(), bytes(12), None),
    (tensor(offsets=(8, 0)), bytes(8), None),
    (tensor(offsets=(0, 4)), bytes(8), None),
    (tensor(offsets=(4, 12)), bytes(12), None),
    (tensor(offsets=(-8, 0)), bytes(8), None),
    (tensor(offsets=(0, 2**63)), bytes(8), None),
    (tensor(shape=(3,)), bytes(8), None),
    (tensor(shape=(2**62, 2**62)), bytes(8), None),
    (tensor(shape=(-2,)), bytes(8), None),
    (tensor(shape="2"), bytes(8), None),
    (tensor(dtype="F99"), bytes(8), None),
    (tensor(dtype=3), bytes(8), None),
    ({"a": 3}, bytes(8), None),
    ({"a": {}}, bytes(8), None),
    ({"__metadata__": {"a": 3}}, b"", None),
]


@pytest.mark.parametrize(("described", "data", "length"), HEADERS)
def test_headers_that_lie(tmp_path: Path, described: Any, data: bytes, length: int | None) -> None:
    message = refusal(header(tmp_path, described, data, length))
    assert "model.safetensors: not a whole safetensors file" in message


def test_cut_off_anywhere(tmp_path: Path) -> None:
    file = write_folder(tmp_path, QWEN, TENSORS) / "model.safetensors"
    content = file.read_bytes()
    for size in (0, 1, 7, 8, 9, 100, 2000, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:size])
        assert "model.safetensors: not a whole safetensors file" in refusal(tmp_path)


OTHERS: list[tuple[dict[str, str], str]] = [
    ({}, "an empty folder"),
    ({"adapter_config.json": "{}", "adapter_model.safetensors": ""}, "an adapter (LoRA)"),
    ({"adapter_config.json": "{}", "tokenizer.json": "{}"}, "merge_and_unload"),
    ({"config.json": "", "adapter_config.json": "{}"}, "an adapter (LoRA)"),
    ({"config.json": "", "pytorch_model.bin": ""}, "pickled weights (pytorch_model.bin)"),
    ({"config.json": "", "pytorch_model-00001-of-00002.bin": ""}, "pickled weights"),
    ({"config.json": "", "model.pt": ""}, "pickled weights (model.pt)"),
    ({"consolidated.00.pth": "", "params.json": ""}, "Meta's own format"),
    ({"config.json": "", "consolidated.safetensors": ""}, "Mistral's own format"),
    ({"consolidated.safetensors": "", "params.json": "", "tekken.json": ""}, "Mistral's own"),
    ({"config.json": "", "tf_model.h5": ""}, "another framework (tf_model.h5)"),
    ({"config.json": "", "flax_model.msgpack": ""}, "another framework"),
    ({"config.json": "", "model-00001-of-00002.safetensors": ""}, "shards without"),
    ({"config.json": "", "model.fp16.safetensors": ""}, "found model.fp16.safetensors"),
    ({"model-Q4_K_M.gguf": ""}, "give the path of one of them, such as model-Q4_K_M.gguf"),
    ({"checkpoint-500/config.json": ""}, "holds model folders (checkpoint-500/config.json)"),
    ({"tokenizer.json": "{}", "tokenizer_config.json": "{}"}, "a tokenizer and no weights"),
    ({"config.json": "", "README.md": ""}, "no weights; expected model.safetensors"),
    ({"model_index.json": "{}"}, "diffusion"),
    ({"README.md": ""}, "no weights"),
    ({"model.safetensors": ""}, "config.json: missing"),
]


def test_an_adapter_beside_a_model(tmp_path: Path) -> None:
    write_folder(tmp_path, QWEN, TENSORS)
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "an adapter (LoRA) beside a model" in refusal(tmp_path)


@pytest.mark.parametrize(("files", "message"), OTHERS)
def test_folders_of_other_kinds(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(QWEN) if name == "config.json" else text)
    assert message in refusal(tmp_path)


@pytest.mark.parametrize("path", ["x" * 300, "a/" * 3000, "~nobody-at-all/model", "a\0b"])
def test_paths_that_cannot_be(path: str) -> None:
    with pytest.raises(UserError, match="no path of a file or folder|no such file") as caught:
        load_generator(path)
    assert "\n" not in str(caught.value)


def tied_with_head(folder: Path, head: np.ndarray, **changes: Any) -> Path:
    return write_folder(folder, {**QWEN, **changes}, {**TENSORS, "lm_head.weight": head})


def test_a_stored_head_goes_before_a_tied_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    head = TENSORS["model.embed_tokens.weight"].copy()
    head[-1, -1] += 1
    model = load_generator(tied_with_head(tmp_path, head))
    assert not model.config.tied_head
    assert model.head is not None
    np.testing.assert_array_equal(model.head[...], head.T)
    warnings = [r.getMessage() for r in caplog.records if "tie_word_embeddings" in r.getMessage()]
    assert len(warnings) == 1
    assert str(tmp_path) in warnings[0]


def test_a_stored_copy_of_the_tied_head_is_no_second_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = load_generator(tied_with_head(tmp_path, TENSORS["model.embed_tokens.weight"]))
    assert model.config.tied_head
    assert model.head is None
    assert not caplog.records


def test_heads_are_compared_as_the_model_has_them(tmp_path: Path) -> None:
    wide = TENSORS["model.embed_tokens.weight"]
    narrow = wide.astype(ml_dtypes.bfloat16)
    folder = tied_with_head(tmp_path, narrow)
    assert load_generator(folder, dtype=ml_dtypes.bfloat16).config.tied_head
    assert not load_generator(folder).config.tied_head


def test_a_head_of_another_shape_is_refused(tmp_path: Path) -> None:
    head = TENSORS["model.embed_tokens.weight"]
    assert "lm_head.weight is [130, 112], not [131, 112]" in refusal(
        tied_with_head(tmp_path / "short", head[:-1])
    )
    assert "lm_head.weight is [131, 111], not [131, 112]" in refusal(
        tied_with_head(tmp_path / "narrow", head[:, :-1])
    )


def test_a_tied_head_without_its_embedding(tmp_path: Path) -> None:
    tensors = dict(TENSORS)
    embedding = tensors.pop("model.embed_tokens.weight")
    tensors["lm_head.weight"] = embedding
    model = load_generator(write_folder(tmp_path, QWEN, tensors))
    np.testing.assert_array_equal(model.embedding[...], embedding)
    assert model.head is None


@pytest.mark.parametrize(("family", "tied"), [("qwen2", False), ("gemma2", True)])
def test_tied_where_the_config_does_not_say(tmp_path: Path, family: str, tied: bool) -> None:
    fields = {n: v for n, v in CONFIGS[family].items() if n != "tie_word_embeddings"}
    folder = write_folder(tmp_path, fields, random_tensors(fields))
    assert load_generator(folder).config.tied_head is tied


def test_two_files_with_one_tensor(tmp_path: Path) -> None:
    write_folder(tmp_path, QWEN, TENSORS, {WEIGHT: TENSORS[WEIGHT]})
    assert f"{WEIGHT} is stored more than once" in refusal(tmp_path)


def test_folders_are_compared_part_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the parts are, the comparison is of all that is stored."""
    monkeypatch.setattr("ttc_jax.models.weights.COMPARED", 1)
    head = TENSORS["model.embed_tokens.weight"].copy()
    assert load_generator(tied_with_head(tmp_path / "same", head)).config.tied_head
    head[-1, 0] += 1
    assert not load_generator(tied_with_head(tmp_path / "other", head)).config.tied_head


def test_safetensors_of_the_tests_are_whole(tmp_path: Path) -> None:
    file = write_folder(tmp_path, QWEN, TENSORS) / "model.safetensors"
    assert safetensors.numpy.load_file(file).keys() == TENSORS.keys()
    assert load_generator(tmp_path).config.depth == 3
