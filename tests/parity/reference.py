"""What parity tests share: transformers' models beside ours."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ttc_jax.models.cache import KVCache
from ttc_jax.models.hub import transformers
from ttc_jax.models.transformer import Transformer

NEW_TOKENS = 64
TOLERANCE = 1e-3  # of logits
NOISE = 1.0  # on norms and biases; with less, a tied Gemma just repeats its last token


def torch_module() -> Any:
    """torch, imported late so that tests are collected without it; one thread, for small models."""
    import torch

    torch.set_num_threads(1)
    return torch


def random_reference(fields: dict[str, Any], seed: int = 0) -> Any:
    """transformers' model with random weights, norms and biases included."""
    package = transformers()
    torch_module().manual_seed(seed)
    config = package.CONFIG_MAPPING[fields["model_type"]].from_dict(dict(fields))
    model = package.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    torch = torch_module()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # initialised to ones or zeros, which would hide mistakes
                parameter.add_(torch.randn_like(parameter) * NOISE)
    return model


def reference_logits(model: Any, tokens: np.ndarray) -> np.ndarray:
    """[B, T, V] of whole sequences."""
    torch = torch_module()
    with torch.no_grad():
        return model(input_ids=torch.from_numpy(tokens.astype(np.int64))).logits.float().numpy()


def reference_greedy(model: Any, prompts: np.ndarray, new_tokens: int = NEW_TOKENS) -> np.ndarray:
    """[B, new_tokens] by `generate`."""
    torch = torch_module()
    given = torch.from_numpy(prompts.astype(np.int64))
    out = model.generate(
        given,
        attention_mask=torch.ones_like(given),
        max_new_tokens=new_tokens,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    return out[:, prompts.shape[1] :].numpy()


@jax.jit
def _forward(model: Transformer, tokens: jax.Array) -> jax.Array:
    return model.logits(model(tokens))


@jax.jit
def _prefill(model: Transformer, tokens: jax.Array, lengths: jax.Array) -> KVCache:
    return KVCache.fork(model.prefill(tokens)[1], lengths, 2, NEW_TOKENS + 1)


@jax.jit
def _step(model: Transformer, tokens: jax.Array, cache: KVCache) -> tuple[jax.Array, KVCache]:
    hidden, cache = model.extend(tokens[..., None], cache)
    return model.logits(hidden[..., 0, :]), cache.advance(jnp.ones_like(tokens))


def our_greedy(
    model: Transformer, prompts: np.ndarray, new_tokens: int = NEW_TOKENS
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens [B, N, new_tokens] and their logits [B, N, new_tokens, V], by prefill and extend."""
    B, P = prompts.shape
    cache = _prefill(model, jnp.asarray(prompts[:, :-1]), jnp.full((B,), P - 1))
    token = jnp.broadcast_to(jnp.asarray(prompts[:, -1:]), (B, 2))
    tokens, logits = [], []
    for _ in range(new_tokens):
        scores, cache = _step(model, token, cache)
        token = scores.argmax(-1).astype(jnp.int32)
        tokens.append(np.asarray(token))
        logits.append(np.asarray(scores))
    return np.stack(tokens, 2), np.stack(logits, 2)


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How far ours is from the reference."""

    forced: float  # max |Δ logits|, teacher forcing
    cached: float  # max |Δ logits|, prefill and extend
    same_tokens: bool  # of greedy decoding, every one


@dataclasses.dataclass(frozen=True)
class Expected:
    """Greedy continuations by the reference, and its logits over prompt and continuation."""

    prompts: np.ndarray  # [B, P]
    whole: np.ndarray  # [B, P + new tokens]
    logits: np.ndarray  # [B, P + new tokens, V]


def expect(reference: Any, prompts: np.ndarray) -> Expected:
    """What ours must agree with."""
    whole = np.concatenate([prompts, reference_greedy(reference, prompts)], 1).astype(np.int32)
    return Expected(prompts, whole, reference_logits(reference, whole))


def agreement(model: Transformer, expected: Expected) -> Agreement:
    """Compares teacher forcing and greedy decoding."""
    P = expected.prompts.shape[1]
    forced = np.asarray(_forward(model, jnp.asarray(expected.whole)))
    tokens, logits = our_greedy(model, expected.prompts)
    same = bool((tokens == expected.whole[:, None, P:]).all())
    apart = np.abs(logits - expected.logits[:, None, P - 1 : -1]).max() if same else float("inf")
    return Agreement(float(np.abs(forced - expected.logits).max()), float(apart), same)


def check(model: Transformer, expected: Expected) -> None:
    """Asserts the criteria of parity."""
    found = agreement(model, expected)
    assert found.same_tokens, found
    assert max(found.forced, found.cached) <= TOLERANCE, found


def save(model: Any, folder: Path, **options: Any) -> Path:
    """`save_pretrained` without its progress bar."""
    transformers().utils.logging.disable_progress_bar()
    model.save_pretrained(folder, **options)
    return folder
