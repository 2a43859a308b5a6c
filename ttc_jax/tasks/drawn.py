"""Questions that are drawn from a seed, in splits that can never meet."""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Callable

from ttc_jax import hashing
from ttc_jax.errors import UserError
from ttc_jax.tasks.task import Question

SPLITS = {"test": (0, 10), "validation": (10, 20), "train": (20, 100)}  # hash of the text, percent


def questions(
    task: str, split: str, size: int, seed: int, draw: Callable[[random.Random], Question]
) -> list[Question]:
    """Returns the first `size` questions of a split; a larger size adds to a smaller one's.

    All are different. A question belongs to the split that a hash of its text names.

    Args:
      task: what ids begin with.
      draw: draws one question, without its id.

    Raises:
      UserError: no such split, or a size below 1.
    """
    if split not in SPLITS:
        raise UserError(f"{task} has no split {split!r}: choose from {', '.join(SPLITS)}")
    if size < 1:
        raise UserError(f"task.size is {size}; it must be at least 1")
    return list(_drawn(task, split, size, seed, draw))


@functools.lru_cache(maxsize=4)
def _drawn(
    task: str, split: str, size: int, seed: int, draw: Callable[[random.Random], Question]
) -> tuple[Question, ...]:
    """Draws until there are so many of the split; kept, since a study draws them once a stage."""
    rng = random.Random(f"{split}/{seed}")
    found: dict[str, Question] = {}
    while len(found) < size:
        question = draw(rng)
        if question.text not in found and _split_of(question.text) == split:
            name = f"{task}/{split}/{seed}/{len(found)}"
            found[question.text] = dataclasses.replace(question, id=name)
    return tuple(found.values())


def _split_of(text: str) -> str:
    percent = int.from_bytes(hashing.bytes_of(text, 4)) % 100
    return next(name for name, (low, high) in SPLITS.items() if low <= percent < high)
