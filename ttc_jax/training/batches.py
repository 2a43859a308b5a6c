"""Batches of sequences of like length, as a pure function of the step: resuming needs no state."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from ttc_jax.errors import UserError

Batch = dict[str, np.ndarray]
NONE = -1  # stands for the example of a row that holds none


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
    example once; the last batch of a bucket is filled up with rows that hold nothing.

    Args:
      lengths: of the buckets, tokens.
      multiple: every batch has a multiple of so many rows, for meshes and accumulation to divide.

    Attributes:
      per_epoch: batches in an epoch.
      rows: of a batch of each bucket.

    Raises:
      UserError: no example that asks for anything, or one longer than the last of `lengths`.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        *,
        lengths: Sequence[int],
        tokens: int,
        seed: int,
        multiple: int = 1,
    ):
        if not any(example.weights.any() for example in examples):
            raise UserError("there is no usable example to train on")
        lengths, sizes = sorted(lengths), [len(example.tokens) for example in examples]
        if max(sizes) > lengths[-1]:
            raise UserError(
                f"an example has {max(sizes)} tokens; train.lengths ends at {lengths[-1]}"
            )
        bucket = np.searchsorted(lengths, sizes)
        self._seed, self._epoch = seed, -1
        self._buckets: list[Batch] = []
        self.rows: list[int] = []
        for number in np.unique(bucket):
            members = np.flatnonzero(bucket == number)
            self._buckets.append(_stack(examples, members, lengths[number]))
            self.rows.append(rows_of(lengths[number], tokens, multiple))
        self._fixed = self._cut([np.arange(len(rows["lengths"]) - 1) for rows in self._buckets])
        self._shuffled: list[tuple[int, np.ndarray]] = []
        self.per_epoch = len(self._fixed)

    def batch(self, step: int) -> Batch:
        """Batch number `step`, from 0 over all epochs.

        Returns:
          `Example`'s fields, [rows, length] (`prompt_lengths` [rows]); `lengths`, [rows]: how many
          of the tokens are no padding; and `examples`, [rows]: their places among the examples, or
          NONE.
        """
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._shuffled = epoch, self._shuffle(epoch)
        return self._take(*self._shuffled[place])

    def all(self) -> list[Batch]:
        """One epoch's batches in a fixed order, for validation."""
        return [self._take(*batch) for batch in self._fixed]

    def _shuffle(self, epoch: int) -> list[tuple[int, np.ndarray]]:
        """An epoch's batches: rows are dealt anew within each bucket, and batches put in order."""
        rng = np.random.default_rng((self._seed, epoch))
        dealt = self._cut([rng.permutation(len(rows["lengths"]) - 1) for rows in self._buckets])
        return [dealt[place] for place in rng.permutation(len(dealt))]

    def _cut(self, orders: Sequence[np.ndarray]) -> list[tuple[int, np.ndarray]]:
        """Batches of rows in these orders, one of each bucket, as the bucket and places in it."""
        return [
            (number, order[first : first + self.rows[number]])
            for number, order in enumerate(orders)
            for first in range(0, len(order), self.rows[number])
        ]

    def _take(self, number: int, places: np.ndarray) -> Batch:
        """These rows of a bucket, filled up with its last one, which is empty."""
        missing = self.rows[number] - len(places)
        places = np.pad(places, (0, missing), constant_values=-1)
        return {name: array[places] for name, array in self._buckets[number].items()}


def rows_of(length: int, tokens: int, multiple: int) -> int:
    """Rows of a batch of sequences of `length`; see `Batches`."""
    return max(1, tokens // (length * multiple)) * multiple


def batch_shapes(rows: int, length: int) -> dict[str, jax.ShapeDtypeStruct]:
    """What `Batches.batch` gives of a bucket, as shapes."""
    kinds = {"tokens": np.int32, "targets": np.float32, "weights": np.float32}
    counts = ("prompt_lengths", "lengths", "examples")
    return {
        **{name: jax.ShapeDtypeStruct((rows, length), kind) for name, kind in kinds.items()},
        **{name: jax.ShapeDtypeStruct((rows,), np.int32) for name in counts},
    }


def _stack(examples: Sequence[Example], members: np.ndarray, length: int) -> Batch:
    """The members of a bucket as arrays, with an empty row behind the last."""
    shape = (len(members) + 1, length)
    bucket = {
        "tokens": np.zeros(shape, np.int32),
        "targets": np.zeros(shape, np.float32),
        "weights": np.zeros(shape, np.float32),
    }
    for row, member in enumerate(members):
        for name, array in bucket.items():
            values = getattr(examples[member], name)
            array[row, : len(values)] = values
    found = [examples[member] for member in members]
    bucket["prompt_lengths"] = np.array([*(x.prompt_length for x in found), 0], np.int32)
    bucket["lengths"] = np.array([*(len(x.tokens) for x in found), 0], np.int32)
    bucket["examples"] = np.append(members, NONE).astype(np.int32)
    return bucket
