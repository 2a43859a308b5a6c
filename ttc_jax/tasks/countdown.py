r"""The embedded task Countdown: combine all given numbers, each once, to reach a target.

A question gives two to five numbers in rising order and the target. A solution has one line for
each operation but the last: the operation, its result, and the other numbers that are left. The
last operation stands in the box:

    04 07 13 25=88:   ->   25-13=12 04 07
                           07*12=84 04
                           \boxed{04+84}

A step is chosen before it shows whether it was a good one, so that there is something to search
for, and several derivations may be right. Candidates vote by their derivation in a normal form: a
right answer is a right derivation, and no wrong one can meet the right answer by luck.

The form of a solution keeps models honest. With the numbers that are left on each line, a step can
be written without reading more than the line before it. The last operation has no result: every
worked solution ends on the target, so a model would learn to write the target behind any operation.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import itertools
import random
import re
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from ttc_jax.tasks import drawn
from ttc_jax.tasks.task import Question, Verdict

PIECES = (*"0123456789", *"+-*=: \n", "\\boxed{", "}")  # vocabulary of the task
LARGEST = 25  # of the given numbers
RESULTS = range(1, 100)  # of each operation
# By the count of numbers: the weight with which a question is drawn. There are only some hundred
# different questions of two numbers, which set the share that a test set can hold.
LEVELS = {2: 1, 3: 6, 4: 5, 5: 4}

_ASKED = re.compile(r"((?:\d\d )+\d\d)=(\d\d):", re.ASCII)
_LINE = re.compile(r"(\d\d)([+*-])(\d\d)=(\d\d)((?: \d\d)+)", re.ASCII)
_BOX = re.compile(r"\\boxed\{(\d\d)([+*-])(\d\d)\}", re.ASCII)
_MOST_LINES = 20  # of a solution that is read: far more than a question needs


class Fault(enum.StrEnum):
    """What is wrong with a solution; the first that applies."""

    FORM = "broken form"  # it is no sequence of lines and a box
    NUMBERS = "wrong numbers"  # it does not use each given number once
    EQUATION = "false equation"
    TARGET = "misses the target"


@dataclasses.dataclass(frozen=True)
class Countdown:
    """Questions drawn from a seed.

    A question belongs to the split that a hash of its text names. Its text holds the numbers in
    rising order, so no problem of one split comes back in another with its numbers in another
    order, whatever the seed and the size.

    Args:
      size: questions of a split, all different.
      seed: of the draw.
    """

    size: int = 500
    seed: int = 0
    pieces: ClassVar[Sequence[str]] = PIECES

    def questions(self, split: str) -> list[Question]:
        """Returns the first `size` questions of a split; a larger size adds to a smaller one's."""
        return drawn.questions("countdown", split, self.size, self.seed, _draw)

    def judge(self, question: Question, solutions: Sequence[str]) -> list[Verdict]:
        """Returns whether each solution derives the target; its answer is the derivation."""
        return [_verdict(question, _derivation(solution)) for solution in solutions]

    def first_wrong_step(self, question: Question, steps: Sequence[str]) -> int:
        """Returns the place of a solution's first wrong step, from 0; -1 where it is right.

        A step is wrong when it does not go on with the numbers that are left, claims a false
        result, or leaves numbers from which the target cannot be reached any more.
        """
        if fault(question, "\n".join(steps)) is None:
            return -1
        asked = _ASKED.fullmatch(question.text)
        left = asked and tuple(sorted(map(int, asked[1].split())))
        for place, step in enumerate(steps[:-1]):
            left = left and _left_after(left, step)
            if not (asked and left and _reaches(left, int(asked[2]))):
                return place
        return len(steps) - 1


def fault(question: Question, solution: str) -> Fault | None:
    """Returns what is wrong with a solution, None where it is right."""
    return _fault(question, _derivation(solution))


class _Expression(NamedTuple):
    """A number and how it was made, in a form that no order and no needless bracket changes.

    Attributes:
      value: of it; where an equation is false, what the equation claims.
      numbers: the given ones that it is made of, rising.
      terms: which it is the sum of, each with its sign.
      factors: which it is the product of.
      true: whether all equations that made it are.
    """

    value: int
    numbers: tuple[int, ...]
    terms: tuple[str, ...]
    factors: tuple[str, ...]
    true: bool = True


def _number(value: int) -> _Expression:
    return _Expression(value, (value,), (f"+{value:02}",), (f"{value:02}",))


def _combined(left: _Expression, sign: str, right: _Expression) -> _Expression:
    value = _apply(left.value, sign, right.value)
    numbers = tuple(sorted(left.numbers + right.numbers))
    if sign == "*":
        factors = tuple(sorted(left.factors + right.factors))
        terms = (f"+{'*'.join(factors)}",)
    else:
        added = right.terms if sign == "+" else tuple(map(_negative, right.terms))
        terms = tuple(sorted(left.terms + added))
        factors = (f"({''.join(terms)})",)
    return _Expression(value, numbers, terms, factors, left.true and right.true)


def _claimed(made: _Expression, result: int) -> _Expression:
    """Returns what an equation makes: where it is false, an expression that shows its claim."""
    if made.value == result:
        return made
    text = f"[{''.join(made.terms)}={result:02}]"
    return _Expression(result, made.numbers, (f"+{text}",), (text,), true=False)


def _negative(term: str) -> str:
    return ("-" if term[0] == "+" else "+") + term[1:]


def _apply(left: int, sign: str, right: int) -> int:
    return {"+": left + right, "-": left - right, "*": left * right}[sign]


def _derivation(solution: str) -> _Expression | None:
    """Returns what a solution puts into its box; None where it is not in the task's form.

    A number stands for the result of that value which the line before it left, or else for a given
    number. So one that was used twice, or came from nowhere, shows among the given numbers.
    """
    *lines, last = solution.split("\n", _MOST_LINES)
    left: list[_Expression] = []
    for line in lines:
        if not (found := _LINE.fullmatch(line)):
            return None
        made = _claimed(_operation(left, found), int(found[4]))
        left = [made, *(_take(left, int(number)) for number in found[5].split())]
    box = _BOX.fullmatch(last)
    return _operation(left, box) if box else None


def _operation(left: list[_Expression], found: re.Match[str]) -> _Expression:
    first, second = (_take(left, int(found[group])) for group in (1, 3))
    return _combined(first, found[2], second)


def _take(left: list[_Expression], value: int) -> _Expression:
    """Removes a number from those that are left, or else takes it for a given one."""
    for place, made in enumerate(left):
        if made.value == value:
            return left.pop(place)
    return _number(value)


def _verdict(question: Question, derivation: _Expression | None) -> Verdict:
    answer = "".join(derivation.terms) if derivation else None
    return Verdict(answer, _fault(question, derivation) is None)


def _fault(question: Question, derivation: _Expression | None) -> Fault | None:
    if derivation is None:
        return Fault.FORM
    asked = _ASKED.fullmatch(question.text)
    if asked is None or derivation.numbers != tuple(sorted(map(int, asked[1].split()))):
        return Fault.NUMBERS
    if not derivation.true:
        return Fault.EQUATION
    return None if derivation.value == int(asked[2]) else Fault.TARGET


def _left_after(left: tuple[int, ...], line: str) -> tuple[int, ...] | None:
    """Returns the numbers that are left after a line, rising; None where the line is wrong."""
    if not (found := _LINE.fullmatch(line)):
        return None
    first, second, result = (int(found[group]) for group in (1, 3, 4))
    rest = Counter(left)
    rest.subtract((first, second))
    written = Counter(map(int, found[5].split()))
    if _apply(first, found[2], second) != result or min(rest.values()) < 0 or +rest != written:
        return None
    return tuple(sorted((result, *written.elements())))


@functools.lru_cache(maxsize=1 << 16)
def _reaches(left: tuple[int, ...], target: int) -> bool:
    """Returns whether numbers, rising, can be combined to the target."""
    pairs = itertools.permutations(range(len(left)), 2)
    made = {
        (tuple(n for place, n in enumerate(left) if place not in pair), result)
        for pair in pairs
        for sign in "+-*"
        if 0 <= (result := _apply(left[pair[0]], sign, left[pair[1]])) < 100
    }
    if len(left) == 2:
        return any(result == target for _, result in made)
    return any(_reaches(tuple(sorted((*rest, result))), target) for rest, result in made)


def _draw(rng: random.Random) -> Question:
    """Draws numbers and operations; the target is what they come to."""
    [count] = rng.choices(tuple(LEVELS), tuple(LEVELS.values()))
    numbers = sorted(rng.randint(1, LARGEST) for _ in range(count))
    left, solution = list(numbers), ""
    while len(left) > 1:
        steps = [
            (first, sign, second)
            for first, second in itertools.permutations(range(len(left)), 2)
            for sign in "+-*"
            if _apply(left[first], sign, left[second]) in RESULTS
        ]
        if not steps:  # such as 60 60
            return _draw(rng)
        first, sign, second = rng.choice(steps)
        result = _apply(left[first], sign, left[second])
        if sign != "-" and left[first] > left[second]:
            first, second = second, first
        operation = f"{left[first]:02}{sign}{left[second]:02}"
        left = [result, *(n for place, n in enumerate(left) if place not in (first, second))]
        rest = " ".join(f"{n:02}" for n in left)
        solution += f"{operation}={rest}\n" if len(left) > 1 else f"\\boxed{{{operation}}}"
    derivation = _derivation(solution)
    assert derivation is not None
    return Question(
        id="",
        text=f"{' '.join(f'{n:02}' for n in numbers)}={left[0]:02}:",
        answer="".join(derivation.terms),
        level=str(count),
        solution=solution,
    )
