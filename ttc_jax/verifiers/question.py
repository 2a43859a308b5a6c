"""The scores of questions before any answer: predicted difficulty without a sample."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from ttc_jax.errors import UserError
from ttc_jax.models.indexing import take_along
from ttc_jax.models.vocabulary import check_tokens
from ttc_jax.sampling.decode import DecodeState
from ttc_jax.sampling.sampler import bucket, pad_prompts
from ttc_jax.verifiers.verifier import Verifier


def question_scores(
    verifier: Verifier, prompts: Sequence[Sequence[int]], batch: int = 8
) -> list[float]:
    """Returns the scores at the prompts' last tokens, as `SearchResult.question_score`.

    Args:
      prompts: token ids, of different lengths.
      batch: B, prompts of one bucket read together; smaller batches are padded to it, so that a
        score depends on nothing else.

    Raises:
      UserError: a verifier that does not read questions, a prompt that is empty or does not fit its
        context, or a score that is NaN.
    """
    spec = verifier.spec
    if not spec.reads_tokens:
        raise UserError("verifier.path: only a PRM or an ORM can score a question without answers")
    if spec.format is not None:
        raise UserError(
            "verifier.path: a PRM that was trained elsewhere was not taught to score a question "
            "without answers; choose another difficulty, or a verifier that ttc train wrote"
        )
    groups: dict[int, list[int]] = {}
    for index, prompt in enumerate(prompts):
        if not 0 < len(prompt) <= (spec.max_context or math.inf):
            raise UserError(
                f"prompt {index}: {len(prompt)} tokens do not fit the verifier's context of "
                f"{spec.max_context} tokens"
            )
        check_tokens(prompt, spec.vocab_size, f"prompt {index}")
        groups.setdefault(bucket(len(prompt)), []).append(index)
    graph, parameters = nnx.split(verifier)
    scores = [math.nan] * len(prompts)
    for group in groups.values():
        for first in range(0, len(group), batch):
            part = group[first : first + batch]
            padded, lengths = pad_prompts([prompts[index] for index in part], batch)
            found = _scores(graph, parameters, jnp.asarray(padded), jnp.asarray(lengths))
            for index, score in zip(part, jax.device_get(found).tolist(), strict=False):
                scores[index] = score
    if failed := [index for index, score in enumerate(scores) if math.isnan(score)]:
        raise UserError(f"prompt {failed[0]}: its score is NaN; check the weights of the verifier")
    return scores


@functools.partial(jax.jit, static_argnums=0)
def _scores(
    graph: Any, parameters: Any, prompts: Int[Array, "B P"], lengths: Int[Array, " B"]
) -> Float[Array, " B"]:
    verifier = nnx.merge(graph, parameters)
    last = take_along(prompts, lengths[:, None] - 1, 1)[..., None]
    state = verifier.init(prompts, lengths, 1, 1)
    nothing_decoded = cast(DecodeState, None)  # a verifier of tokens reads nothing else
    scores, _ = verifier.score_steps(last, jnp.ones_like(last[..., 0]), state, nothing_decoded)
    return scores[:, 0, 0]
