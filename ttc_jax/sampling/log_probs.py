"""The log-probability of each token of answers that are known, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from ttc_jax.models.cache import KVCache
from ttc_jax.models.indexing import take_along
from ttc_jax.models.transformer import Transformer
from ttc_jax.sampling.programs import put
from ttc_jax.sampling.sampler import bucket, pad_prompts
from ttc_jax.sharding.mesh import place

PIECE = 64  # tokens that are read at once, or have their scores over the vocabulary held
TOP = 20  # likeliest tokens of each place that can be told


class Told(NamedTuple):
    """What is told of the tokens of an answer.

    Attributes:
      log_probs: one a token, nats under the model itself (temperature 1, nothing truncated).
      top: for each place its likeliest tokens with theirs, the likeliest first; () unless asked
        for.
    """

    log_probs: list[float]
    top: list[list[tuple[int, float]]]


class LogProbs:
    """Reads answers behind their prompts, and tells how likely the model finds each token.

    Keys and values are kept as they are while answers are drawn, so that these are the numbers by
    which they were, in int8 too. A program is compiled for each bucket of lengths.

    Args:
      model: the generator.
      mesh: as in `Search`; None: the model's own device.
    """

    def __init__(self, model: Transformer, mesh: Mesh | None = None):
        self._graph, self._parameters = nnx.split(place(model, mesh))
        self._mesh, self._vocab_size = mesh, model.config.vocab_size
        # In int8 a last bit may tip a key to the next number; so tokens are read as they were
        # drawn, one by one.
        self._piece = 1 if model.layers.int8_cache else PIECE
        self._run = jax.jit(self._rows, static_argnames="top")

    def of(self, prompt: Sequence[int], answers: Sequence[Sequence[int]]) -> list[list[float]]:
        """Returns the log-probabilities of the tokens of each answer to a prompt.

        Args:
          prompt: token ids, at least one.
          answers: token ids, of different lengths.

        Returns:
          For each answer one number a token, see `Told`.
        """
        return [one.log_probs for one in self.with_top(prompt, answers, 0)]

    def with_top(
        self, prompt: Sequence[int], answers: Sequence[Sequence[int]], count: int
    ) -> list[Told]:
        """Returns the same as `of`, and which tokens would have been likeliest in each place.

        Args:
          count: of these, up to `TOP`; a vocabulary may have fewer.
        """
        padded, length = pad_prompts([prompt], 1)
        longest = max(map(len, answers), default=0)
        width = -(-(bucket(longest + 1) - 1) // PIECE) * PIECE
        rows = np.zeros((len(answers), width), np.int32)
        for row, answer in zip(rows, answers, strict=True):
            row[: len(answer)] = answer
        top = min(TOP, self._vocab_size) if count else 0  # all at once: one more program
        given = put((padded, length, rows), self._mesh)
        drawn, *likeliest = jax.device_get(self._run(self._parameters, *given, top=top))
        told = []
        for i, answer in enumerate(answers):
            pairs = []
            if likeliest:
                scores, tokens = (x[i, : len(answer), :count].tolist() for x in likeliest)
                pairs = [list(zip(*one, strict=True)) for one in zip(tokens, scores, strict=True)]
            told.append(Told(drawn[i, : len(answer)].tolist(), pairs))
        return told

    def _rows(
        self,
        parameters: Any,
        prompt: Int[Array, "1 P"],
        length: Int[Array, 1],
        rows: Int[Array, "N T"],
        *,
        top: int,
    ) -> tuple[Array, ...]:
        """Returns log-probabilities [N, T], and those and ids of the likeliest tokens [N, T, K]."""
        model = nnx.merge(self._graph, parameters)
        N = rows.shape[0]
        _, read = model.prefill(prompt[:, :-1])
        last = jnp.broadcast_to(take_along(prompt, length[:, None] - 1, 1), (N, 1))
        fed = jnp.concatenate([last, rows[:, :-1]], 1)  # what each token was drawn behind

        def piece(
            cache: KVCache, part: tuple[Int[Array, "N P"], Int[Array, "N P"]]
        ) -> tuple[KVCache, tuple[Array, ...]]:
            hidden, cache = model.extend(part[0][None], cache)
            tokens = hidden.reshape(-1, hidden.shape[-1]), part[1].reshape(-1)
            found = lax.map(likely, tokens, batch_size=PIECE)
            each = tuple(x.reshape(N, self._piece, *x.shape[1:]) for x in found)
            return cache.advance(jnp.full((1, N), self._piece)), each

        def likely(token: tuple[Float[Array, " D"], Int[Array, ""]]) -> tuple[Array, ...]:
            scores = jax.nn.log_softmax(model.logits(token[0]), -1)
            # Of none there is nothing: `lax.map` cannot put together what has no elements.
            return scores[token[1]], *(lax.top_k(scores, top) if top else ())

        cache = KVCache.fork(read, length - 1, N, rows.shape[1])
        fed, drawn = (x.reshape(N, -1, self._piece).swapaxes(0, 1) for x in (fed, rows))
        _, found = lax.scan(piece, cache, (fed, drawn))
        return tuple(x.swapaxes(0, 1).reshape(N, rows.shape[1], *x.shape[3:]) for x in found)
