"""Each pair of models on each slice of configs/tpu.py: it loads, divides, and fits the chips."""

import dataclasses
import json
import math
from pathlib import Path

import huggingface_hub
import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from ttc_jax import cli
from ttc_jax.config import load_config
from ttc_jax.errors import UserError
from ttc_jax.experiments import build
from ttc_jax.experiments.sections import questions_at_once, strategy_of
from ttc_jax.models.cache import BLOCK, KVCache, PromptCache
from ttc_jax.models.config import ModelConfig
from ttc_jax.sampling.draw import SamplingParams
from ttc_jax.search.plan import Plan
from ttc_jax.tasks.prompts import PromptFormat

TPU = Path(__file__).parents[1] / "configs" / "tpu.py"
HBM = {"v5e-8": 15.75, "v5e-16": 15.75, "v6e-8": 31.25, "v5p-8": 95.74, "v6e-256": 31.25}  # GiB
HOST_CHIPS = {"v5e-8": 8, "v5e-16": 4, "v6e-8": 8, "v5p-8": 4, "v6e-256": 4}
PROMPT, MARKERS = 1024, 512  # tokens: longest prompt; what a verifier puts behind steps

LLAMA = ModelConfig(
    vocab_size=128256,
    width=4096,
    depth=32,
    heads=32,
    kv_heads=8,
    head_size=128,
    ffn_width=14336,
    context=131072,
    tied_head=False,
)
QWEN = ModelConfig(
    vocab_size=152064,
    width=3584,
    depth=28,
    heads=28,
    kv_heads=4,
    head_size=128,
    ffn_width=18944,
    context=32768,
    qkv_bias=True,
    tied_head=False,
)


def smaller(config: ModelConfig, depth: int, **shape: int) -> ModelConfig:
    return dataclasses.replace(config, depth=depth, windows=(), ropes=(), tied_head=True, **shape)


GENERATORS = {
    "llama3.2-1b": smaller(LLAMA, 16, width=2048, head_size=64, ffn_width=8192),
    "llama3.2-3b": smaller(LLAMA, 28, width=3072, heads=24, ffn_width=8192),
    "llama3.1-8b": LLAMA,
    "qwen2.5-1.5b": smaller(
        QWEN, 28, width=1536, heads=12, kv_heads=2, ffn_width=8960, vocab_size=151936
    ),
    "qwen2.5-7b": QWEN,
}
VARIANTS = [pytest.param(pair, chips, id=f"{pair}-{chips}") for pair in GENERATORS for chips in HBM]


def load(pair: str, chips: str) -> ConfigDict:
    return load_config(f"{TPU}:{pair},{chips}")


def trunk_of(config: ConfigDict) -> ModelConfig:
    """Of the PRM; Qwen's has small heads in place of the map to the vocabulary."""
    is_llama = config.verifier.path.startswith("RLHFlow/")
    return LLAMA if is_llama else dataclasses.replace(QWEN, tied_head=True)


def weights(model: ModelConfig) -> int:
    """Bytes of the matrices, in bfloat16."""
    return 2 * (model.block_parameters + model.head_parameters * (1 if model.tied_head else 2))


def cache(model: ModelConfig, candidates: int, capacity: int, shards: int) -> int:
    """Bytes of a question's cache on one of `shards` devices, as the sampler allocates it."""
    heads = -(-model.kv_heads // shards)  # at least one each

    def fork() -> KVCache:
        layer = jnp.zeros((1, PROMPT, heads, model.head_size), jnp.bfloat16)
        prompt = PromptCache((layer,) * model.depth, (layer,) * model.depth)
        return KVCache.fork(prompt, jnp.ones(1, jnp.int32), candidates, capacity)

    made = jax.eval_shape(fork)
    kept = jax.tree.leaves((made.prompt_k, made.prompt_v, made.suffix))
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in kept)


@pytest.mark.parametrize(("pair", "chips"), VARIANTS)
def test_variant_is_consistent(pair: str, chips: str):
    config = load(pair, chips)
    build.check(config)
    PromptFormat(**config.prompt)
    strategy = strategy_of(config.search)
    Plan(
        strategy,
        candidates=config.sampling.n,
        max_new_tokens=config.sampling.max_new_tokens,
        max_step_tokens=config.search.max_step_tokens,
        rounds=config.search.rounds,
        sampling=SamplingParams(config.sampling.temperature),
    )
    assert (config.generator.dtype, config.verifier.dtype) == ("bfloat16", "bfloat16")
    assert (config.task.name, config.limit, config.sampling.max_new_tokens) == ("math", 0, 2048)
    data, model = config.execution.mesh.data, config.execution.mesh.model
    assert data * model == HOST_CHIPS[chips]
    assert config.execution.rows % (config.sampling.n * data) == 0
    for shape in (GENERATORS[pair], trunk_of(config)):
        assert shape.heads % model == 0
        # Fewer key/value heads than devices are copied.
        assert shape.kv_heads % model == 0 or model % shape.kv_heads == 0
        assert shape.ffn_width % model == shape.vocab_size % model == 0


def share_of_hbm(config: ConfigDict, pair: str, chips: str, questions: int, model: int) -> float:
    """Part of a chip's HBM that weights and caches take, for the questions of a `data` shard."""
    generator, trunk = GENERATORS[pair], trunk_of(config)
    both = weights(generator) + weights(trunk)
    N, T = config.sampling.n, config.sampling.max_new_tokens
    room = cache(generator, N, T, model) + cache(trunk, N, T + MARKERS, model)
    return (both / model + questions * room) / (HBM[chips] * 2**30)


@pytest.mark.parametrize(("pair", "chips"), VARIANTS)
def test_variant_fits_and_no_smaller_model_axis_would(pair: str, chips: str):
    config = load(pair, chips)
    model = config.execution.mesh.model
    questions = questions_at_once(config, config.sampling.n) // config.execution.mesh.data
    assert share_of_hbm(config, pair, chips, questions, model) <= 0.8
    assert share_of_hbm(config, pair, chips, 2 * questions, model) > 0.8
    if model > 1:
        assert share_of_hbm(config, pair, chips, 1, model // 2) > 0.8
    config.sampling.n *= 2
    assert config.sampling.n == 128 or share_of_hbm(config, pair, chips, 1, model) > 0.8


def test_flags_of_the_docstring_search_without_a_verifier():
    flags = ["--config.verifier.path=", "--config.search.strategy=best_of_n"]
    config = load_config(f"{TPU}:llama3.1-8b,v5e-16", flags)
    build.check(config)
    strategy_of(config.search)


def test_docstring_figures():
    assert weights(GENERATORS["llama3.2-1b"]) + weights(LLAMA) == pytest.approx(
        17.3 * 2**30, rel=3e-3
    )
    for pair, kibibytes in zip(GENERATORS, (32, 112, 128, 28, 56), strict=True):
        model = GENERATORS[pair]
        assert cache(model, 1, 2 * BLOCK, 1) - cache(model, 1, BLOCK, 1) == BLOCK * kibibytes * 1024


@pytest.mark.parametrize("variant", ["llama3.2-1b", "llama3.2-1b,v4-8", "gpt,v5e-8", "v5e-8"])
def test_unknown_variant_names_pairs_and_slices(variant: str):
    with pytest.raises(UserError, match=r"qwen2\.5-7b, then a comma and one of v5e-8, .*v6e-256$"):
        load_config(f"{TPU}:{variant}")


def test_run_says_in_one_line_that_the_prm_cannot_be_read(tmp_path: Path, capsys, monkeypatch):
    def offline(*_: object, **__: object) -> str:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    row = {"problem": "1+1?", "answer": "2"}
    (tmp_path / "test.jsonl").write_text(json.dumps(row) + "\n")
    code = cli.main(
        [
            *["run", f"--config={TPU}:llama3.2-1b,v5e-8", f"--workdir={tmp_path / 'w'}"],
            f"--config.task.path={tmp_path / 'test.jsonl'}",
        ]
    )
    said = capsys.readouterr().err
    assert code == 2
    assert said.count("\n") == 1
    assert (
        "RLHFlow/Llama3.1-8B-PRM-Deepseek-Data is no file or folder here, and the Hugging" in said
    )
    assert not (tmp_path / "w").exists()
