"""Which examples make which batch."""

from collections.abc import Sequence

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from ttc_jax.errors import UserError
from ttc_jax.training.batches import NONE, Batch, Batches, Example

LENGTHS = (8, 16, 24)


def example(number: int, length: int) -> Example:
    tokens = np.full(length, number + 1, np.int32)
    return Example(tokens, tokens + 0.5, np.ones(length, np.float32), 1)


def make(sizes: Sequence[int], tokens: int = 64, seed: int = 0, multiple: int = 1) -> Batches:
    examples = [example(i, size) for i, size in enumerate(sizes)]
    return Batches(examples, lengths=LENGTHS, tokens=tokens, seed=seed, multiple=multiple)


def numbers(batch: Batch) -> list[int]:
    """The examples of a batch; rows without one left out."""
    found = [int(row[0]) - 1 for row in batch["tokens"]]
    assert found == batch["examples"].tolist()
    return [number for number in found if number != NONE]


SIZES = [1, 8, 9, 16, 17, 24, *[5] * 20, *[12] * 7]


def test_a_batch_is_a_function_of_the_step():
    batches, others = make(SIZES), make(SIZES)
    steps = range(3 * batches.per_epoch)
    found = {step: others.batch(step) for step in reversed(steps)}
    for step in steps:
        for name, array in batches.batch(step).items():
            np.testing.assert_array_equal(array, found[step][name])


@hypothesis.settings(max_examples=20)
@hypothesis.given(
    st.lists(st.integers(1, 24), min_size=1, max_size=40), st.integers(8, 100), st.integers(1, 3)
)
def test_an_epoch_holds_every_example_once(sizes: list[int], tokens: int, multiple: int):
    batches = make(sizes, tokens, multiple=multiple)
    for epoch in range(2):
        steps = range(epoch * batches.per_epoch, (epoch + 1) * batches.per_epoch)
        found = [number for step in steps for number in numbers(batches.batch(step))]
        assert sorted(found) == list(range(len(sizes)))
    assert sorted(i for batch in batches.all() for i in numbers(batch)) == list(range(len(sizes)))
    assert {len(batch["tokens"]) for batch in batches.all()} == set(batches.rows)
    assert all(rows % multiple == 0 for rows in batches.rows)


def test_epochs_and_seeds_differ_in_order():
    batches, other = make(SIZES), make(SIZES, seed=1)

    def order(batches: Batches, epoch: int) -> list[list[int]]:
        first = epoch * batches.per_epoch
        return [numbers(batches.batch(first + i)) for i in range(batches.per_epoch)]

    orders = [order(batches, 0), order(batches, 1), order(other, 0), order(other, 1)]
    assert all(orders.count(found) == 1 for found in orders)


def test_lengths_are_mixed_within_an_epoch():
    batches = make([*[5] * 80, *[20] * 20])
    lengths = [batches.batch(step)["tokens"].shape[1] for step in range(batches.per_epoch)]
    assert lengths != sorted(lengths)
    assert lengths != sorted(lengths, reverse=True)


def test_validation_has_a_fixed_order():
    first, second = make(SIZES), make(SIZES, seed=1)
    assert [numbers(x) for x in first.all()] == [numbers(x) for x in second.all()]


def test_one_shape_a_bucket_and_rows_padded_with_nothing():
    batches = make(SIZES)
    shapes = set()
    for batch in batches.all():
        rows, length = batch["tokens"].shape
        shapes.add((rows, length))
        for row in range(rows):
            number = batch["tokens"][row, 0] - 1
            size = SIZES[number] if number >= 0 else 0
            shorter = max((x for x in LENGTHS if x < length), default=0)
            assert number < 0 or shorter < size <= length
            assert batch["lengths"][row] == size
            for name, value in (("tokens", number + 1), ("targets", number + 1.5), ("weights", 1)):
                np.testing.assert_array_equal(batch[name][row, :size], value)
                assert not batch[name][row, size:].any()
    assert shapes == {(64 // length, length) for length in LENGTHS}


def test_an_example_that_no_bucket_holds_is_refused():
    with pytest.raises(UserError, match="has 25 tokens; train.lengths ends at 24"):
        make([3, 25])


@pytest.mark.parametrize("examples", [[], [Example(np.ones(3), np.ones(3), np.zeros(3), 1)]])
def test_examples_that_ask_for_nothing_are_refused(examples: list[Example]):
    with pytest.raises(UserError, match="no usable example"):
        Batches(examples, lengths=LENGTHS, tokens=64, seed=0)
