"""The log-probability of each token of answers that are known, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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

PIECE = 64  # tokens whose scores over the whole vocabulary are held at once


class LogProbs:
    """Reads answers behind their prompts, and tells how likely the model finds each token.

    Keys and values are kept as they are while answers are drawn, so that in int8 too these are the
    numbers by which they were. A program is compiled for each bucket of lengths.

    Args:
      model: the generator.
      mesh: as in `Search`; None: the model's own device.
    """

    def __init__(self, model: Transformer, mesh: Mesh | None = None):
        self._graph, self._parameters = nnx.split(place(model, mesh))
        self._mesh = mesh
        self._run = jax.jit(self._rows)

    def of(self, prompt: Sequence[int], answers: Sequence[Sequence[int]]) -> list[list[float]]:
        """Returns the log-probabilities of the tokens of each answer to a prompt.

        Args:
          prompt: token ids, at least one.
          answers: token ids, of different lengths.

        Returns:
          For each answer one number a token, nats under the model itself (temperature 1, nothing
          truncated).
        """
        padded, length = pad_prompts([prompt], 1)
        longest = max(map(len, answers), default=0)
        width = -(-(bucket(longest + 1) - 1) // PIECE) * PIECE
        rows = np.zeros((len(answers), width), np.int32)
        for row, answer in zip(rows, answers, strict=True):
            row[: len(answer)] = answer
        given = put((padded, length, rows), self._mesh)
        found = jax.device_get(self._run(self._parameters, *given))
        return [row[: len(answer)].tolist() for row, answer in zip(found, answers, strict=True)]

    def _rows(
        self,
        parameters: Any,
        prompt: Int[Array, "1 P"],
        length: Int[Array, 1],
        rows: Int[Array, "N T"],
    ) -> Float[Array, "N T"]:
        model = nnx.merge(self._graph, parameters)
        N = rows.shape[0]
        _, read = model.prefill(prompt[:, :-1])
        last = jnp.broadcast_to(take_along(prompt, length[:, None] - 1, 1), (N, 1))
        fed = jnp.concatenate([last, rows[:, :-1]], 1)  # what each token was drawn behind

        def piece(
            cache: KVCache, part: tuple[Int[Array, "N P"], Int[Array, "N P"]]
        ) -> tuple[KVCache, Float[Array, "N P"]]:
            hidden, cache = model.extend(part[0][None], cache)
            found = lax.map(row, (hidden[0], part[1]))
            return cache.advance(jnp.full((1, N), PIECE)), found

        def row(part: tuple[Float[Array, "P D"], Int[Array, " P"]]) -> Float[Array, " P"]:
            scores = jax.nn.log_softmax(model.logits(part[0]), -1)
            return take_along(scores, part[1][:, None], -1)[:, 0]

        cache = KVCache.fork(read, length - 1, N, rows.shape[1])
        pieces = tuple(x.reshape(N, -1, PIECE).swapaxes(0, 1) for x in (fed, rows))
        _, found = lax.scan(piece, cache, pieces)
        return found.swapaxes(0, 1).reshape(N, -1)
