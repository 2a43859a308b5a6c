"""The training loop: updates, validation, and checkpoints from which a killed run goes on.

An update is a pure function of the state before it and of its number, which says what batch it
reads and what dropout drops: the same run, resumed, needs neither a place in the data nor a key.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from ttc_jax.errors import UserError
from ttc_jax.models import parameters
from ttc_jax.sharding.mesh import make_mesh
from ttc_jax.training.batches import NONE, Batches
from ttc_jax.training.checkpoints import Checkpoints
from ttc_jax.training.metrics import Metrics
from ttc_jax.training.optimisation import Optimisation
from ttc_jax.training.update import NEVER, Loss, Program, Trouble

NAMED_AT_MOST = 5  # examples of a bad batch


def fit(
    model: nnx.Module,
    loss: Loss,
    train: Batches,
    validation: Batches,
    optimisation: Optimisation,
    folder: Path,
    *,
    trainable: Any = nnx.Param,
    mesh: Mesh | None = None,
    seed: int = 0,
    made_with: Mapping[str, str] | None = None,
) -> dict[str, float]:
    """Fits `model` in place and leaves it with the weights of the lowest validation loss.

    Or with those of `optimisation.past_best` evaluations later. They lie where the model's lay.

    Args:
      loss: (model, batch, mode) -> (sum of losses, sum of weights); the quotient is minimised.
        In validation there is no mode.
      folder: gets checkpoints/, from which a rerun goes on, metrics.jsonl and tensorboard/.
      trainable: NNX filter of the parameters that move; the others stay as they are.
      mesh: parameters and optimiser are split by its rules, batches by rows; None: one device.
      seed: of dropout.
      made_with: digests of what decides the result, see `Checkpoints`.

    Returns:
      Steps and tokens (no padding) in all, and the step and the validation loss of the weights.

    Raises:
      UserError: a loss that is no number or a gradient that explodes (names the step, the batch
        and the last good checkpoint); checkpoints of another architecture; a mesh that does not
        divide the model or a batch.
    """
    mesh = make_mesh(1, 1, jax.devices()[:1]) if mesh is None else mesh
    _refuse_ragged([*train.rows, *validation.rows], mesh, optimisation.accumulate)
    program = Program(model, loss, optimisation, trainable=trainable, mesh=mesh, seed=seed)
    state, held_out = program.start(), validation.all()
    with Checkpoints(folder / "checkpoints", optimisation.past_best, made_with) as checkpoints:
        progress, weights, optimiser = checkpoints.latest(state.weights, state.optimiser)
        state = state._replace(weights=weights, optimiser=optimiser)
        tokens, recent = progress.tokens, []
        with Metrics(folder, progress, optimisation.steps) as metrics:
            for step in metrics.steps():
                if 0 < optimisation.patience <= progress.since_best:
                    break
                batch = train.batch(step)
                state, figures = program.update(state, batch, step)
                recent.append(figures)
                tokens += int(batch["lengths"].sum())
                done = step + 1
                if done % optimisation.evaluate_every and done < optimisation.steps:
                    continue
                _refuse_trouble(jax.device_get(state.trouble), train, checkpoints)
                validation_loss = program.evaluate(state.weights, held_out)
                if not math.isfinite(validation_loss):
                    raise UserError(
                        f"the validation loss is {validation_loss} at step {done}; "
                        f"{checkpoints.name_latest()}; lower train.learning_rate"
                    )
                means = jax.tree.map(lambda *x: float(np.mean(x)), *jax.device_get(recent))
                recent = []
                progress = progress.after(done, tokens, validation_loss)
                metrics.append(progress, means)
                checkpoints.save(progress, state.weights, state.optimiser)
        moving = nnx.state(model, trainable)
        kept, weights = checkpoints.kept(parameters.named(moving))
    nnx.update(model, parameters.as_state(weights, moving))
    return {
        "steps": progress.step,
        "tokens": progress.tokens,
        "kept_step": kept.step,
        "validation_loss": kept.validation_loss,
    }


def _refuse_ragged(rows: list[int], mesh: Mesh, accumulate: int) -> None:
    data = mesh.shape["data"]
    for count in rows:
        if count % (data * accumulate):
            raise UserError(
                f"mesh data={data} × train.accumulate={accumulate} does not divide a batch of "
                f"{count} rows; change them, or train.batch_tokens"
            )


def _refuse_trouble(trouble: Trouble, train: Batches, checkpoints: Checkpoints) -> None:
    if (number := int(trouble.step)) == NEVER:
        return
    examples = [str(x) for x in train.batch(number)["examples"] if x != NONE]
    if len(examples) > NAMED_AT_MOST:
        examples[NAMED_AT_MOST:] = [f"and {len(examples) - NAMED_AT_MOST} more"]
    raise UserError(
        f"training stopped at step {number + 1}, on batch {number} (examples "
        f"{', '.join(examples)}): loss {trouble.loss:.4g}, gradient norm {trouble.norm:.4g}; "
        f"{checkpoints.name_latest()}; lower train.learning_rate"
    )
