"""A training run's checkpoints: the latest, and the one whose weights are to be kept."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from ttc_jax import files
from ttc_jax.errors import UserError
from ttc_jax.hosts import hosts
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
      made_with: digests of the config and of what is learnt from; those of others are refused.
    """

    def __init__(self, folder: Path, past_best: int, made_with: Mapping[str, str] | None = None):
        self._folder = folder.absolute()
        self._made_with = dict(made_with or {})
        self._unsealed: int | None = None  # the step that is being written
        # Before Orbax reads any: it does not see a changed bit of a large array.
        for step in sorted(int(x.name) for x in self._folder.glob("*") if x.name.isdecimal()):
            self._check(step)
        with self._naming_damage(self._folder):
            self._manager = self._open(past_best)

    def _open(self, past_best: int) -> ocp.CheckpointManager:
        def rank(progress: Mapping[str, Any]) -> int:
            return progress["step"] if progress["since_best"] <= past_best else -1

        return ocp.CheckpointManager(
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
        self._finish()
        self._manager.close()

    def save(self, progress: Progress, weights: Weights, optimiser: Any) -> None:
        """Saves what is at `progress.step`; the arrays may be overwritten on return."""
        self._finish()
        self._manager.save(
            progress.step,
            args=ocp.args.Composite(
                weights=ocp.args.StandardSave(weights),
                optimiser=ocp.args.StandardSave(optimiser),
            ),
            metrics=dataclasses.asdict(progress),
            custom_metadata={"made_with": self._made_with},
        )
        self._unsealed = progress.step

    def latest(self, weights: Weights, optimiser: Any) -> tuple[Progress, Weights, Any]:
        """What was saved last, laid out as the arguments are; without a checkpoint they return.

        Raises:
          UserError: the checkpoint is of another architecture, of another config, of other data,
            or damaged.
        """
        step = self._manager.latest_step()
        if step is None:
            return Progress(), weights, optimiser
        with self._naming_damage(self._folder / str(step)):
            self._refuse_others(step)
            self._refuse_another(step, weights)
            found = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    weights=ocp.args.StandardRestore(weights),
                    optimiser=ocp.args.StandardRestore(optimiser),
                ),
            )
            progress = self._progress(step)
        self._unsealed = step
        return progress, found["weights"], found["optimiser"]

    def kept(self, weights: Weights) -> tuple[Progress, Weights]:
        """What is to be kept, laid out as `weights` are; some checkpoint has been saved."""
        self._finish()
        step = self._manager.best_step()
        assert step is not None
        self._check(step)
        args = ocp.args.Composite(weights=ocp.args.StandardRestore(weights))
        with self._naming_damage(self._folder / str(step)):
            return self._progress(step), self._manager.restore(step, args=args)["weights"]

    def name_latest(self) -> str:
        """The last checkpoint, in words."""
        self._finish()
        step = self._manager.latest_step()
        if step is None:
            return "there is no checkpoint yet"
        return f"the last good checkpoint is {self._folder / str(step)}"

    def _finish(self) -> None:
        """Waits until the last checkpoint is whole, and gives it checksums.

        One that is killed before has none until a rerun has read it.
        """
        self._manager.wait_until_finished()
        if self._unsealed is not None and hosts.is_first():
            folder = self._folder / str(self._unsealed)
            if folder.is_dir() and not (folder / files.CHECKSUMS).exists():
                files.seal(folder)
        self._unsealed = None

    def _check(self, step: int) -> None:
        """Refuses a damaged checkpoint."""
        if hosts.is_first():
            folder = self._folder / str(step)
            files.check_seal(folder, _advice(folder))

    def _refuse_others(self, step: int) -> None:
        """Refuses a checkpoint that was made with something else."""
        there = (self._manager.metadata(step).custom_metadata or {}).get("made_with", {})
        for name in sorted(there.keys() & self._made_with.keys()):
            if there[name] != self._made_with[name]:
                what = "another config" if name == "config" else f"another content of {name}"
                raise UserError(
                    f"{self._folder / str(step)}: made with {what} (was {there[name]}, now "
                    f"{self._made_with[name]}); put it back, or use another --workdir"
                )

    @staticmethod
    @contextlib.contextmanager
    def _naming_damage(folder: Path) -> Iterator[None]:
        """Orbax says in many ways that it cannot read a file."""
        try:
            yield
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{folder} cannot be read ({reason}): {_advice(folder)}") from error

    def _progress(self, step: int) -> Progress:
        found: Any = self._manager.metrics(step)
        return Progress(**found)

    def _refuse_another(self, step: int, weights: Weights) -> None:
        with ocp.StandardCheckpointer() as checkpointer:
            found = checkpointer.metadata(self._folder / str(step) / "weights").item_metadata
        parameters.refuse(
            str(self._folder),
            parameters.mismatches(weights, found or {}),
            "checkpoints of another architecture: use another --workdir",
        )


def _advice(folder: Path) -> str:
    return (
        f"delete {folder}, and the same command goes on from an earlier checkpoint, or begins anew"
    )
