"""A training run's checkpoints: the latest, and the one whose weights are to be kept."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from ttc_jax.models import parameters
from ttc_jax.training.update import Weights


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where a run stands at an evaluation.

    With the weights and the optimiser it is all that a rerun needs: which data come next and what
    dropout drops are functions of the step.
    """

    step: int = 0
    tokens: int = 0
    validation_loss: float = math.inf
    best_loss: float = math.inf
    since_best: int = 0  # evaluations after that of `best_loss`

    def after(self, step: int, tokens: int, validation_loss: float) -> Progress:
        """At the next evaluation."""
        better = validation_loss < self.best_loss
        return Progress(
            step,
            tokens,
            validation_loss,
            best_loss=validation_loss if better else self.best_loss,
            since_best=0 if better else self.since_best + 1,
        )


class Checkpoints:
    """Written in the background; a kill at any time leaves the earlier ones whole.

    Args:
      folder: of this run alone.
      past_best: evaluations after the minimum of which the weights are kept.
    """

    def __init__(self, folder: Path, past_best: int):
        def rank(progress: Mapping[str, Any]) -> int:
            return progress["step"] if progress["since_best"] <= past_best else -1

        self._folder = folder.absolute()
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                best_fn=rank,
                preservation_policy=AnyPreservationPolicy(
                    [
                        LatestN(1),
                        BestN(get_metric_fn=rank, n=1, keep_checkpoints_without_metrics=False),
                    ]
                ),
                cleanup_tmp_directories=True,
            ),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._manager.close()

    def save(self, progress: Progress, weights: Weights, optimiser: Any) -> None:
        """Saves what is at `progress.step`; the arrays may be overwritten on return."""
        self._manager.save(
            progress.step,
            args=ocp.args.Composite(
                weights=ocp.args.StandardSave(weights),
                optimiser=ocp.args.StandardSave(optimiser),
            ),
            metrics=dataclasses.asdict(progress),
        )

    def latest(self, weights: Weights, optimiser: Any) -> tuple[Progress, Weights, Any]:
        """What was saved last, laid out as the arguments are; without a checkpoint they return.

        Raises:
          UserError: the checkpoint is of another architecture.
        """
        step = self._manager.latest_step()
        if step is None:
            return Progress(), weights, optimiser
        self._refuse_another(step, weights)
        found = self._manager.restore(
            step,
            args=ocp.args.Composite(
                weights=ocp.args.StandardRestore(weights),
                optimiser=ocp.args.StandardRestore(optimiser),
            ),
        )
        return self._progress(step), found["weights"], found["optimiser"]

    def kept(self, weights: Weights) -> tuple[Progress, Weights]:
        """What is to be kept, laid out as `weights` are; some checkpoint has been saved."""
        self._manager.wait_until_finished()
        step = self._manager.best_step()
        assert step is not None
        args = ocp.args.Composite(weights=ocp.args.StandardRestore(weights))
        return self._progress(step), self._manager.restore(step, args=args)["weights"]

    def name_latest(self) -> str:
        """The last checkpoint, in words."""
        self._manager.wait_until_finished()
        step = self._manager.latest_step()
        if step is None:
            return "there is no checkpoint yet"
        return f"the last good checkpoint is {self._folder / str(step)}"

    def _progress(self, step: int) -> Progress:
        return Progress(**self._manager.metrics(step))

    def _refuse_another(self, step: int, weights: Weights) -> None:
        with ocp.StandardCheckpointer() as checkpointer:
            found = checkpointer.metadata(self._folder / str(step) / "weights").item_metadata
        parameters.refuse(
            str(self._folder),
            parameters.mismatches(weights, found or {}),
            "checkpoints of another architecture: use another --workdir",
        )
