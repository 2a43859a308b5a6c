"""The process reward model: the chance that an answer which goes on from a step is correct.

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
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from ttc_jax.models import checkpoints, int8
from ttc_jax.models.cache import KVCache, LaneCache, PromptCache
from ttc_jax.models.indexing import take_along
from ttc_jax.models.tokenizers import Tokenizer
from ttc_jax.models.train_mode import TrainMode
from ttc_jax.models.transformer import FLOAT32, Layers, RMSNorm, Transformer, matrix
from ttc_jax.verifiers.formats import PRMFormat
from ttc_jax.verifiers.prm_config import FEATURES, PRMConfig
from ttc_jax.verifiers.verifier import CONTEXT_PIECE, Verifier, VerifierSpec

KIND = "prm"
PIECES = (8, 10)  # tokens of a row that `score_steps` takes in at a time, see `_at_a_time`


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PRMState:
    """The caches of what the PRM has read of N candidates of each of B questions."""

    trunk: KVCache
    layers: KVCache | None
    last: Float[Array, "B N D"]  # the trunk's hidden state at each row's last real token
    log_prob: Float[Array, "B N"]  # of each answer so far under the trunk, nats


class ProcessRewardModel(Verifier):
    """Scores every token as if a step ended there; the caller reads it where steps do end.

    `extend` gives logits; their sigmoid, which `score_steps` gives, is the estimated chance of a
    correct final answer.

    Attributes:
      format, tokenizer: of a PRM that was trained elsewhere; see `VerifierSpec`.
    """

    format: PRMFormat | None = None
    tokenizer: Tokenizer | None = None

    def __init__(
        self,
        config: PRMConfig,
        *,
        rngs: nnx.Rngs,
        dtype: jnp.dtype = FLOAT32,
        int8_cache: bool = False,
    ):
        self.config = config
        self.trunk = Transformer(config.trunk, rngs=rngs, dtype=dtype, int8_cache=int8_cache)
        width = (config.layers or config.trunk).width
        if config.layers is None:
            self.layers = None
        else:
            self.enter = matrix(rngs, (config.trunk.width, width), config.trunk.width, dtype)
            self.enter_clues = matrix(rngs, (FEATURES, width), FEATURES, dtype)
            if config.reads_tokens:
                self.enter_tokens = matrix(rngs, (config.trunk.vocab_size, width), 1, dtype)
            self.layers = Layers(config.layers, rngs=rngs, dtype=dtype, int8_cache=int8_cache)
            self.norm = RMSNorm(width, config.layers.norm_eps, dtype)
        if config.hidden:
            self.hidden = matrix(rngs, (width, config.hidden), width, dtype)
            if config.bias:
                self.hidden_bias = nnx.Param(jnp.zeros((config.hidden,), dtype))
        self.score = nnx.Param(jnp.zeros((config.hidden or width,), dtype))
        if config.bias:
            self.score_bias = nnx.Param(jnp.zeros((), dtype))

    @property
    def spec(self) -> VerifierSpec:
        """The properties that follow from its config."""
        trunk = self.config.trunk
        return VerifierSpec(
            vocab_size=trunk.vocab_size,
            max_context=trunk.context,
            every_step=self.config.every_step,
            step_format=self.config.step_format,
            format=self.format,
            tokenizer=self.tokenizer,
        )

    def flops(self, first: int, tokens: int) -> int:
        """Returns what `PRMConfig.flops` does."""
        return self.config.flops(first, tokens)

    def __call__(
        self,
        tokens: Int[Array, "B T"],
        prompt_lengths: Int[Array, " B"],
        mode: TrainMode | None = None,
    ) -> Float[Array, "B T"]:
        """Scores whole sequences, prompt and answer, padded on the right (teacher forcing)."""
        if self.layers is None:
            return self._head(self.trunk(tokens, mode))
        hidden = jax.lax.stop_gradient(self.trunk(tokens))  # as it is when the PRM is used
        before = jnp.pad(hidden[:, :-1], ((0, 0), (1, 0), (0, 0)))
        answer = jnp.arange(tokens.shape[1])[None] >= prompt_lengths[:, None]
        so_far = jnp.zeros(prompt_lengths.shape, jnp.float32)
        features, _ = self._likelihood_features(before, tokens, answer, so_far)
        x, _ = self.layers(self._enter(tokens, hidden, features), PromptCache(), mode)
        return self._head(self.norm(x))

    def init(
        self,
        prompts: Int[Array, "B P"],
        lengths: Int[Array, " B"],
        candidates: int,
        capacity: int,
    ) -> PRMState:
        """Reads prompts but for the last token, with which every first chunk begins."""
        rows = (prompts.shape[0], candidates)
        hidden, trunk = self.trunk.prefill(prompts[:, :-1])
        slots = capacity + max(PIECES)  # the last piece may hang over
        on_trunk = None
        if self.layers is not None:
            features = jnp.zeros((*hidden.shape[:-1], FEATURES), hidden.dtype)
            _, layers = self.layers.read(self._enter(prompts[:, :-1], hidden, features))
            on_trunk = KVCache.fork(layers, lengths - 1, candidates, slots)
        return PRMState(
            trunk=KVCache.fork(trunk, lengths - 1, candidates, slots),
            layers=on_trunk,
            last=jnp.zeros((*rows, hidden.shape[-1]), hidden.dtype),
            log_prob=jnp.zeros(rows, jnp.float32),
        )

    def score_steps(
        self,
        tokens: Int[Array, "B N T"],
        count: Int[Array, "B N"],
        state: PRMState,
        decode: Any = None,
    ) -> tuple[Float[Array, "B N T"], PRMState]:
        """Returns scores in [0, 1] of further tokens, of which its state keeps the first `count`.

        It reads a piece of some rows at a time, those with most left to read first: cost follows
        what is there to read, not the longest row.
        """
        del decode
        return self._read(tokens, count, state, self._at_a_time(state), in_answer=True)

    def _at_a_time(self, state: PRMState) -> tuple[int, int]:
        """Returns how many rows are read at a time, and how many tokens of each.

        Where products with weights, some 24·D² FLOPs a layer and token, outweigh attention to S
        slots, 4·D·S, padding is what costs: half of the rows, and short pieces. Else it is the
        number of times that all rows attend.
        """
        rows, span = state.trunk.active.size, state.trunk.span(0)
        if 24 * self.config.trunk.width > 16 * span:
            return -(-rows // 2), PIECES[0]
        return rows, PIECES[1]

    def reset(
        self, context: Int[Array, "B N C"], count: Int[Array, "B N"], state: PRMState
    ) -> PRMState:
        """Returns the state of rows that hold their prompt and a context, which is no answer."""
        state = dataclasses.replace(
            state,
            trunk=state.trunk.clear(),
            layers=state.layers and state.layers.clear(),
            log_prob=jnp.zeros_like(state.log_prob),
        )
        shape = (count.size, CONTEXT_PIECE)
        _, state = self._read(context, count, state, shape, in_answer=False)
        return dataclasses.replace(
            state, trunk=state.trunk.settle(), layers=state.layers and state.layers.settle()
        )

    def _read(
        self,
        tokens: Array,
        real: Array,
        state: PRMState,
        at_a_time: tuple[int, int],
        *,
        in_answer: bool,
    ) -> tuple[Float[Array, "B N T"], PRMState]:
        """Reads answers, as `score_steps`, or contexts, as `reset`."""
        B, N, T = tokens.shape
        lanes, width = at_a_time[0], min(at_a_time[1], T)
        at = jnp.arange(width)[None]

        def read_piece(carry: tuple[Array, PRMState, Array]) -> tuple[Array, PRMState, Array]:
            scores, state, begun = carry
            window = LaneCache.of(state.trunk, (real - begun).reshape(-1), lanes)
            first, left = window.take(begun), window.take(real - begun)
            piece = take_along(window.take(tokens), jnp.minimum(first[:, None] + at, T - 1), -1)
            count = jnp.clip(left, 0, width)
            found, state = self._extend(piece, state, count, window, in_answer=in_answer)
            found = window.spread(jax.nn.sigmoid(found.astype(jnp.float32)))
            count = window.spread(count)
            where = jnp.where(at[None] < count[..., None], begun[..., None] + at[None], T)
            scores = jnp.put_along_axis(scores, where, found, -1, inplace=False, mode="drop")
            return scores, state, begun + count

        nothing = jnp.zeros((B, N, T), jnp.float32)
        carry = (nothing, state, jnp.zeros_like(real))
        scores, state, _ = jax.lax.while_loop(lambda c: (c[2] < real).any(), read_piece, carry)
        return scores, state

    def extend(
        self, tokens: Int[Array, "B N T"], state: PRMState, real: Int[Array, "B N"]
    ) -> tuple[Float[Array, "B N T"], PRMState]:
        """Scores T further tokens of every candidate; its state keeps the first `real`."""
        every = LaneCache.of(state.trunk, real.reshape(-1), real.size)
        scores, state = self._extend(every.take(tokens), state, every.take(real), every)
        return every.spread(scores), state

    def _extend(
        self,
        tokens: Int[Array, "W T"],
        state: PRMState,
        real: Int[Array, " W"],
        window: LaneCache,
        *,
        in_answer: bool = True,
    ) -> tuple[Float[Array, "W T"], PRMState]:
        """Scores as `extend` the rows of `window`, a part of the trunk's cache."""
        at = jnp.arange(tokens.shape[1])[None]
        take, spread = window.take, window.spread
        reads = spread(real)
        hidden, trunk = self.trunk.extend(tokens, window.over(_with_active(state.trunk, reads > 0)))
        if self.layers is None or state.layers is None:
            state = dataclasses.replace(state, trunk=trunk.cache.advance(reads))
            return self._head(hidden), state
        before = jnp.concatenate([take(state.last)[:, None], hidden[:, :-1]], 1)
        # Slot 0 holds the last token before the answer.
        answer = in_answer & (take(state.trunk.length)[:, None] + at > 0)
        features, log_prob = self._likelihood_features(before, tokens, answer, take(state.log_prob))
        layers = window.over(_with_active(state.layers, reads > 0))
        x, layers = self.layers(self._enter(tokens, hidden, features), layers)
        final = at == real[:, None] - 1
        last, log_prob = spread(_at(final, hidden)), spread(_at(final, log_prob))
        state = PRMState(
            trunk=trunk.cache.advance(reads),
            layers=layers.cache.advance(reads),
            last=jnp.where((reads > 0)[..., None], last, state.last),
            log_prob=jnp.where(reads > 0, log_prob, state.log_prob),
        )
        return self._head(self.norm(x)), state

    def _likelihood_features(
        self,
        before: Float[Array, "*B T D"],
        tokens: Int[Array, "*B T"],
        answer: Bool[Array, "*B T"],
        log_prob: Float[Array, "*B"],
    ) -> tuple[Float[Array, "*B T 3"], Float[Array, "*B T"]]:
        """Returns likelihood features of tokens, and the log-probability up to each of them.

        They are the token's log-probability, that of the answer so far, and the entropy of the
        prediction, in nats. All are 0 in the prompt, which the trunk is not taught to predict.

        Args:
          before: the trunk's hidden state one token earlier, which predicted the token.
          answer: tokens that belong to the answer.
          log_prob: of the answer before these tokens.
        """
        logits = self.trunk.logits(before)
        total = jax.nn.logsumexp(logits, -1)
        token = take_along(logits, tokens[..., None], -1)[..., 0] - total
        entropy = total - (jnp.exp(logits - total[..., None]) * logits).sum(-1)
        token, entropy = jnp.where(answer, token, 0.0), jnp.where(answer, entropy, 0.0)
        so_far = log_prob[..., None] + jnp.cumsum(token, -1)
        return jnp.stack([token, so_far, entropy], -1), so_far

    def _enter(
        self, tokens: Int[Array, "*B"], hidden: Float[Array, "*B D"], features: Float[Array, "*B 3"]
    ) -> Float[Array, "*B W"]:
        """Returns what the layers read of each token."""
        x = hidden @ self.enter[...] + features.astype(hidden.dtype) @ self.enter_clues[...]
        return x + self.enter_tokens[...][tokens] if self.config.reads_tokens else x

    def _head(self, x: Float[Array, "*B W"]) -> Float[Array, "*B"]:
        def row(vector: nnx.Param) -> Array:
            return jnp.expand_dims(vector[...], tuple(range(x.ndim - 1)))

        if self.config.hidden:
            x = x @ self.hidden[...]
            x = jax.nn.relu(x + row(self.hidden_bias) if self.config.bias else x)
        logit = (x * row(self.score)).sum(-1)
        return logit + self.score_bias[...] if self.config.bias else logit


def save_prm(path: str | Path, prm: ProcessRewardModel, metadata: Mapping[str, Any]) -> None:
    """Writes the PRM's folder; `metadata` says how it was made."""
    description = checkpoints.Description(KIND, prm.config.to_json(), dict(metadata))
    checkpoints.save(path, prm, description)


def load_prm(
    path: str | Path,
    *,
    dtype: jax.typing.DTypeLike = FLOAT32,
    weights: str = "",
    cache: str = "",
    mesh: Mesh | None = None,
) -> ProcessRewardModel:
    """Loads the PRM in a folder that `save_prm` wrote; its storage is as for `load_generator`.

    Raises:
      UserError: not such a folder, parameters of another architecture, or a mesh that does not
        divide them.
    """
    config = checkpoints.read_config(path, KIND, PRMConfig.from_json)

    def build() -> ProcessRewardModel:
        return ProcessRewardModel(
            config, rngs=nnx.Rngs(0), dtype=jnp.dtype(dtype), int8_cache=int8.wanted(cache)
        )

    blocks = config.trunk.depth + (config.layers.depth if config.layers else 0)
    return checkpoints.restore(path, build, blocks=blocks, weights=weights, mesh=mesh)


def _with_active(cache: KVCache, active: Bool[Array, "B N"]) -> KVCache:
    """Returns a cache whose attention costs just what its active rows need."""
    return dataclasses.replace(cache, active=active)


def _at(final: Bool[Array, "W T"], values: Array) -> Array:
    """Returns the entry of `values`, [W, T, ...], where `final` holds; 0 where it never does."""
    final = jnp.expand_dims(final, tuple(range(2, values.ndim)))
    return jnp.where(final, values, 0.0).sum(1)
