"""Batches of sequences of like length, as a pure function of the step: resuming needs no state."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ttc_jax.errors import UserError

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Example:
    """One sequence and what is asked of each of its tokens.

    Attributes:
      tokens: [T] ids.
      targets: [T] what the loss compares with at each position, by the kind of training.
      weights: [T] how much each position counts; 0 where nothing is asked.
      prompt_length: how many of the tokens are the prompt's.
    """

    tokens: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    prompt_length: int


class Batches:
    """Examples put into buckets of length, shuffled anew each epoch.

    A batch holds rows of one bucket, about `tokens` tokens in all, so there is one shape a bucket.
    Which rows make batch number `step` depends on `seed` and `step` alone. An epoch holds every
    example once; what does not fill a batch comes at its end, with empty rows.

    Raises:
      UserError: no example, or one longer than the last of `lengths`.
    """

    def __init__(
        self, examples: Sequence[Example], *, lengths: Sequence[int], tokens: int, seed: int
    ):
        if not examples:
            raise UserError("there is no usable example to train on")
        self._lengths, self._tokens, self._seed = sorted(lengths), tokens, seed
        sizes = np.array([len(example.tokens) for example in examples])
        if sizes.max() > self._lengths[-1]:
            raise UserError(
                f"an example has {sizes.max()} tokens; train.lengths ends at {self._lengths[-1]}"
            )
        bucket = np.searchsorted(self._lengths, sizes)
        self._rows = [self._rows_of(length) for length in self._lengths]
        self._members = [np.flatnonzero(bucket == i) for i in range(len(self._lengths))]
        self._data = [
            _stack([examples[j] for j in members.tolist()], length)
            for members, length in zip(self._members, self._lengths, strict=True)
        ]
        self.per_epoch = len(self._plan(0))

    def _rows_of(self, length: int) -> int:
        return max(1, self._tokens // length)

    def batch(self, step: int) -> Batch:
        """Batch number `step`, from 0 over all epochs: `Example`'s fields, [rows, length]."""
        epoch, index = divmod(step, self.per_epoch)
        bucket, rows = self._plan(epoch)[index]
        return {name: array[rows] for name, array in self._data[bucket].items()}

    def all(self) -> list[Batch]:
        """One epoch's batches in a fixed order, for validation."""
        return [self.batch(step) for step in range(self.per_epoch)]

    def _plan(self, epoch: int) -> list[tuple[int, np.ndarray]]:
        if getattr(self, "_planned", None) != epoch:
            rng = np.random.default_rng((self._seed, epoch))
            full, rest = [], []
            for i, (members, rows) in enumerate(zip(self._members, self._rows, strict=True)):
                order = rng.permutation(len(members))
                whole = len(members) // rows * rows
                full += [(i, part) for part in order[:whole].reshape(-1, rows)]
                if left := len(members) - whole:
                    empty = np.full(rows - left, len(members))
                    rest.append((i, np.concatenate([order[whole:], empty])))
            shuffled = [full[j] for j in rng.permutation(len(full))]
            self._planned, self._epoch_plan = epoch, shuffled + rest
        return self._epoch_plan


def _stack(examples: Sequence[Example], length: int) -> Batch:
    """Examples as arrays, with an empty row behind the last."""
    shape = (len(examples) + 1, length)
    batch = {
        "tokens": np.zeros(shape, np.int32),
        "targets": np.zeros(shape, np.float32),
        "weights": np.zeros(shape, np.float32),
    }
    for row, example in enumerate(examples):
        for name, array in batch.items():
            values = getattr(example, name)
            array[row, : len(values)] = values
    prompt_lengths = np.array([*(example.prompt_length for example in examples), 0], np.int32)
    return batch | {"prompt_lengths": prompt_lengths}
