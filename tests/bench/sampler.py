"""Sampling speed beside transformers, in one run: same weights, prompt and number of tokens.

    python -m tests.bench.sampler --json=FILE [--weights=FOLDER] [--rounds=3]

Contenders take turns, round by round; figures are medians over the rounds, in tokens a second:

    ours               the sampler, float32, N candidates of one prompt
    ours_bf16          the same in bfloat16
    transformers_f32   generate(num_return_sequences=N), torch, the same weights
    transformers_bf16  the same in bfloat16
    matmul_bound       nothing but the matrix products of a decode step of N rows, in JAX

FOLDER is a Hugging Face checkpoint; without it the weights are random, of SmolLM2-135M's shape:
they do not change how long a token takes, as every contender draws as many tokens. FILE holds
each contender's N -> tokens/s for the 80-token prompt, the same for the 512-token prompt under
"prompt_512", the ratios, and how often the sampler's loop was compiled.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tests.parity.reference import save
from ttc_jax.models.hub import transformers
from ttc_jax.models.transformer import Transformer
from ttc_jax.models.weights import load_generator
from ttc_jax.sampling.sampler import Sampler

CANDIDATES = (1, 16, 64)
BOUND_STEPS = 8  # one alone is too short to time
NEW_TOKENS = {80: 64, 512: 32}  # by length of the prompt
SMOLLM2 = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}


def main() -> None:
    """Measures, prints a table and writes the JSON file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--weights", type=Path, help="Hugging Face folder")
    parser.add_argument("--rounds", type=int, default=3, help="medians are over so many")
    parser.add_argument("--prompts", type=int, nargs="+", choices=NEW_TOKENS, default=[*NEW_TOKENS])
    parser.add_argument("--candidates", type=int, nargs="+", default=CANDIDATES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.weights or random_weights(Path(scratch))
        models = {kind: load_generator(folder, dtype=kind) for kind in ("float32", "bfloat16")}
        references = {kind: torch_model(folder, kind) for kind in ("float32", "bfloat16")}
    figures: dict[str, Any] = {}
    for prompt in options.prompts:
        measured: dict[str, Any] = {}
        for n in options.candidates:
            for name, value in measure(models, references, prompt, n, options.rounds).items():
                measured.setdefault(name, {})[str(n)] = value
            figures |= measured if prompt == 80 else {f"prompt_{prompt}": measured}
            if options.json:  # now, so that an interrupted run keeps what it has
                options.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(
    models: dict[str, Transformer], references: dict[str, Any], prompt: int, n: int, rounds: int
) -> dict[str, float]:
    """Tokens a second of every contender at one length of prompt and one N, and the ratios."""
    new = NEW_TOKENS[prompt]
    model = models["float32"]
    tokens = np.random.default_rng(0).integers(5, model.config.vocab_size, prompt).tolist()
    ours = Ours(model, tokens, n, new)
    calls: dict[str, Callable[[], None]] = {
        "ours": ours,
        "ours_bf16": Ours(models["bfloat16"], tokens, n, new),
        "transformers_f32": theirs(references["float32"], tokens, n, new),
        "transformers_bf16": theirs(references["bfloat16"], tokens, n, new),
        "matmul_bound": matmul_bound(model, n),
    }
    done = dict.fromkeys(calls, new) | {"matmul_bound": BOUND_STEPS}
    for call in calls.values():
        call()  # compiles, and warms caches
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - began)
    row = {name: n * done[name] / statistics.median(spans) for name, spans in seconds.items()}
    best = max(row["transformers_f32"], row["transformers_bf16"])
    ratios = {
        "ratio_to_transformers": row["ours"] / best,
        "ratio_of_bf16_to_transformers": row["ours_bf16"] / best,
        "ratio_to_matmul_bound": row["ours"] / row["matmul_bound"],
    }
    numbers = "  ".join(f"{name} {rate:7.1f}" for name, rate in row.items())
    print(
        f"prompt {prompt:3}  N={n:<3} tokens/s: {numbers}  "
        f"ours/transformers {ratios['ratio_to_transformers']:.2f}, "
        f"{ratios['ratio_of_bf16_to_transformers']:.2f}  "
        f"ours/bound {ratios['ratio_to_matmul_bound']:.2f}",
        flush=True,
    )
    return row | ratios | {"compilations": ours.sampler.compilations}


class Ours:
    """One call samples n candidates of `new` tokens each; none can end earlier."""

    def __init__(self, model: Transformer, tokens: list[int], n: int, new: int):
        self.tokens = tokens
        self.sampler = Sampler(model, end_tokens=(), candidates=n, max_new_tokens=new)

    def __call__(self) -> None:
        samples = self.sampler.sample([self.tokens], [0])
        assert (samples.lengths == self.sampler.max_new_tokens).all()


def theirs(model: Any, tokens: list[int], n: int, new: int) -> Callable[[], None]:
    """`generate` with the same numbers of candidates and tokens."""
    import torch

    given = torch.tensor([tokens])

    def call() -> None:
        with torch.no_grad():
            out = model.generate(
                given,
                attention_mask=torch.ones_like(given),
                do_sample=True,
                top_k=0,
                num_return_sequences=n,
                min_new_tokens=new,
                max_new_tokens=new,
                pad_token_id=0,
            )
        assert out.shape == (n, len(tokens) + new)

    return call


def matmul_bound(model: Transformer, n: int) -> Callable[[], None]:
    """The matrix products of some decode steps of n rows, and nothing else."""
    graph, parameters = nnx.split(model)

    @jax.jit
    def step(parameters: Any, x: jax.Array) -> jax.Array:
        model = nnx.merge(graph, parameters)
        D, F = model.config.width, model.config.ffn_width
        for block in model.layers.blocks:
            mixed = x @ block.attention.qkv[...].reshape(D, -1)
            out = block.attention.out[...].reshape(-1, D)
            x = x + mixed[:, : out.shape[0]] @ out
            both = x @ block.ffn.gate_up[...].reshape(D, -1)
            x = x + (both[:, :F] * both[:, F:]) @ block.ffn.down[...]
        return model.logits(x)

    x = jnp.ones((n, model.config.width))

    def call() -> None:
        for _ in range(BOUND_STEPS):
            step(parameters, x).block_until_ready()

    return call


def random_weights(folder: Path) -> Path:
    """A checkpoint of SmolLM2-135M's shape."""
    import torch

    package = transformers()
    torch.manual_seed(0)
    config = package.LlamaConfig(**SMOLLM2, bos_token_id=None, eos_token_id=None)
    return save(package.LlamaForCausalLM(config), folder)


def torch_model(folder: Path, kind: str) -> Any:
    """The reference in a dtype; it never ends by itself."""
    import torch

    model = transformers().LlamaForCausalLM.from_pretrained(folder, dtype=getattr(torch, kind))
    model.generation_config.eos_token_id = None
    return model.eval()


if __name__ == "__main__":
    main()
