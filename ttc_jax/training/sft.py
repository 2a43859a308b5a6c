"""Supervised finetuning: next-token loss on answers, none on what they are written behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from ttc_jax.errors import UserError, naming
from ttc_jax.models.train_mode import TrainMode
from ttc_jax.models.transformer import Transformer
from ttc_jax.training.batches import Example
from ttc_jax.training.data import Examples

if TYPE_CHECKING:
    from ttc_jax.models.tokenizers import Tokenizer
    from ttc_jax.tasks.prompts import PromptFormat
    from ttc_jax.tasks.task import Question


def examples(questions: Sequence[Question], prompt: PromptFormat, tokenizer: Tokenizer) -> Examples:
    """Each question's worked solution and its end; questions without one are left out.

    Raises:
      UserError: the tokenizer has no end token or cannot write a text; names the question.
    """
    if not tokenizer.eos_ids:
        raise UserError("start.path: its tokenizer names no token that ends an answer")
    found: Examples = {}
    for question in questions:
        if question.solution:
            with naming(question.id):
                asked = prompt.encode(question, tokenizer)
                answer = [*tokenizer.encode(question.solution), tokenizer.eos_ids[0]]
            found[question.id] = [example(asked, [answer])]
    return found


def example(
    prompt: Sequence[int], answers: Sequence[Sequence[int]], between: Sequence[int] = ()
) -> Example:
    """A prompt and answers behind it, all of which are asked for; position t gives token t + 1.

    With between = "/", "." for the end token and two answers:

        tokens    a b = 1 / 2
        targets       1 . 2 .

    Args:
      prompt: [P] tokens.
      answers: tokens of each, the end token included.
      between: what stands behind an earlier answer in the place of its end token, which is asked
        for all the same: there a model has to stop before it revises.
    """
    tokens, asked = list(prompt), dict[int, int]()
    for answer in answers:
        asked |= enumerate(answer, len(tokens) - 1)
        tokens += [*answer[:-1], *between]
    tokens = tokens[: max(asked) + 1]
    targets, weights = np.zeros((2, len(tokens)), np.float32)
    targets[list(asked)], weights[list(asked)] = list(asked.values()), 1.0
    return Example(np.array(tokens, np.int32), targets, weights, len(prompt))


def loss(
    model: Transformer, batch: Mapping[str, Array], mode: TrainMode | None = None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Cross-entropy in nats, summed over the asked positions, and their number."""
    logits = model.logits(model(batch["tokens"], mode))
    targets = batch["targets"].astype(jnp.int32)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    return (losses * batch["weights"]).sum(), batch["weights"].sum()
