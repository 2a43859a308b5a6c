"""Supervised finetuning: next-token loss on worked solutions, none on the questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from ttc_jax.models.regime import Regime
from ttc_jax.models.transformer import Transformer
from ttc_jax.training.batches import Example

if TYPE_CHECKING:
    from ttc_jax.models.tokenizers import Tokenizer
    from ttc_jax.tasks.prompts import PromptFormat
    from ttc_jax.tasks.task import Question


def examples(
    questions: Sequence[Question], prompt: PromptFormat, tokenizer: Tokenizer
) -> list[Example]:
    """Each question's prompt, solution and end token; position t is asked for token t + 1."""
    found = []
    for question in questions:
        start = prompt.encode(question.text, tokenizer)
        answer = [*tokenizer.encode(question.solution), tokenizer.eos_ids[0]]
        tokens = np.array(start + answer, np.int32)
        weights = np.zeros(len(tokens), np.float32)
        weights[len(start) - 1 : -1] = 1.0
        targets = np.append(tokens[1:], 0).astype(np.float32)
        found.append(Example(tokens, targets, weights, len(start)))
    return found


def loss(
    model: Transformer, batch: Mapping[str, Array], regime: Regime | None = None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Cross-entropy in nats, summed over the asked positions, and their number."""
    logits = model.logits(model(batch["tokens"], regime))
    targets = batch["targets"].astype(jnp.int32)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    return (losses * batch["weights"]).sum(), batch["weights"].sum()
