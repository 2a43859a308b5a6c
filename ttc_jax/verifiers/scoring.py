"""Step scores of finished samples: the prompt is read once, every answer as one chunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from ttc_jax.errors import UserError
from ttc_jax.sampling.sampler import Samples, pad_prompts
from ttc_jax.verifiers.prm import ProcessRewardModel
from ttc_jax.verifiers.steps import step_ends

StepScores = list[list[tuple[float, ...]]]


class StepScorer:
    """Scores the steps of N answers to each of up to `batch` questions.

    Args:
      verifier: the PRM; it reads the generator's tokens.
      delimiters: [V] tokens that end a step.
      candidates, max_new_tokens, batch: N, T and B of the samples; one compilation serves all
        prompts of one bucket.

    Raises:
      UserError: the verifier has another vocabulary than `delimiters`, or its context is too short.
    """

    def __init__(
        self,
        verifier: ProcessRewardModel,
        *,
        delimiters: np.ndarray,
        candidates: int,
        max_new_tokens: int,
        batch: int = 1,
    ):
        trunk = verifier.config.trunk
        if trunk.vocab_size != len(delimiters):
            raise UserError(
                f"verifier.path: its vocabulary has {trunk.vocab_size} tokens, the generator's "
                f"{len(delimiters)}; choose a verifier with the generator's tokenizer"
            )
        self.candidates, self.batch, self.max_new_tokens = candidates, batch, max_new_tokens
        self._context = trunk.context
        self._graph, self._parameters = nnx.split(verifier)
        self._delimiters = jnp.asarray(delimiters)
        self._score = jax.jit(self._run)

    def _run(
        self,
        parameters: Any,
        prompts: Int[Array, "B P"],
        prompt_lengths: Int[Array, " B"],
        tokens: Int[Array, "B N T"],
        lengths: Int[Array, "B N"],
        ended: Bool[Array, "B N"],
        delimiters: Bool[Array, " V"],
    ) -> tuple[Float[Array, "B N T"], Bool[Array, "B N T"]]:
        verifier = nnx.merge(self._graph, parameters)
        B, N, T = tokens.shape
        markers = len(verifier.step_format.markers)
        state = verifier.start(prompts, prompt_lengths, N, T + 1 + markers * T)
        last = jnp.take_along_axis(prompts, prompt_lengths[:, None] - 1, 1)
        first = jnp.broadcast_to(last, (B, N))[..., None]
        ends = step_ends(tokens, lengths, ended, delimiters)
        chunk = verifier.step_format.mark(
            jnp.concatenate([first, tokens], 2),
            lengths + 1,
            jnp.pad(ends, ((0, 0), (0, 0), (1, 0))),
            steps=T,
        )
        scores, _ = verifier.read(chunk.tokens, chunk.real, state)
        read = jnp.minimum(chunk.read[..., 1:], scores.shape[-1] - 1)
        return jnp.take_along_axis(scores, read, -1), ends

    def score(self, prompts: Sequence[Sequence[int]], samples: Samples) -> StepScores:
        """Chance of success after each step of each sample, in [0, 1].

        Args:
          prompts: the prompts that the samples answer.
          samples: N answers to each.

        Raises:
          UserError: a prompt and its answer do not fit the verifier's context.
        """
        given = len(prompts)
        padded, prompt_lengths = pad_prompts(prompts, self.batch)
        if prompt_lengths.max() + self.max_new_tokens > self._context:
            raise UserError(
                f"a prompt of {prompt_lengths.max()} tokens and sampling.max_new_tokens="
                f"{self.max_new_tokens} do not fit the verifier's context of {self._context} tokens"
            )
        tokens = np.zeros((self.batch, *samples.tokens.shape[1:]), np.int32)
        lengths = np.zeros((self.batch, self.candidates), np.int32)
        tokens[:given], lengths[:given] = samples.tokens, samples.lengths
        ended = np.zeros(lengths.shape, bool)
        ended[:given] = samples.finished
        inputs = jax.device_put((padded, prompt_lengths, tokens, lengths, ended))
        scores, ends = jax.device_get(self._score(self._parameters, *inputs, self._delimiters))
        return [
            [tuple(scores[b, n][ends[b, n]].tolist()) for n in range(self.candidates)]
            for b in range(given)
        ]
