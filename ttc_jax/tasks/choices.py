"""Questions with choices: shuffled by a key, lettered, and graded by the letter."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase

from ttc_jax import hashing


def lettered(question: str, right: str, wrong: Sequence[str], seed: int = 0) -> tuple[str, str]:
    """Returns a question with its choices below it, and the letter of the right one.

    Their order is that of hashes of the seed, the question and each choice: the same in every run,
    and wherever the right one stood.
    """
    named = [(choice, choice is right) for choice in (right, *wrong)]
    named.sort(key=lambda pair: hashing.bytes_of(f"{seed}\n{question}\n{pair[0]}"))
    lines = [f"{x}) {choice}" for x, (choice, _) in zip(ascii_uppercase, named, strict=False)]
    letter = ascii_uppercase[[is_right for _, is_right in named].index(True)]
    return "\n\n".join([question, "\n".join(lines)]), letter
