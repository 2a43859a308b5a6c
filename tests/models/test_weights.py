"""Loading Hugging Face folders: what goes where, and every mistake in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from tests.models.small import CONFIGS, random_tensors, write_folder
from ttc_jax.errors import UserError
from ttc_jax.models import parameters
from ttc_jax.models.weights import load_generator
from ttc_jax.sharding.mesh import make_mesh, place

LLAMA = CONFIGS["llama"]
Q = "model.layers.1.self_attn.q_proj.weight"


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_generator(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_places(tmp_path: Path) -> None:
    """Heads, transposes and the fused slots, by hand for one layer."""
    tensors = random_tensors(LLAMA)
    ours = parameters.named(load_generator(write_folder(tmp_path, LLAMA, tensors)))
    at, to = "model.layers.1.", "layers.blocks.1."
    K, G, h = 2, 3, 14
    q = tensors[at + "self_attn.q_proj.weight"].reshape(K, G, h, 60)
    k = tensors[at + "self_attn.k_proj.weight"].reshape(K, h, 60)
    v_bias = tensors[at + "self_attn.v_proj.bias"].reshape(K, h)
    o = tensors[at + "self_attn.o_proj.weight"].reshape(60, K, G, h)
    up = tensors[at + "mlp.up_proj.weight"]
    np.testing.assert_array_equal(ours[to + "attention.qkv"][:, 1, 2], q[1, 2].T)
    np.testing.assert_array_equal(ours[to + "attention.qkv"][:, 1, G], k[1].T)
    np.testing.assert_array_equal(ours[to + "attention.qkv_bias"][:, G + 1], v_bias)
    np.testing.assert_array_equal(ours[to + "attention.out"][0, 2], o[:, 0, 2].T)
    np.testing.assert_array_equal(ours[to + "ffn.gate_up"][:, 1], up.T)
    np.testing.assert_array_equal(ours["head"], tensors["lm_head.weight"].T)


def test_gemma_norms_gain_one(tmp_path: Path) -> None:
    tensors = random_tensors(CONFIGS["gemma3"])
    model = load_generator(write_folder(tmp_path, CONFIGS["gemma3"], tensors))
    ours = parameters.named(model)["layers.blocks.0.attention.k_norm.scale"]
    np.testing.assert_array_equal(ours, tensors["model.layers.0.self_attn.k_norm.weight"] + 1)


def test_shards_leftovers_and_dtypes(tmp_path: Path) -> None:
    """Shards under an index, a stored copy of the tied head, old buffers; bfloat16 to float32."""
    fields = {**CONFIGS["qwen2"]}
    tensors = {n: t.astype(ml_dtypes.bfloat16) for n, t in random_tensors(fields).items()}
    names = sorted(tensors)
    first = {name: tensors[name] for name in names[::2]}
    second = {name: tensors[name] for name in names[1::2]}
    second["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    second["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(4, np.float32)
    folder = write_folder(tmp_path, fields, first, second)
    model = load_generator(folder)
    stored = tensors["model.embed_tokens.weight"].astype(np.float32)
    np.testing.assert_array_equal(model.embedding[...], stored)
    narrow = load_generator(folder, dtype=jnp.bfloat16)
    assert {array.dtype for array in parameters.named(narrow).values()} == {jnp.dtype(jnp.bfloat16)}


def test_gemma3_with_eyes(tmp_path: Path) -> None:
    text = {**CONFIGS["gemma3"], "tie_word_embeddings": True}
    tensors = random_tensors(text)
    plain = load_generator(write_folder(tmp_path / "plain", text, tensors))
    fields = {"model_type": "gemma3", "text_config": text}
    for number, prefix in enumerate(["language_model.model.", "model.language_model."]):
        renamed = {prefix + n.removeprefix("model."): t for n, t in tensors.items()}
        renamed["vision_tower.embeddings.weight"] = np.ones(2, np.float32)
        model = load_generator(write_folder(tmp_path / str(number), fields, renamed))
        for name, array in parameters.named(plain).items():
            np.testing.assert_array_equal(array, parameters.named(model)[name])


@pytest.mark.parametrize(("data", "model"), [(8, 1), (4, 2)])
def test_straight_to_the_mesh(tmp_path: Path, data: int, model: int) -> None:
    folder = write_folder(
        tmp_path, LLAMA | {"vocab_size": 130}, random_tensors(LLAMA | {"vocab_size": 130})
    )
    whole, split = load_generator(folder), load_generator(folder, mesh=make_mesh(data, model))
    for name, array in parameters.named(split).items():
        np.testing.assert_array_equal(array, parameters.named(whole)[name])
    qkv = parameters.named(split)["layers.blocks.0.attention.qkv"]
    assert {shard.data.shape for shard in qkv.addressable_shards} == {(60, 2 // model, 5, 14)}
    tokens = jnp.arange(12).reshape(2, 6)
    run = jax.jit(lambda m, t: m.logits(m(t)))
    np.testing.assert_allclose(run(split, tokens), run(whole, tokens), atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_heads_that_are_too_few_are_copied_as_they_are_read(tmp_path: Path, family: str) -> None:
    heads = {"num_attention_heads": 4, "num_key_value_heads": 1}
    sizes = heads | {"vocab_size": 132, "intermediate_size": 72}
    fields, mesh = CONFIGS[family] | sizes, make_mesh(2, 4)
    tensors = random_tensors(fields)
    folder = write_folder(tmp_path, fields, tensors)
    split = parameters.named(load_generator(folder, mesh=mesh))
    for name, array in parameters.named(place(load_generator(folder), mesh)).items():
        assert split[name].sharding == array.sharding, name
        np.testing.assert_array_equal(split[name], array, name)
    narrow = parameters.named(load_generator(folder, mesh=mesh, dtype=jnp.bfloat16))
    for name, array in split.items():
        np.testing.assert_array_equal(narrow[name], array.astype(jnp.bfloat16), name)


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    tensors = random_tensors(LLAMA)
    del tensors["model.norm.weight"]
    tensors["score.weight"] = np.ones((1, 60), np.float32)
    tensors[Q] = tensors[Q][:-1]
    message = refusal(
        write_folder(tmp_path, LLAMA, tensors, {"lm_head.weight": np.ones(3, np.float32)})
    )
    for part in (
        str(tmp_path),
        "missing model.norm.weight",
        "extra score.weight",
        f"{Q} is [83, 60], not [84, 60]",
        "lm_head.weight is stored more than once",
    ):
        assert part in message


def test_many_mistakes_are_counted(tmp_path: Path) -> None:
    tensors = {name: t for name, t in random_tensors(LLAMA).items() if ".layers." not in name}
    message = refusal(write_folder(tmp_path, LLAMA, tensors))
    assert message.count("missing") == parameters.NAMED_AT_MOST
    assert "and 22 more" in message


def test_gemma3_stored_under_two_names(tmp_path: Path) -> None:
    tensors = random_tensors(CONFIGS["gemma3"])
    tensors["language_model.model.norm.weight"] = tensors["model.norm.weight"]
    message = refusal(write_folder(tmp_path, CONFIGS["gemma3"], tensors))
    assert "model.norm.weight is stored more than once" in message


def test_no_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    assert f"{tmp_path}: no weights; expected model.safetensors" in refusal(tmp_path)
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "config.json").unlink()
    assert "config.json: missing" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert "config.json: not JSON (Expecting property name" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    assert "config.json: not a JSON object" in refusal(tmp_path)


def test_lost_shard_and_broken_file(tmp_path: Path) -> None:
    tensors = random_tensors(LLAMA)
    folder = write_folder(
        tmp_path, LLAMA, tensors, {"lm_head.weight": tensors.pop("lm_head.weight")}
    )
    shard = folder / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:50])
    assert "model-00002-of-00002.safetensors: not a whole safetensors file" in refusal(folder)
    shard.unlink()
    assert "missing model-00002-of-00002.safetensors" in refusal(folder)


def test_no_such_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(tmp_path / "absent").endswith("absent: no such file or folder")
    (tmp_path / "weights.bin").touch()
    assert "neither a .gguf file nor a model folder" in refusal(tmp_path / "weights.bin")

    def offline(*_: Any, **__: Any) -> str:
        raise LocalEntryNotFoundError("no connection\nmore")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    message = refusal(Path("organisation/model"))
    assert "the Hugging Face hub does not give it (no connection)" in message
    assert "give the path of a local copy" in message


def test_hub_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is needed is asked for; what comes is read like any folder."""
    folder = write_folder(tmp_path, LLAMA, random_tensors(LLAMA))
    asked: list[str] = []

    def download(name: str, *, allow_patterns: list[str]) -> str:
        asked.extend([name, *allow_patterns])
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert load_generator("organisation/model").config.depth == 2
    assert asked[0] == "organisation/model"
    assert not any(pattern.endswith((".bin", ".py", ".pt")) for pattern in asked)


def test_a_copy_of_a_hub_name_goes_before_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "organisation" / "model", LLAMA, random_tensors(LLAMA))

    def download(name: str, **_: Any) -> str:
        raise LocalEntryNotFoundError(f"asked for {name}")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setenv("TTC_MODELS", str(tmp_path))
    assert load_generator("organisation/model").config.depth == 2
    assert "asked for organisation/other" in refusal(Path("organisation/other"))
