"""The process reward model: how likely an answer that goes on from this step is to be correct.

A trunk, which is a language model, and a scalar head: on the trunk itself, or on a few layers of
its own above a frozen trunk. Those layers also see how likely the trunk found the answer, since a
small model knows better than a probe on its hidden states can tell where it was guessing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from ttc_jax.compute.flops import generator_flops, layers_flops
from ttc_jax.models import checkpoints
from ttc_jax.models.cache import KVCache, PromptCache
from ttc_jax.models.config import ModelConfig
from ttc_jax.models.regime import Regime
from ttc_jax.models.transformer import FLOAT32, Layers, RMSNorm, Transformer, matrix
from ttc_jax.verifiers.steps import StepFormat

KIND = "prm"
PIECE = 8  # tokens that `read` takes in at a time
CLUES = 3  # numbers a token about how likely the trunk finds the answer: see `_clues`


@dataclasses.dataclass(frozen=True)
class PRMConfig:
    """Shape of a PRM: its trunk, and the layers on it (their `width` is free), if it has any."""

    trunk: ModelConfig
    layers: ModelConfig | None = None
    step_format: StepFormat = dataclasses.field(default_factory=StepFormat)
    every_step: bool = True  # False: an ORM, which was taught to score whole answers alone

    def to_json(self) -> dict[str, Any]:
        """Plain data, read back by `from_json`."""
        step_format = dataclasses.asdict(self.step_format)
        return {
            "trunk": self.trunk.to_json(),
            "layers": self.layers.to_json() if self.layers else None,
            "step_format": step_format | {"markers": list(self.step_format.markers)},
            "every_step": self.every_step,
        }

    def flops(self, first: int, tokens: int) -> int:
        """FLOPs of reading `tokens` tokens at positions first, first + 1, … with KV caches."""
        if self.layers is None:
            return generator_flops(self.trunk, first, tokens, logits=0)
        enter = 2 * (self.trunk.width + CLUES) * self.layers.width
        trunk = generator_flops(self.trunk, first, tokens, logits=tokens)
        return trunk + layers_flops(self.layers, first, tokens) + enter * tokens

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PRMConfig:
        """The config that `to_json` wrote."""
        step_format = data.get("step_format", {})
        return cls(
            trunk=ModelConfig.from_json(data["trunk"]),
            layers=ModelConfig.from_json(data["layers"]) if data["layers"] else None,
            step_format=StepFormat(
                markers=tuple(step_format.get("markers", ())), offset=step_format.get("offset", 0)
            ),
            every_step=data.get("every_step", True),
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PRMState:
    """What the PRM has read so far of N candidates of each of B questions."""

    trunk: KVCache
    layers: KVCache | None
    last: Float[Array, "B N D"]  # the trunk's hidden state at each row's last real token
    log_prob: Float[Array, "B N"]  # of each answer so far under the trunk, nats


class ProcessRewardModel(nnx.Module):
    """Scores every token as if a step ended there; the caller reads it where steps do end.

    `extend` gives logits; their sigmoid, which `read` gives, is the estimated chance of a correct
    final answer.
    """

    def __init__(self, config: PRMConfig, *, rngs: nnx.Rngs, dtype: jnp.dtype = FLOAT32):
        self.config = config
        self.trunk = Transformer(config.trunk, rngs=rngs, dtype=dtype)
        width = (config.layers or config.trunk).width
        if config.layers is None:
            self.layers = None
        else:
            self.enter = matrix(rngs, (config.trunk.width, width), config.trunk.width, dtype)
            self.enter_clues = matrix(rngs, (CLUES, width), CLUES, dtype)
            self.layers = Layers(config.layers, rngs=rngs, dtype=dtype)
            self.norm = RMSNorm(width, config.layers.norm_eps, dtype)
        self.score = nnx.Param(jnp.zeros((width,), dtype))

    @property
    def step_format(self) -> StepFormat:
        """What it is shown of a step."""
        return self.config.step_format

    @property
    def every_step(self) -> bool:
        """Whether it is a PRM and no ORM."""
        return self.config.every_step

    @property
    def vocab_size(self) -> int:
        """Of its trunk."""
        return self.config.trunk.vocab_size

    @property
    def context(self) -> int:
        """Of its trunk."""
        return self.config.trunk.context

    def flops(self, first: int, tokens: int) -> int:
        """As `PRMConfig.flops`."""
        return self.config.flops(first, tokens)

    def __call__(
        self,
        tokens: Int[Array, "B T"],
        prompt_lengths: Int[Array, " B"],
        regime: Regime | None = None,
    ) -> Float[Array, "B T"]:
        """Scores of whole sequences, prompt and answer, padded on the right (teacher forcing)."""
        if self.layers is None:
            return self._head(self.trunk(tokens, regime))
        hidden = jax.lax.stop_gradient(self.trunk(tokens))  # as it is when the PRM is used
        before = jnp.pad(hidden[:, :-1], ((0, 0), (1, 0), (0, 0)))
        answer = jnp.arange(tokens.shape[1])[None] >= prompt_lengths[:, None]
        so_far = jnp.zeros(prompt_lengths.shape, jnp.float32)
        clues, _ = self._clues(before, tokens, answer, so_far)
        x, _ = self.layers(self._enter(hidden, clues), PromptCache(), regime)
        return self._head(self.norm(x))

    def start(
        self,
        prompts: Int[Array, "B P"],
        lengths: Int[Array, " B"],
        candidates: int,
        capacity: int,
    ) -> PRMState:
        """Reads prompts but for the last token, with which every first chunk begins."""
        rows = (prompts.shape[0], candidates)
        hidden, trunk = self.trunk.prefill(prompts[:, :-1])
        slots = capacity + PIECE  # the last piece may hang over
        on_trunk = None
        if self.layers is not None:
            clues = jnp.zeros((*hidden.shape[:-1], CLUES), hidden.dtype)
            _, layers = self.layers(self._enter(hidden, clues), PromptCache())
            on_trunk = KVCache.fork(layers, lengths - 1, candidates, slots)
        return PRMState(
            trunk=KVCache.fork(trunk, lengths - 1, candidates, slots),
            layers=on_trunk,
            last=jnp.zeros((*rows, hidden.shape[-1]), hidden.dtype),
            log_prob=jnp.zeros(rows, jnp.float32),
        )

    def read(
        self,
        tokens: Int[Array, "B N T"],
        real: Int[Array, "B N"],
        state: PRMState,
        decoded: Any = None,
    ) -> tuple[Float[Array, "B N T"], PRMState]:
        """Scores in [0, 1] of further tokens, of which the first `real` are kept.

        It reads pieces, as many as the longest row needs: cost follows what is there to read.
        """
        del decoded
        B, N, T = tokens.shape
        width = min(PIECE, T)
        tokens = jnp.pad(tokens, ((0, 0), (0, 0), (0, -T % width)))

        def read_piece(i: Array, carry: tuple[Array, PRMState]) -> tuple[Array, PRMState]:
            scores, state = carry
            piece = jax.lax.dynamic_slice_in_dim(tokens, i * width, width, 2)
            found, state = self.extend(piece, state, jnp.clip(real - i * width, 0, width))
            found = jax.nn.sigmoid(found.astype(jnp.float32))
            return jax.lax.dynamic_update_slice_in_dim(scores, found, i * width, 2), state

        pieces = (real.max() + width - 1) // width
        nothing = jnp.zeros((B, N, tokens.shape[2]), jnp.float32)
        scores, state = jax.lax.fori_loop(0, pieces, read_piece, (nothing, state))
        return scores[..., :T], state

    def extend(
        self, tokens: Int[Array, "B N T"], state: PRMState, real: Int[Array, "B N"]
    ) -> tuple[Float[Array, "B N T"], PRMState]:
        """Scores of T further tokens of every candidate, of which the first `real` are kept."""
        at = jnp.arange(tokens.shape[2])[None, None]
        hidden, trunk = self.trunk.extend(tokens, _awake(state.trunk, real > 0))
        if self.layers is None or state.layers is None:
            state = dataclasses.replace(state, trunk=trunk.advance(real))
            return self._head(hidden), state
        before = jnp.concatenate([state.last[:, :, None], hidden[:, :, :-1]], 2)
        answer = state.trunk.length[..., None] + at > 0  # slot 0 holds the prompt's last token
        clues, log_prob = self._clues(before, tokens, answer, state.log_prob)
        x, layers = self.layers(self._enter(hidden, clues), _awake(state.layers, real > 0))
        final = at == real[..., None] - 1
        state = PRMState(
            trunk=trunk.advance(real),
            layers=layers.advance(real),
            last=jnp.where((real > 0)[..., None], _at(final, hidden), state.last),
            log_prob=jnp.where(real > 0, _at(final, log_prob), state.log_prob),
        )
        return self._head(self.norm(x)), state

    def _clues(
        self,
        before: Float[Array, "*B T D"],
        tokens: Int[Array, "*B T"],
        answer: Bool[Array, "*B T"],
        log_prob: Float[Array, "*B"],
    ) -> tuple[Float[Array, "*B T 3"], Float[Array, "*B T"]]:
        """What the trunk's predictions tell of an answer, and its log-probability up to each token.

        Clues are the token's log-probability, that of the answer so far, and the entropy of the
        prediction, in nats. All are 0 in the prompt, which the trunk is not taught to predict.

        Args:
          before: the trunk's hidden state one token earlier, which predicted the token.
          answer: tokens that belong to the answer.
          log_prob: of the answer before these tokens.
        """
        logits = self.trunk.logits(before)
        total = jax.nn.logsumexp(logits, -1)
        token = jnp.take_along_axis(logits, tokens[..., None], -1)[..., 0] - total
        entropy = total - (jnp.exp(logits - total[..., None]) * logits).sum(-1)
        token, entropy = jnp.where(answer, token, 0.0), jnp.where(answer, entropy, 0.0)
        so_far = log_prob[..., None] + jnp.cumsum(token, -1)
        return jnp.stack([token, so_far, entropy], -1), so_far

    def _enter(self, hidden: Array, clues: Array) -> Array:
        """What the layers read of each token."""
        return hidden @ self.enter[...] + clues.astype(hidden.dtype) @ self.enter_clues[...]

    def _head(self, x: Float[Array, "*B W"]) -> Float[Array, "*B"]:
        return (x * jnp.expand_dims(self.score[...], tuple(range(x.ndim - 1)))).sum(-1)


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


def _awake(cache: KVCache, live: Bool[Array, "B N"]) -> KVCache:
    """The cost of attention follows the rows that read something."""
    return dataclasses.replace(cache, live=live)


def _at(final: Bool[Array, "B N T"], values: Array) -> Array:
    """The entry of `values`, [B, N, T, ...], where `final` holds; 0 where it never does."""
    final = jnp.expand_dims(final, tuple(range(3, values.ndim)))
    return jnp.where(final, values, 0.0).sum(2)
