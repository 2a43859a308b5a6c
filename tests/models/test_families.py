"""Configs as Hugging Face writes them, and the table of tensors."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from tests.models.small import CONFIGS, wanted_parameters
from ttc_jax.errors import UserError
from ttc_jax.models.config import ModelConfig, Rope
from ttc_jax.models.families import FAMILIES, Rule, read_config, sizes
from ttc_jax.models.rope import frequencies, rotations
from ttc_jax.sharding.mesh import whole


def config_of(family: str, **changes: Any) -> ModelConfig:
    return read_config({**CONFIGS[family], **changes}, "config.json")[1]


def arranged(rule: Rule, tensor: np.ndarray, axes: dict[str, int]) -> np.ndarray:
    """All of the tensor as it stands in its place."""
    _, target = rule.layout.split("->")
    place = dataclasses.replace(rule, layout=f"{target}->{target}").shape(axes)
    return rule.read(tensor.__getitem__, axes, whole(place))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", CONFIGS)
def test_tensors_fill_every_parameter_exactly_once(family: str, tied: bool) -> None:
    fields = {**CONFIGS[family], "tie_word_embeddings": tied}
    rules, config = read_config(fields, "config.json")
    wanted = wanted_parameters(fields)
    filled = {name: np.zeros(like.shape, int) for name, like in wanted.items()}
    names: list[str] = []
    for rule in rules.rules:
        for i in range(config.depth if "{i}" in rule.tensor else 1):
            if (name := rule.parameter.format(i=i)) in filled:
                axes = sizes(config)
                filled[name][rule.place] += arranged(rule, np.ones(rule.shape(axes), int), axes) > 0
                names.append(rule.tensor.format(i=i))
    assert all((count == 1).all() for count in filled.values())
    assert len(set(names)) == len(names)


def test_every_rule_serves_some_model() -> None:
    everything = {name for fields in CONFIGS.values() for name in wanted_parameters(fields)}
    untied = wanted_parameters({**CONFIGS["gemma2"], "attention_bias": True})
    for family in FAMILIES.values():
        for rule in family.rules:
            assert rule.parameter.format(i=0) in everything | set(untied), rule


def test_layout() -> None:
    """Rows of a query matrix are key/value head, query of that head, feature."""
    rule = Rule("q", "qkv", "(K G h) D -> D K G h")
    axes = {"K": 2, "G": 3, "h": 4, "D": 5}
    assert rule.shape(axes) == (24, 5)
    matrix = np.arange(24 * 5).reshape(24, 5)
    moved = arranged(rule, matrix, axes)
    for k, g, h in np.ndindex(2, 3, 4):
        assert (moved[:, k, g, h] == matrix[(k * 3 + g) * 4 + h]).all()
    shifted = Rule("norm", "scale", "D -> D", shift=1.0)
    assert (arranged(shifted, np.full(5, 0.5, np.float32), axes) == 1.5).all()


def test_windows() -> None:
    assert config_of("llama", sliding_window=5).windows == (None, None)
    assert config_of("mistral").windows == (7, 7)
    assert config_of("mistral", sliding_window=None).windows == (None, None)
    assert config_of("qwen2").windows == (None, 9, 9)
    assert config_of("qwen2", use_sliding_window=False).windows == (None, None, None)
    assert config_of("gemma2").windows == (8, None, 8)
    layers = {"num_hidden_layers": 7, "layer_types": None}
    assert config_of("gemma3", **layers).windows == (6, 6, 6, 6, 6, None, 6)
    assert config_of("gemma3", **layers, sliding_window_pattern=3).windows[:3] == (6, 6, None)


def test_biases_norms_and_scales() -> None:
    def switches(family: str, **changes: Any) -> tuple[bool, ...]:
        c = config_of(family, **changes)
        return (c.qkv_bias, c.out_bias, c.ffn_bias, c.qk_norm, c.post_norms)

    assert switches("llama") == (True, True, True, False, False)
    assert switches("llama", attention_bias=False, mlp_bias=False) == (False,) * 5
    assert switches("mistral") == (False,) * 5
    assert switches("qwen2") == (True, False, False, False, False)
    assert switches("qwen3") == (True, True, False, True, False)
    assert switches("gemma2") == (False, False, False, False, True)
    assert switches("gemma3") == (True, True, False, True, True)
    gemma = config_of("gemma2")
    assert gemma.attention_scale == 13**-0.5
    assert (gemma.attention_softcap, gemma.logit_softcap) == (3.0, 5.0)
    assert gemma.embedding_scale == 48**0.5
    assert gemma.activation == "gelu_tanh"


def test_older_rope_fields() -> None:
    """transformers 4 wrote `rope_theta` and `rope_scaling`, and Gemma 3 `rope_local_base_freq`."""
    new = config_of("llama")
    scaling = dict(CONFIGS["llama"]["rope_parameters"])
    theta = scaling.pop("rope_theta")
    assert config_of("llama", rope_parameters=None, rope_theta=theta, rope_scaling=scaling) == new
    linear = {"type": "linear", "factor": 2.0}
    older = config_of("qwen2", rope_parameters=None, rope_theta=1e4, rope_scaling=linear)
    assert older == config_of("qwen2")
    assert (
        config_of(
            "gemma3",
            rope_parameters=None,
            rope_theta=1e6,
            rope_local_base_freq=1e4,
            rope_scaling={"rope_type": "linear", "factor": 8.0},
        ).ropes
        == (Rope(1e4), Rope(1e6, linear_factor=8.0)) * 2
    )


def test_frequencies_of_llama3() -> None:
    """High frequencies stay, low ones are divided by the factor, those between go over smoothly."""
    plain = Rope(500_000.0)
    scaled = dataclasses.replace(plain, llama3_factor=8.0)
    ratio = frequencies(scaled, 128) / frequencies(plain, 128)
    wavelength = 2 * np.pi / frequencies(plain, 128)
    np.testing.assert_allclose(ratio[wavelength < 8192 / 4], 1.0, rtol=1e-6)
    np.testing.assert_allclose(ratio[wavelength > 8192], 1 / 8, rtol=1e-6)
    assert (np.diff(ratio) <= 1e-6).all()


QWEN_YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768}


def test_yarn_of_qwen() -> None:
    """As Qwen's model cards say to switch it on: in `rope_scaling`, and nothing else."""
    older = {"rope_parameters": None, "rope_theta": 1e6, "rope_scaling": QWEN_YARN}
    config = config_of("qwen2", **older, max_position_embeddings=32_768)
    (rope,) = set(config.ropes)
    assert rope == Rope(
        1e6,
        yarn_factor=4.0,
        yarn_original_context=32_768,
        attention_factor=0.1 * math.log(4) + 1,
    )
    assert config.context == 131_072
    newer = {"rope_theta": 1e6, "rope_type": "yarn", **QWEN_YARN}
    assert config_of("qwen2", rope_parameters=newer).ropes == config.ropes


def test_context_of_yarn() -> None:
    """As long as it stretches: that is what some configs store, and others the original."""
    for stored in (32_768, 40_960, 131_072):
        rope = {**QWEN_YARN, "rope_type": "yarn", "rope_theta": 1e6}
        assert config_of("qwen3", rope_parameters=rope, max_position_embeddings=stored).context == (
            131_072
        )
    older = {"rope_parameters": None, "rope_scaling": {"type": "yarn", "factor": 2.0}}
    config = config_of("qwen2", **older, rope_theta=1e6, max_position_embeddings=32_768)
    assert config.ropes[0].yarn_original_context == 32_768
    assert config.context == 65_536


@pytest.mark.parametrize(
    ("changes", "factor"),
    [
        ({}, 0.1 * math.log(4) + 1),
        ({"factor": 1.0}, 1.0),
        ({"attention_factor": 1.25}, 1.25),
        ({"mscale": 1.0, "mscale_all_dim": 1.0}, 1.0),
        ({"mscale": 2.0, "mscale_all_dim": 1.0}, (0.2 * math.log(4) + 1) / (0.1 * math.log(4) + 1)),
        ({"mscale": 0.707}, 0.1 * math.log(4) + 1),
        ({"mscale": 0.707, "mscale_all_dim": 0}, 0.1 * math.log(4) + 1),
    ],
)  # fmt: skip
def test_attention_factor_of_yarn(changes: dict[str, Any], factor: float) -> None:
    rope = {**QWEN_YARN, "rope_type": "yarn", "rope_theta": 1e6, **changes}
    found = config_of("qwen3", rope_parameters=rope).ropes[0]
    assert found.attention_factor == pytest.approx(factor, rel=1e-12)
    cos, sin = rotations(found, 8, 5)
    np.testing.assert_allclose(cos**2 + sin**2, factor**2, rtol=1e-5)
    assert (cos[0] == np.float32(factor)).all()


def test_frequencies_of_yarn() -> None:
    """Pairs that turn often stay, those that turn less than once are slowed by the factor."""
    plain = Rope(1e6)
    scaled = dataclasses.replace(plain, yarn_factor=4.0)
    ratio = frequencies(scaled, 128) / frequencies(plain, 128)
    turns = 32_768 * frequencies(plain, 128) / (2 * np.pi)
    first, last = int((turns >= 32).sum()) - 1, int((turns > 1).sum())
    assert (ratio[: first + 1] == 1.0).all()
    np.testing.assert_allclose(ratio[last:], 1 / 4, rtol=1e-6)
    between = 1 - (np.arange(first, last + 1) - first) / (last - first) * 3 / 4
    np.testing.assert_allclose(ratio[first : last + 1], between, rtol=1e-5)


def test_gemma3_with_eyes_is_its_text_model() -> None:
    text = CONFIGS["gemma3"]
    nested = {"model_type": "gemma3", "text_config": text}
    assert read_config(nested, "config.json") == read_config(text, "config.json")


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("llama", {"model_type": "phi3"}, r"'phi3' is not supported; supported are gemma2, gemma3"),
        ("llama", {"model_type": None}, "model_type None is not supported"),
        ("llama", {"hidden_act": "relu"}, "activation 'relu' is not supported"),
        (
            "qwen3",
            {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e6, "factor": 4.0}},
            "longrope",
        ),
        (
            "mistral",
            {"rope_parameters": None, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
            "rope type 'dynamic' is not supported",
        ),
        (
            "llama",
            {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0}},
            "rope type 'llama3' without 'low_freq_factor'|low_freq_factor",
        ),
        ("llama", {"quantization_config": {"quant_method": "gptq"}}, "quantized weights"),
        ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("llama", {"num_attention_heads": 5}, "not a multiple"),
        ("llama", {"hidden_size": "wide"}, "hidden_size"),
    ],
)
def test_unsupported(family: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        config_of(family, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rope", "unread"),
    [
        ({"type": "yarn", "factor": 4.0, "extrapolation_factor": 0.5}, "extrapolation_factor"),
        ({"rope_type": "linear", "factor": 2.0, "low_freq_factor": 1.0}, "low_freq_factor"),
        ({"rope_type": "default", "factor": 4.0}, "factor"),
        ({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}, ""),
        ({"type": "default"}, ""),
        (None, ""),
    ],
)
def test_keys_of_a_rope_that_are_not_read_are_told(
    rope: dict[str, Any] | None, unread: str, caplog: Any
) -> None:
    fields = CONFIGS["llama"] | {"rope_parameters": None, "rope_theta": 1e4, "rope_scaling": rope}
    read_config(fields, "config.json")
    assert (f"ignored: '{unread}'" in caplog.text) if unread else not caplog.text
