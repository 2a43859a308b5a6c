r"""The embedded task: chains of two-digit arithmetic modulo 100, written out step by step.

A question gives the first variable's value and, for every further letter, an operation on the
variable before it, all in a shuffled order. The answer is the last variable's value; a worked
solution has one line a step:

    c-01 b+02 a=81:   ->   b81+02=83
                           c83-01=82
                           \boxed{82}

Four levels set the size of the operands and the share of products. Some factors are frequent, most
are rare: a model knows the products that it saw often, half knows others, and a larger one knows
more of them from the same text.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import ClassVar

from ttc_jax.tasks import drawn
from ttc_jax.tasks.extraction import last_box
from ttc_jax.tasks.task import Question, Verdict

MODULUS = 100
VARIABLES = "abcdefghijklm"
PIECES = (*"0123456789", *VARIABLES, *"+-*=: \n", "\\boxed{", "}")  # vocabulary of the task
STEPS = (2, 12)  # operations in a chain, least and most
# By level: the largest term of a sum, and the share of products among the operations.
LEVELS = {"1": (9, 0.0), "2": (99, 0.0), "3": (99, 0.25), "4": (99, 0.5)}
# Coprime to 10: any other factor collapses a chain to 00 or 50 sooner or later. The first is the
# most frequent, the r-th has a share of 1/r (Zipf's law): what is rare is learnt late.
FACTORS = (3, 7, 9, 11, 13, 17, 19, 21, 23, 27, 29, 31)


@dataclasses.dataclass(frozen=True)
class Arithmetic:
    """Questions drawn from a seed.

    A question belongs to the split that a hash of its text names, so that no seed or size can make
    train, validation and test meet.

    Args:
      size: questions of a split, all different.
      seed: of the draw.
    """

    size: int = 500
    seed: int = 0
    pieces: ClassVar[Sequence[str]] = PIECES

    def questions(self, split: str) -> list[Question]:
        """The first `size` questions of a split; a larger size keeps them and adds more."""
        return drawn.questions("arithmetic", split, self.size, self.seed, _draw)

    def judge(self, question: Question, solutions: Sequence[str]) -> list[Verdict]:
        """Two digits in the last box, or no answer at all."""
        return [_verdict(question.answer, last_box(solution)) for solution in solutions]


def _verdict(gold: str, answer: str | None) -> Verdict:
    if answer is None or len(answer) != 2 or not (answer.isascii() and answer.isdigit()):
        return Verdict(None, False)
    return Verdict(answer, answer == gold)


def _draw(rng: random.Random) -> Question:
    level = rng.choice(tuple(LEVELS))
    steps = rng.randint(*STEPS)
    value = rng.randrange(MODULUS)
    entries, solution = [f"{VARIABLES[0]}={value:02}"], ""
    for name in VARIABLES[1 : steps + 1]:
        operation, operand = _draw_operation(rng, *LEVELS[level])
        before, value = value, _apply(value, operation, operand)
        entries.append(f"{name}{operation}{operand:02}")
        solution += f"{name}{before:02}{operation}{operand:02}={value:02}\n"
    rng.shuffle(entries)
    return Question(
        id="",
        text=" ".join(entries) + ":",
        answer=f"{value:02}",
        level=level,
        solution=f"{solution}\\boxed{{{value:02}}}",
    )


def _draw_operation(rng: random.Random, largest_term: int, product_share: float) -> tuple[str, int]:
    if rng.random() < product_share:
        [factor] = rng.choices(FACTORS, [1 / rank for rank in range(1, len(FACTORS) + 1)])
        return "*", factor
    return rng.choice("+-"), rng.randint(1, largest_term)


def _apply(value: int, operation: str, operand: int) -> int:
    if operation == "*":
        return value * operand % MODULUS
    return (value + operand if operation == "+" else value - operand) % MODULUS
