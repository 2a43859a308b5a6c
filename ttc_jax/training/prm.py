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
from ttc_jax.models.regime import Regime
from ttc_jax.models.transformer import Transformer
from ttc_jax.training.batches import Example
from ttc_jax.training.rollouts import Labelled
from ttc_jax.verifiers.prm import PRMConfig, ProcessRewardModel


def on_trunk(
    generator: Transformer, *, depth: int, ffn_width: int, seed: int
) -> ProcessRewardModel:
    """A new PRM on a frozen copy of `generator`, with `depth` layers of the trunk's width."""
    trunk = generator.config
    layers = dataclasses.replace(
        trunk,
        depth=depth,
        ffn_width=ffn_width,
        windows=(None,) * depth,
        ropes=trunk.ropes[:1] * depth,
    )
    prm = ProcessRewardModel(PRMConfig(trunk, layers), rngs=nnx.Rngs(seed))
    nnx.update(prm.trunk, nnx.state(generator))
    return prm


def above_trunk(path: tuple[Any, ...], value: Any) -> bool:
    """NNX filter: the parameters that a PRM is taught; its trunk stays as it is."""
    return path[0] != "trunk" and isinstance(value, nnx.Param)


def examples(answers: Sequence[Labelled]) -> list[Example]:
    """Each answer behind its prompt, with its value asked for at the end of every step.

    Raises:
      UserError: no answer is left.
    """
    if not answers:
        raise UserError("no sampled answer could be parsed, so there is no step to learn from")
    found = []
    for answer in answers:
        tokens = np.array(answer.prompt + answer.tokens, np.int32)
        at = np.array(answer.ends, np.int64) + len(answer.prompt)
        targets, weights = np.zeros((2, len(tokens)), np.float32)
        targets[at], weights[at] = answer.values, 1.0
        found.append(Example(tokens, targets, weights, len(answer.prompt)))
    return found


def loss(
    model: ProcessRewardModel, batch: Mapping[str, Array], regime: Regime | None = None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Binary cross-entropy in nats, summed over step ends, and their number."""
    scores = model(batch["tokens"], batch["prompt_lengths"], regime).astype(jnp.float32)
    losses = optax.sigmoid_binary_cross_entropy(scores, batch["targets"])
    return (losses * batch["weights"]).sum(), batch["weights"].sum()


def quality(scores: Sequence[Sequence[float]], answers: Sequence[Labelled]) -> dict[str, float]:
    """How well step scores rank, as areas under the ROC curve (0.5 is chance).

    Returns:
      `last_step`: correct against wrong answers of the same question, by the last score.
      `first_error`: steps before an answer's first worthless step (value 0) against that step.
      What finds no pair to rank is left out.
    """
    by_question: dict[str, list[tuple[float, float]]] = {}
    before, errors = [], []
    for row, answer in zip(scores, answers, strict=True):
        by_question.setdefault(answer.question, []).append((row[-1], answer.values[-1]))
        worthless = [i for i, value in enumerate(answer.values) if value == 0]
        if worthless and worthless[0] > 0:
            before += row[: worthless[0]]
            errors.append(row[worthless[0]])
    areas = {
        "last_step": [area for rows in by_question.values() for area in _area(rows)],
        "first_error": _area([(s, 1.0) for s in before] + [(s, 0.0) for s in errors]),
    }
    return {name: float(np.mean(found)) for name, found in areas.items() if found}


def _area(rows: Sequence[tuple[float, float]]) -> list[float]:
    """The area, or nothing where all rows are good or all are bad."""
    good = np.array([score for score, value in rows if value > 0.5])
    bad = np.array([score for score, value in rows if value <= 0.5])
    if not len(good) or not len(bad):
        return []
    difference = good[:, None] - bad[None, :]
    return [float((difference > 0).mean() + 0.5 * (difference == 0).mean())]
