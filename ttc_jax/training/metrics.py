"""What a training run tells while it goes on: metrics.jsonl, TensorBoard and a progress line."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

from tensorboardX import SummaryWriter
from tqdm import tqdm

from ttc_jax.hosts import hosts
from ttc_jax.training.checkpoints import Progress


class Metrics:
    """One JSON line and one TensorBoard event an evaluation, and the progress line.

    What a killed run has told of steps that are done again is dropped, as is a line that the kill
    has torn. Rates are not in metrics.jsonl: a resumed run writes the same file. Of many hosts the
    first alone tells.

    Args:
      folder: gets metrics.jsonl and tensorboard/.
      progress: where the run goes on.
      steps: where it ends.
    """

    def __init__(self, folder: Path, progress: Progress, steps: int):
        self._tells = hosts.is_first()
        self._bar = tqdm(
            range(progress.step, steps),
            initial=progress.step,
            total=steps,
            unit="step",
            disable=not self._tells,
        )
        if not self._tells:
            return
        self._path = folder / "metrics.jsonl"
        with self._path.open("a+b") as file:
            file.seek(0)
            end = 0
            for line in file:
                if not line.endswith(b"\n") or json.loads(line)["step"] > progress.step:
                    break
                end += len(line)
            file.truncate(end)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=progress.step + 1)
        self._at = time.perf_counter(), progress.tokens  # the last evaluation

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()
        if self._tells:
            self._board.close()

    def steps(self) -> Iterator[int]:
        """The steps to do, while the progress line moves."""
        return iter(self._bar)

    def append(self, progress: Progress, means: Mapping[str, float]) -> None:
        """Tells of an evaluation.

        Args:
          progress: after it.
          means: figures of the updates since the one before.
        """
        if not self._tells:
            return
        figures = {
            "step": progress.step,
            "tokens": progress.tokens,
            **means,
            "validation_loss": progress.validation_loss,
        }
        with self._path.open("a") as file:
            file.write(json.dumps(figures) + "\n")
        (before, read), self._at = self._at, (time.perf_counter(), progress.tokens)
        rate = (progress.tokens - read) / (self._at[0] - before)
        for name, figure in {**figures, "tokens_per_second": rate}.items():
            self._board.add_scalar(name, figure, progress.step)
        self._board.flush()
        self._bar.set_postfix_str(
            f"loss {means['loss']:.4f}, validation {progress.validation_loss:.4f}, "
            f"{rate:,.0f} tokens/s"
        )
