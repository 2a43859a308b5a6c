"""A tiny generator, and sampling said in plain NumPy."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ttc_jax.models.config import ModelConfig
from ttc_jax.models.transformer import Transformer
from ttc_jax.sampling.draw import SamplingParams
from ttc_jax.sampling.keys import candidate_keys, uniforms

TINY = ModelConfig(
    vocab_size=37,
    width=16,
    depth=2,
    heads=4,
    kv_heads=2,
    head_size=6,
    ffn_width=24,
    context=256,
    windows=(None, 6),
)


def tiny_generator(config: ModelConfig = TINY, seed: int = 0) -> Transformer:
    """A randomly initialised generator, unsure of every token."""
    return nnx.jit(lambda: Transformer(config, rngs=nnx.Rngs(seed)))()


def keep(scores: np.ndarray, sampling: SamplingParams) -> tuple[np.ndarray, bool]:
    """What top-k and then top-p leave of scaled scores, ties with the last one kept.

    Returns:
      [V] bool, and whether it is clear: no sum meets `top_p` but for rounding.
    """
    kept, clear = np.isfinite(scores), True
    if 0 < sampling.top_k < len(scores):
        kept &= scores >= np.sort(scores)[-sampling.top_k]
    if sampling.top_p < 1:
        weights = np.exp(scores.astype(np.float64) - scores.max()) * kept
        share = np.cumsum(np.sort(weights / weights.sum())[::-1])
        clear = bool(np.abs(share - sampling.top_p).min() > 1e-5)
        kept &= scores >= np.sort(scores)[::-1][np.argmax(share >= sampling.top_p)]
    return kept, clear


class Answer(NamedTuple):
    tokens: list[int]
    log_prob: float
    finished: bool


class Oracle:
    """Samples by feeding the whole sequence anew for every token.

    Args:
      rows, length: one shape for all forward passes, so that they compile once.
    """

    def __init__(self, model: Transformer, rows: int, length: int):
        graph, parameters = nnx.split(model)

        def at(parameters, tokens, where):
            model = nnx.merge(graph, parameters)
            hidden = model(tokens)
            return model.logits(jnp.take_along_axis(hidden, where[:, None, None], 1)[:, 0])

        self._logits = jax.jit(at)
        self._parameters, self._shape = parameters, (rows, length)

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        numbers: Sequence[int],
        *,
        candidates: int,
        max_new_tokens: int,
        end_tokens: Sequence[int],
        sampling: SamplingParams,
        seed: int,
    ) -> list[list[Answer]]:
        """What `Sampler.sample` gives, one `Answer` a candidate."""
        keys = candidate_keys(seed, jnp.array(numbers, jnp.uint32), candidates)
        rows = [(prompt, key, []) for prompt, of in zip(prompts, keys, strict=True) for key in of]
        answers = self.write(
            rows, max_new_tokens=max_new_tokens, end_tokens=end_tokens, sampling=sampling
        )
        return [answers[i : i + candidates] for i in range(0, len(answers), candidates)]

    def write(
        self,
        rows: Sequence[tuple[Sequence[int], jax.Array, Sequence[int]]],
        *,
        max_new_tokens: int,
        end_tokens: Sequence[int],
        sampling: SamplingParams,
        writes: Sequence[Callable[[int], int]] | None = None,
    ) -> list[Answer]:
        """An answer for each row: a prompt, a key, and the tokens that the answer begins with.

        Args:
          writes: of each row, what it writes where a token was drawn.
        """
        keys = jnp.stack([key for _, key, _ in rows])[:, None]
        at = jnp.broadcast_to(jnp.arange(max_new_tokens), (len(rows), max_new_tokens))
        uniform = np.asarray(uniforms(jnp.broadcast_to(keys, at.shape), at), np.float64)
        answers = [Answer(list(prefix), 0.0, False) for _, _, prefix in rows]
        for _ in range(max_new_tokens):
            logits = self._next(
                [[*prompt, *x.tokens] for (prompt, _, _), x in zip(rows, answers, strict=True)]
            )
            for row, answer in enumerate(answers):
                length = len(answer.tokens)
                if not answer.finished and length < max_new_tokens:
                    token = _draw(logits[row], uniform[row, length], sampling)
                    token = writes[row](token) if writes else token
                    log_prob = answer.log_prob + np.log(_softmax(logits[row])[token])
                    answers[row] = Answer([*answer.tokens, token], log_prob, token in end_tokens)
        return answers

    def _next(self, sequences: list[list[int]]) -> np.ndarray:
        tokens, where = np.zeros(self._shape, np.int32), np.zeros(self._shape[0], np.int32)
        for row, sequence in enumerate(sequences):
            tokens[row, : len(sequence)], where[row] = sequence, len(sequence) - 1
        return np.asarray(self._logits(self._parameters, tokens, where), np.float64)


def _softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def _draw(logits: np.ndarray, uniform: float, sampling: SamplingParams) -> int:
    if sampling.temperature == 0:
        return int(logits.argmax())
    scaled = logits / sampling.temperature
    cumulative = np.cumsum(_softmax(np.where(keep(scaled, sampling)[0], scaled, -np.inf)))
    return int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
