"""Teaching a PRM: binary cross-entropy on the soft Monte-Carlo value of every step (paper §2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float

from ttc_jax.errors import UserError
from ttc_jax.models.delimiters import Delimiter
from ttc_jax.models.train_mode import TrainMode
from ttc_jax.models.transformer import Transformer
from ttc_jax.training.batches import Example
from ttc_jax.training.data import Collected, Examples
from ttc_jax.verifiers.prm import ProcessRewardModel
from ttc_jax.verifiers.prm_config import PRMConfig


def on_trunk(
    generator: Transformer,
    *,
    depth: int,
    ffn_width: int,
    seed: int,
    width: int = 0,
    reads_tokens: bool = False,
    every_step: bool = True,
) -> ProcessRewardModel:
    """A new PRM on a copy of `generator`.

    Args:
      depth: layers of its own above the trunk, which then stays as it is; 0: the head is on the
        trunk, which is taught with it.
      ffn_width: of those layers.
      width: of those layers, 0 for the trunk's; divided among as many heads as the trunk has.
      reads_tokens: see `PRMConfig`.
      every_step: False: an ORM.
    """
    trunk = generator.config
    layers = dataclasses.replace(
        trunk,
        width=width or trunk.width,
        head_size=width // trunk.heads if width else trunk.head_size,
        attention_scale=None if width else trunk.attention_scale,
        depth=depth,
        ffn_width=ffn_width,
        windows=(None,) * depth,
        ropes=trunk.ropes[:1] * depth,
    )
    config = PRMConfig(
        trunk, layers if depth else None, every_step=every_step, reads_tokens=reads_tokens
    )
    prm = ProcessRewardModel(config, rngs=nnx.Rngs(seed))
    nnx.update(prm.trunk, nnx.state(generator))
    return prm


def trainable(prm: ProcessRewardModel) -> Any:
    """NNX filter of what a PRM is taught: not a trunk that has layers above it."""
    return nnx.Param if prm.layers is None else above_trunk


def above_trunk(path: tuple[Any, ...], value: Any) -> bool:
    """NNX filter of a PRM's own layers and head."""
    return path[0] != "trunk" and isinstance(value, nnx.Param)


def examples(collected: Sequence[Collected], delimiter: Delimiter) -> Examples:
    """Each answer with Monte-Carlo values, which are asked for at the ends of its steps.

    The value of the question, at the end of the prompt, is the share of its answers that are
    correct: so a PRM says how hard a question is before anything has been sampled. Answers without
    a final answer are wrong there, and left out otherwise.

    Args:
      delimiter: ends steps.

    Raises:
      UserError: other steps than the values are of.
    """
    found: Examples = {}
    for of_question in collected:
        value = of_question.pass_at_1
        for prompt, answer, ends in of_question.answers(delimiter):
            if not answer.step_values:
                continue
            if len(answer.step_values) != len(ends):
                raise UserError(
                    f"{of_question.question}: {len(answer.step_values)} Monte-Carlo values for "
                    f"{len(ends)} steps; set config.step_delimiter as in the collection's "
                    "config.json, or collect anew where an older version cut the steps"
                )
            row = example(prompt, answer.tokens, [-1, *ends], [value, *answer.step_values])
            found.setdefault(of_question.question, []).append(row)
    return found


def example(
    prompt: Sequence[int], answer: Sequence[int], at: Sequence[int], values: Sequence[float]
) -> Example:
    """An answer behind its prompt, with values asked for at some of its tokens.

    Args:
      at: places in the answer; -1 is the prompt's last token.
    """
    tokens = np.array([*prompt, *answer], np.int32)
    targets, weights = np.zeros((2, len(tokens)), np.float32)
    where = np.array(at) + len(prompt)
    targets[where], weights[where] = values, 1.0
    return Example(tokens, targets, weights, len(prompt))


def loss(
    model: ProcessRewardModel, batch: Mapping[str, Array], mode: TrainMode | None = None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Binary cross-entropy in nats, summed over where values are asked for, and their number.

    Args:
      model: gives a score, as a logit, at every token: a PRM or an ORM.
    """
    scores = model(batch["tokens"], batch["prompt_lengths"], mode).astype(jnp.float32)
    losses = optax.sigmoid_binary_cross_entropy(scores, batch["targets"])
    return (losses * batch["weights"]).sum(), batch["weights"].sum()
