"""The training loop: AdamW, validation, and checkpoints from which a killed run goes on."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx
from jaxtyping import Array, Float
from tqdm import tqdm

from ttc_jax.errors import UserError
from ttc_jax.models.regime import Regime
from ttc_jax.training.batches import Batches

Loss = Callable[
    [Any, Mapping[str, Array], Regime | None], tuple[Float[Array, ""], Float[Array, ""]]
]


@dataclasses.dataclass(frozen=True)
class Optimisation:
    """How a model is fitted: AdamW with warm-up and cosine decay to `final_rate` of the peak.

    What is saved has been validated just before: no checkpoint holds what is not a number, and a
    rerun logs what an uninterrupted run does.

    Raises:
      UserError: steps, evaluate_every or save_every below 1.
    """

    steps: int
    learning_rate: float
    warmup: int = 100
    final_rate: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.01
    clip: float = 1.0
    evaluate_every: int = 500
    save_every: int = 500

    def __post_init__(self) -> None:
        for name in ("steps", "evaluate_every", "save_every"):
            if (value := getattr(self, name)) < 1:
                raise UserError(f"train.{name} is {value}; it must be at least 1")

    def transform(self) -> optax.GradientTransformation:
        """The optax chain."""
        rate = optax.warmup_cosine_decay_schedule(
            0.0,
            self.learning_rate,
            min(self.warmup, self.steps // 2),
            self.steps,
            self.learning_rate * self.final_rate,
        )
        return optax.chain(
            optax.clip_by_global_norm(self.clip),
            optax.adamw(rate, self.beta1, self.beta2, weight_decay=self.weight_decay),
        )


def fit(
    model: nnx.Module,
    loss: Loss,
    train: Batches,
    validation: Batches,
    optimisation: Optimisation,
    folder: Path,
    trainable: Any = nnx.Param,
) -> dict[str, float]:
    """Fits `model` in place and leaves it with the parameters of the lowest validation loss.

    Args:
      loss: (model, batch, regime) -> (sum of losses, sum of weights); the quotient is minimised.
      trainable: NNX filter of the parameters that move; the others stay as they are.
      folder: holds checkpoints, from which a rerun goes on, and `metrics.jsonl`.

    Returns:
      Final figures: steps, tokens seen, best validation loss.

    Raises:
      UserError: the loss is not a number; names the step and the last checkpoint.
    """
    graph, moving, still = nnx.split(model, trainable, ...)
    transform = optimisation.transform()
    state = {
        "parameters": moving,
        "optimiser": transform.init(moving),
        "best": jax.tree.map(jnp.copy, moving),
        "best_loss": jnp.float32(jnp.inf),
        "tokens": jnp.float32(0),
    }

    def mean_loss(moving: Any, still: Any, batch: Mapping[str, Array]) -> Array:
        total, weight = loss(nnx.merge(graph, moving, still), batch, None)
        return total / jnp.maximum(weight, 1.0)

    def update(moving: Any, optimiser: Any, still: Any, batch: Mapping[str, Array]):
        value, gradient = jax.value_and_grad(mean_loss)(moving, still, batch)
        step, optimiser = transform.update(gradient, optimiser, moving)
        return optax.apply_updates(moving, step), optimiser, value

    def sums(moving: Any, still: Any, batch: Mapping[str, Array]):
        return loss(nnx.merge(graph, moving, still), batch, None)

    update, sums = jax.jit(update, donate_argnums=(0, 1)), jax.jit(sums)
    with _checkpoints(folder) as manager:
        first = 0
        if (latest := manager.latest_step()) is not None:
            state = manager.restore(latest, args=ocp.args.StandardRestore(state))
            first = latest
        log = _Log(folder / "metrics.jsonl", first)
        bar = tqdm(range(first, optimisation.steps), initial=first, total=optimisation.steps)
        recent: list[Array] = []
        for step in bar:
            batch = train.batch(step)
            state["parameters"], state["optimiser"], value = update(
                state["parameters"], state["optimiser"], still, batch
            )
            recent.append(value)
            state["tokens"] += batch["tokens"].size
            done = step + 1
            save = done % optimisation.save_every == 0 or done == optimisation.steps
            if save or done % optimisation.evaluate_every == 0:
                figures = {
                    "step": done,
                    "tokens": int(state["tokens"]),
                    "loss": float(np.mean(jax.device_get(recent))),
                    "validation_loss": _mean(
                        [sums(state["parameters"], still, b) for b in validation.all()]
                    ),
                }
                recent = []
                _refuse_nan(figures, manager)
                bar.set_postfix(loss=figures["loss"], validation=figures["validation_loss"])
                log.append(figures)
                if figures["validation_loss"] < float(state["best_loss"]):
                    state["best_loss"] = jnp.float32(figures["validation_loss"])
                    state["best"] = jax.tree.map(jnp.copy, state["parameters"])
            if save:
                manager.save(done, args=ocp.args.StandardSave(state))
    nnx.update(model, state["best"])
    return {
        "steps": optimisation.steps,
        "tokens": int(state["tokens"]),
        "validation_loss": float(state["best_loss"]),
    }


def _checkpoints(folder: Path) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(max_to_keep=2)
    return ocp.CheckpointManager((folder / "checkpoints").absolute(), options=options)


def _mean(sums: list[tuple[Array, Array]]) -> float:
    totals = np.asarray(jax.device_get(sums), np.float64).sum(0)
    return float(totals[0] / max(totals[1], 1.0))


def _refuse_nan(figures: Mapping[str, float], manager: ocp.CheckpointManager) -> None:
    if not (math.isfinite(figures["loss"]) and math.isfinite(figures["validation_loss"])):
        raise UserError(
            f"the loss is not a number at step {figures['step']}; the last good checkpoint is step "
            f"{manager.latest_step() or 0}; lower train.learning_rate"
        )


class _Log:
    """One JSON line an evaluation; lines of steps that a resumed run does again are dropped.

    So is a line that a kill has torn.
    """

    def __init__(self, path: Path, first: int):
        kept = []
        if path.exists():
            whole, _, _ = path.read_text().rpartition("\n")
            kept = [line for line in whole.splitlines() if json.loads(line)["step"] <= first]
        self._path = path
        path.write_text("".join(f"{line}\n" for line in kept))

    def append(self, figures: Mapping[str, float]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(figures) + "\n")
