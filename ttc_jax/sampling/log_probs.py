"""The log-probability of each token of answers that are known, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from ttc_jax.models.indexing import take_along
from ttc_jax.models.transformer import Transformer
from ttc_jax.sampling.programs import put
from ttc_jax.sampling.sampler import bucket
from ttc_jax.sharding.mesh import place

PIECE = 64  # tokens whose scores over the whole vocabulary are held at once


class LogProbs:
    """Reads answers behind their prompts, and tells how likely the model finds each token.

    A program is compiled for each bucket of lengths.

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
        longest = len(prompt) + max(map(len, answers), default=0)
        width = -(-(bucket(longest + 1) - 1) // PIECE) * PIECE + 1
        rows = np.zeros((len(answers), width), np.int32)
        for row, answer in zip(rows, answers, strict=True):
            row[: len(prompt)] = prompt
            row[len(prompt) : len(prompt) + len(answer)] = answer
        found = jax.device_get(self._run(self._parameters, put(rows, self._mesh)))
        first = len(prompt) - 1
        return [
            row[first : first + len(answer)].tolist()
            for row, answer in zip(found, answers, strict=True)
        ]

    def _rows(self, parameters: Any, rows: Int[Array, "N T"]) -> Float[Array, "N T-1"]:
        model = nnx.merge(self._graph, parameters)

        def one(row: Int[Array, " T"]) -> Float[Array, " T-1"]:
            hidden = model(row[None, :-1])[0]

            def piece(
                part: tuple[Float[Array, "P D"], Int[Array, " P"]],
            ) -> Float[Array, " P"]:
                scores = jax.nn.log_softmax(model.logits(part[0]), -1)
                return take_along(scores, part[1][:, None], -1)[:, 0]

            pieces = hidden.reshape(-1, PIECE, hidden.shape[-1]), row[1:].reshape(-1, PIECE)
            return lax.map(piece, pieces).reshape(-1)

        return lax.map(one, rows)
