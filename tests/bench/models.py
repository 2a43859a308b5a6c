"""What the search's benchmark runs on: weights in JAX and in torch, a PRM, and questions."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ttc_jax.models.config import ModelConfig
from ttc_jax.models.delimiters import Delimiter
from ttc_jax.models.hub import transformers
from ttc_jax.models.parameters import named
from ttc_jax.models.tokenizers import HFTokenizer, load_tokenizer
from ttc_jax.models.transformer import Transformer
from ttc_jax.models.weights import load_generator
from ttc_jax.sampling.sampler import bucket
from ttc_jax.verifiers.prm import ProcessRewardModel
from ttc_jax.verifiers.prm_config import PRMConfig

SMOLLM2 = ModelConfig(
    vocab_size=49152,
    width=576,
    depth=30,
    heads=9,
    kv_heads=3,
    head_size=64,
    ffn_width=1536,
    context=8192,
)
TINY = ModelConfig(
    vocab_size=97,
    width=32,
    depth=2,
    heads=4,
    kv_heads=2,
    head_size=8,
    ffn_width=64,
    context=512,
)
PROBLEMS = (
    "A baker fills {a} trays with {b} rolls each and sells half of all her rolls before noon. "
    "How many rolls are left for the afternoon?",
    "Tom reads {a} pages a day for {b} days, and then 20 pages on the last day. How many pages "
    "has he read in all, and how many more would he need to reach 500?",
    "A bus has {a} seats. Each of {b} buses is full, but 6 passengers get off. How many people "
    "are still riding, all the buses together?",
    "Mia saves {a} dollars a week. After {b} weeks she buys a bicycle for 60 dollars. How much "
    "money does she have left after that?",
    "A farmer has {a} hens that lay {b} eggs a week each. He packs them by the dozen. How many "
    "full boxes does he have at the end of the week?",
    "There are {a} rows of {b} chairs in a hall. 15 chairs are broken and taken away. How many "
    "people can sit down if 4 chairs stay reserved?",
)


class Text(Protocol):
    """Strings to tokens and back."""

    def encode(self, text: str) -> list[int]: ...
    def decode(self, tokens: Sequence[int]) -> str: ...


class Characters:
    """For random weights: a character of a private plane stands for each token."""

    first = 0xF0000

    def encode(self, text: str) -> list[int]:
        return [ord(character) - self.first for character in text]

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(chr(token + self.first) for token in tokens)


@dataclasses.dataclass(frozen=True)
class Material:
    """Weights and questions, the same for ours and theirs."""

    what: str
    generator: Transformer
    text: Text
    prompts: list[str]
    delimiter: Delimiter
    ends: tuple[int, ...]

    def cast(self, dtype: str) -> Material:
        """The same with weights of another dtype."""
        graph, weights = nnx.split(self.generator)
        weights = jax.tree.map(lambda x: x.astype(dtype), weights)
        return dataclasses.replace(self, generator=nnx.merge(graph, weights))


def load(count: int, random: ModelConfig, length: int, shots: int, *, real: bool) -> Material:
    """Weights and `count` questions.

    Args:
      random: shape of random weights.
      length: of random prompts, tokens.
      shots: worked examples before each real question, as turns of a chat.
      real: whether to take what the environment names instead, if it does.
    """
    path = os.environ.get("TTC_SMOLLM2_GGUF")
    if not (real and path):
        V = random.vocab_size
        drawn = np.random.default_rng(0).integers(2, V, (count, length)).tolist()
        return Material(
            f"random weights, {random.depth} layers of {random.width}; random prompts of "
            f"{length} tokens; a character of the strings stands for a token",
            Transformer(random, rngs=nnx.Rngs(0)),
            text := Characters(),
            [text.decode(prompt) for prompt in drawn],
            Delimiter.in_texts(["x" if i % 20 else "\n" for i in range(V)], "\n"),
            tuple(range(1, V, 200)),
        )
    generator = load_generator(path)
    tokenizer = load_tokenizer(path, generator.config.vocab_size)
    assert isinstance(tokenizer, HFTokenizer)
    of, problems = word_problems(count)
    before = worked_examples(shots)
    prompts = [
        tokenizer._tokenizer.apply_chat_template(
            [*before, {"role": "user", "content": problem}],
            tokenize=False,
            add_generation_prompt=True,
        )
        for problem in problems
    ]
    buckets = [bucket(len(tokenizer.encode(prompt))) for prompt in prompts]
    usual = max(buckets, key=buckets.count)
    fits = [prompt for prompt, size in zip(prompts, buckets, strict=True) if size == usual]
    assert len(fits) >= count, f"only {len(fits)} prompts of up to {usual} tokens"
    mean = np.mean([len(tokenizer.encode(prompt)) for prompt in fits[:count]])
    return Material(
        f"{Path(path).name}; {of}, {len(before) // 2} worked examples before each, prompts of "
        f"{mean:.0f} tokens on average; steps end at newlines",
        generator,
        tokenizer,
        fits[:count],
        Delimiter.of(tokenizer, "\n"),
        tokenizer.eos_ids,
    )


def worked_examples(count: int) -> list[dict[str, str]]:
    """The first of GSM8K's training questions with their solutions, as turns; none without it."""
    if "TTC_DATA" not in os.environ:
        return []
    lines = (Path(os.environ["TTC_DATA"]) / "gsm8k_train.jsonl").read_text().splitlines()
    turns = []
    for row in map(json.loads, lines[:count]):
        solution = re.sub(r"<<.*?>>", "", row["answer"])  # of the calculator
        turns.append({"role": "user", "content": row["question"]})
        turns.append({"role": "assistant", "content": solution})
    return turns


def word_problems(count: int) -> tuple[str, list[str]]:
    """What they are, and more than enough of them."""
    if "TTC_DATA" in os.environ:
        lines = (Path(os.environ["TTC_DATA"]) / "gsm8k_test.jsonl").read_text().splitlines()
        return "GSM8K's test questions", [json.loads(x)["question"] for x in lines[: 10 * count]]
    texts = [PROBLEMS[i % len(PROBLEMS)].format(a=10 + i, b=3 + i % 7) for i in range(count)]
    return "word problems", texts


def prm_on(generator: Transformer) -> ProcessRewardModel:
    """A PRM with a random head on a copy of the generator."""
    dtype = generator.embedding[...].dtype
    prm = ProcessRewardModel(PRMConfig(generator.config), rngs=nnx.Rngs(1), dtype=dtype)
    nnx.update(prm.trunk, jax.tree.map(jnp.copy, nnx.state(generator)))
    prm.score[...] = jax.random.normal(jax.random.key(2), prm.score[...].shape, dtype)
    return prm


def torch_model(model: Transformer, kind: str) -> Any:
    """The same weights as a LlamaForCausalLM."""
    import torch

    c = model.config
    config = transformers().LlamaConfig(
        vocab_size=c.vocab_size,
        hidden_size=c.width,
        intermediate_size=c.ffn_width,
        num_hidden_layers=c.depth,
        num_attention_heads=c.heads,
        num_key_value_heads=c.kv_heads,
        head_dim=c.head_size,
        max_position_embeddings=c.context,
        rms_norm_eps=c.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": c.ropes[0].theta},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    of = {name: np.asarray(values) for name, values in named(model).items()}
    tensors = {"model.embed_tokens.weight": of["embedding"]}
    tensors["model.norm.weight"] = of["final_norm.scale"]
    for i in range(c.depth):
        ours, theirs = f"layers.blocks.{i}.", f"model.layers.{i}."
        qkv, gate_up = of[ours + "attention.qkv"], of[ours + "ffn.gate_up"]
        weights = {
            "self_attn.q_proj": qkv[:, :, :-2].reshape(c.width, -1).T,
            "self_attn.k_proj": qkv[:, :, -2].reshape(c.width, -1).T,
            "self_attn.v_proj": qkv[:, :, -1].reshape(c.width, -1).T,
            "self_attn.o_proj": of[ours + "attention.out"].reshape(-1, c.width).T,
            "mlp.gate_proj": gate_up[:, 0].T,
            "mlp.up_proj": gate_up[:, 1].T,
            "mlp.down_proj": of[ours + "ffn.down"].T,
            "input_layernorm": of[ours + "attention_norm.scale"],
            "post_attention_layernorm": of[ours + "ffn_norm.scale"],
        }
        tensors |= {f"{theirs}{name}.weight": values for name, values in weights.items()}
    exported = transformers().LlamaForCausalLM(config).eval()
    state = {name: torch.from_numpy(values.copy()) for name, values in tensors.items()}
    missing, unexpected = exported.load_state_dict(state, strict=False)
    assert (missing, unexpected) == (["lm_head.weight"], [])
    return exported.to(getattr(torch, kind))
