"""The log-probability of each token of answers that are known, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

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

    A program is compiled for each bucket of lengths.

    Args:
      model: the generator.
      mesh: as in `Search`; None: the model's own device.
    """

    def __init__(self, model: Transformer, mesh: Mesh | None = None):
        self._graph, self._parameters = nnx.split(place(model, mesh))
        self._mesh, self._vocab_size = mesh, model.config.vocab_size
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
        longest = len(prompt) + max(map(len, answers), default=0)
        width = -(-(bucket(longest + 1) - 1) // PIECE) * PIECE + 1
        rows = np.zeros((len(answers), width), np.int32)
        for row, answer in zip(rows, answers, strict=True):
            row[: len(prompt)] = prompt
            row[len(prompt) : len(prompt) + len(answer)] = answer
        top = min(TOP, self._vocab_size) if count else 0  # all at once: one more program
        found = jax.device_get(self._run(self._parameters, put(rows, self._mesh), top=top))
        first, told = len(prompt) - 1, []
        for answer, drawn, scores, tokens in zip(answers, *found, strict=True):
            inside = slice(first, first + len(answer)), slice(count)
            likeliest = zip(tokens[inside].tolist(), scores[inside].tolist(), strict=True)
            pairs = [list(zip(*one, strict=True)) for one in likeliest] if count else []
            told.append(Told(drawn[inside[0]].tolist(), pairs))
        return told

    def _rows(
        self, parameters: Any, rows: Int[Array, "N T"], *, top: int
    ) -> tuple[Float[Array, "N T-1"], Float[Array, "N T-1 K"], Int[Array, "N T-1 K"]]:
        model = nnx.merge(self._graph, parameters)

        def one(row: Int[Array, " T"]) -> tuple[Array, Array, Array]:
            hidden = model(row[None, :-1])[0]

            def piece(part: tuple[Array, Array]) -> tuple[Array, Array, Array]:
                scores = jax.nn.log_softmax(model.logits(part[0]), -1)
                return (take_along(scores, part[1][:, None], -1)[:, 0], *lax.top_k(scores, top))

            pieces = hidden.reshape(-1, PIECE, hidden.shape[-1]), row[1:].reshape(-1, PIECE)
            drawn, likeliest, tokens = lax.map(piece, pieces)
            each = drawn.size, top
            return drawn.reshape(-1), likeliest.reshape(each), tokens.reshape(each)

        return lax.map(one, rows)
