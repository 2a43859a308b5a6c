"""The process reward model: how likely an answer that goes on from this step is to be correct.

A trunk, which is a language model, and a scalar head on a few layers of its own. Those layers also
see how likely the trunk itself found every token, since a small model knows better than a probe on
its hidden states can tell where it was guessing. The trunk stays frozen (paper §2; the layers on a
frozen trunk rank steps of the embedded task where a finetuned copy with a bare head did not).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from ttc_jax.compute.flops import generator_flops, layers_flops
from ttc_jax.models import checkpoints
from ttc_jax.models.cache import KVCache, PromptCache
from ttc_jax.models.config import ModelConfig
from ttc_jax.models.transformer import FLOAT32, Layers, RMSNorm, Transformer, matrix

A = TypeVar("A", jax.Array, np.ndarray)
KIND = "prm"
SURPRISE = 3  # numbers a token about the trunk's prediction: see `_surprise`


@dataclasses.dataclass(frozen=True)
class PRMConfig:
    """Shape of a PRM: its trunk, and the layers on it (their `width` is free)."""

    trunk: ModelConfig
    layers: ModelConfig

    def to_json(self) -> dict[str, Any]:
        """Plain data, read back by `from_json`."""
        return {"trunk": self.trunk.to_json(), "layers": self.layers.to_json()}

    def flops(self, first: int, tokens: int) -> int:
        """FLOPs of reading `tokens` tokens at positions first, first + 1, … with KV caches."""
        enter = 2 * (self.trunk.width + SURPRISE) * self.layers.width
        trunk = generator_flops(self.trunk, first, tokens, logits=tokens)
        return trunk + layers_flops(self.layers, first, tokens) + enter * tokens

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PRMConfig:
        """The config that `to_json` wrote."""
        return cls(ModelConfig.from_json(data["trunk"]), ModelConfig.from_json(data["layers"]))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PRMState:
    """What the PRM has read so far of N candidates of each of B questions."""

    trunk: KVCache
    layers: KVCache
    last: Float[Array, "B N D"]  # the trunk's hidden state at each row's last real token

    def advance(self, hidden: Float[Array, "B N T D"], tokens: Int[Array, "B N"]) -> PRMState:
        """Makes the first `tokens` (0 or more) of the T tokens read last count."""
        at = jnp.maximum(tokens - 1, 0)[..., None, None]
        last = jnp.take_along_axis(hidden, at, 2)[:, :, 0]
        return PRMState(
            self.trunk.advance(tokens),
            self.layers.advance(tokens),
            jnp.where((tokens > 0)[..., None], last, self.last),
        )


class ProcessRewardModel(nnx.Module):
    """Scores every token as if a step ended there; the caller reads it where steps do end.

    Scores are logits; their sigmoid is the estimated chance of a correct final answer.
    """

    def __init__(self, config: PRMConfig, *, rngs: nnx.Rngs, dtype: jnp.dtype = FLOAT32):
        self.config = config
        width = config.layers.width
        self.trunk = Transformer(config.trunk, rngs=rngs, dtype=dtype)
        self.enter = matrix(rngs, (config.trunk.width + SURPRISE, width), config.trunk.width, dtype)
        self.layers = Layers(config.layers, rngs=rngs, dtype=dtype)
        self.norm = RMSNorm(width, config.layers.norm_eps, dtype)
        self.score = nnx.Param(jnp.zeros((width,), dtype))

    def __call__(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T"]:
        """Scores of whole sequences, padded on the right (teacher forcing)."""
        hidden = jax.lax.stop_gradient(self.trunk(tokens))
        x, _ = self.layers(self._enter(hidden, _before(hidden), tokens), PromptCache())
        return self._score(x)

    def start(
        self,
        prompts: Int[Array, "B P"],
        lengths: Int[Array, " B"],
        candidates: int,
        capacity: int,
    ) -> PRMState:
        """Reads prompts but for the last token, with which every first chunk begins."""
        tokens, lengths = prompts[:, :-1], lengths - 1
        hidden, trunk = self.trunk.prefill(tokens)
        _, layers = self.layers(self._enter(hidden, _before(hidden), tokens), PromptCache())
        last = jnp.take_along_axis(hidden, jnp.maximum(lengths - 1, 0)[:, None, None], 1)
        last = jnp.where((lengths > 0)[:, None, None], last, 0.0)
        B, _, D = last.shape
        return PRMState(
            KVCache.fork(trunk, lengths, candidates, capacity),
            KVCache.fork(layers, lengths, candidates, capacity),
            jnp.broadcast_to(last, (B, candidates, D)),
        )

    def extend(
        self, tokens: Int[Array, "B N T"], state: PRMState, real: Int[Array, "B N"]
    ) -> tuple[Float[Array, "B N T"], PRMState]:
        """Scores of T further tokens of every candidate, of which the first `real` are kept."""
        hidden, trunk = self.trunk.extend(tokens, state.trunk)
        before = jnp.concatenate([state.last[:, :, None], hidden[:, :, :-1]], 2)
        x, layers = self.layers(self._enter(hidden, before, tokens), state.layers)
        state = dataclasses.replace(state, trunk=trunk, layers=layers)
        return self._score(x), state.advance(hidden, real)

    def _enter(self, hidden: Array, before: Array, tokens: Array) -> Array:
        """What the layers read of each token: the trunk's hidden state, and its surprise."""
        surprise = _surprise(self.trunk.logits(before), tokens).astype(hidden.dtype)
        return jnp.concatenate([hidden, surprise], -1) @ self.enter[...]

    def _score(self, x: Float[Array, "*B W"]) -> Float[Array, "*B"]:
        return (self.norm(x) * jnp.expand_dims(self.score[...], tuple(range(x.ndim - 1)))).sum(-1)


def save_prm(path: str | Path, prm: ProcessRewardModel, metadata: Mapping[str, Any]) -> None:
    """Writes the PRM's folder; `metadata` says how it was made."""
    description = checkpoints.Description(KIND, prm.config.to_json(), dict(metadata))
    checkpoints.save(path, prm, description)


def load_prm(path: str | Path) -> ProcessRewardModel:
    """The PRM in a folder that `save_prm` wrote.

    Raises:
      UserError: not such a folder, or parameters of another architecture.
    """
    config = PRMConfig.from_json(checkpoints.describe(path, KIND).config)
    return checkpoints.restore(path, lambda: ProcessRewardModel(config, rngs=nnx.Rngs(0)))


def step_ends(tokens: A, lengths: A, delimiters: A) -> A:
    """Where steps end: at each delimiter, and at the answer's last token.

    An end token right behind a delimiter closes a step without text, which is no step: read there,
    a score would count the delimiter's step twice.

    Args:
      tokens: [*B, T] ids; JAX's arrays, or NumPy's where answers are cut on the host.
      lengths: [*B] tokens that are real.
      delimiters: [V] bool, the tokens that end a step.

    Returns:
      [*B, T] bool.
    """
    xp = tokens.__array_namespace__()
    at = xp.arange(tokens.shape[-1])[(None,) * (tokens.ndim - 1)]
    is_delimiter = delimiters[tokens]
    follows = xp.concat([xp.zeros_like(is_delimiter[..., :1]), is_delimiter[..., :-1]], axis=-1)
    last = at == lengths[..., None] - 1
    return (at < lengths[..., None]) & (is_delimiter | (last & ~follows))


def _before(hidden: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
    """The state that predicted each token; zeros, a uniform prediction, for the first one."""
    return jnp.pad(hidden[:, :-1], ((0, 0), (1, 0), (0, 0)))


def _surprise(logits: Float[Array, "*B V"], tokens: Int[Array, "*B"]) -> Float[Array, "*B 3"]:
    """Log-probability of the token, of the likeliest token, and entropy of the prediction, nats."""
    log_probs = jax.nn.log_softmax(logits, -1)
    chosen = jnp.take_along_axis(log_probs, tokens[..., None], -1)
    entropy = -(jnp.exp(log_probs) * log_probs).sum(-1, keepdims=True)
    return jnp.concatenate([chosen, log_probs.max(-1, keepdims=True), entropy], -1)
