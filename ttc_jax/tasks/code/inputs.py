"""Arguments on which programs are compared: those of a question's examples, and variations of them.

What a program should return for them is never looked at, so that votes know no more than the
question's reader.
"""

import ast
import contextlib
import itertools
import random
import re
import warnings
from collections.abc import Sequence
from typing import Any

from ttc_jax import hashing

COUNT = 24
"""Arguments a question."""

_CALLS = 100  # that are looked at
_LONGEST = 2000  # characters of the arguments of an example
_UNREADABLE = (SyntaxError, ValueError, TypeError, MemoryError, RecursionError)
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_PARAMETERS = r"def {}\(([^)]*)\)"
# For questions without an example that can be read.
_KINDS: tuple[Any, ...] = (
    3,
    [3, 1, 2, 5],
    "abc de",
    10,
    [1, 2, 2, 7, 4],
    "ab",
    2.5,
    ["a", "bcd"],
    [[0, 1], [1, 1]],
)
_GUESSES = 3  # times as many, since few will be of the types that are meant


def arguments(question: str, name: str, count: int = COUNT) -> list[tuple[Any, ...]]:
    """Returns arguments of a function, the same ones for the same question.

    Args:
        name: of the function that the question asks for.
        count: how many at most, the examples first; of a question without examples that can be
            read three times as many.
    """
    found = {repr(each): each for each in examples(question, name)[:count]}
    rng = random.Random(hashing.name_of(question, 8))
    seeds = list(found.values())
    if not seeds:
        seeds, count = _guessed(question, name, rng), _GUESSES * count
    for _ in range(20 * count * bool(seeds)):
        if len(found) >= count:
            break
        seed = rng.choice(seeds)
        varied = tuple(_vary(each, rng) if rng.random() < 0.7 else each for each in seed)
        found.setdefault(repr(varied), varied)
    return list(found.values())


def examples(question: str, name: str) -> list[tuple[Any, ...]]:
    """Returns the arguments of each call of a function in a text whose arguments are literals."""
    found = {}
    calls = re.finditer(rf"(?<![\w.])(?<!def ){re.escape(name)}\(", question) if name else ()
    for call in itertools.islice(calls, _CALLS):
        text = _arguments(question, call.end())
        with warnings.catch_warnings(), contextlib.suppress(*_UNREADABLE):
            warnings.simplefilter("ignore")  # of backslashes in texts
            given = ast.literal_eval(f"({text},)")
            found.setdefault(repr(given), given)
    return list(found.values())


def _arguments(text: str, start: int) -> str:
    """Returns what stands before the bracket that closes one before `start`."""
    waiting, quote, place = [")"], "", start
    while place < min(len(text), start + _LONGEST):
        letter = text[place]
        if quote:
            if letter == "\\":
                place += 1
            elif letter == quote:
                quote = ""
        elif letter in "'\"":
            quote = letter
        elif letter in _CLOSING:
            waiting.append(_CLOSING[letter])
        elif letter == waiting[-1]:
            waiting.pop()
            if not waiting:
                return text[start:place]
        place += 1
    return ")"  # which is no literal


def _guessed(question: str, name: str, rng: random.Random) -> list[tuple[Any, ...]]:
    """Returns values of several types for the parameters of a function."""
    header = re.findall(_PARAMETERS.format(re.escape(name)), question) if name else []
    count = sum(bool(each.strip()) for each in (header[-1] if header else "").split(","))
    return [tuple(rng.choices(_KINDS, k=count)) for _ in range(10 * len(_KINDS) * bool(count))]


def _vary(value: Any, rng: random.Random) -> Any:
    """Returns another value of the same type."""
    match value:
        case bool():
            return not value
        case int():
            return rng.choice((value + 1, abs(value - 1), value + rng.randint(2, 9), 2 * value))
        case float():
            return rng.choice((value + 1.0, value * 2, round(value / 2, 2)))
        case str() if value:
            return "".join(_rearranged(value, rng))
        case list() | tuple() if value:
            several = _rearranged(value, rng)
            place = rng.randrange(len(several)) if several else 0
            several[place : place + 1] = [_vary(x, rng) for x in several[place : place + 1]]
            return type(value)(several)
        case set() | frozenset() if value:
            return type(value)(_vary(sorted(value, key=repr), rng))
        case dict() if value:
            changed = rng.choice(list(value))
            return {**value, changed: _vary(value[changed], rng)}
    return value


def _rearranged(several: Sequence[Any], rng: random.Random) -> list[Any]:
    """Returns elements with one taken out, doubled or moved, or all in another order."""
    found = list(several)
    place = rng.randrange(len(found))
    match rng.randrange(4):
        case 0 if len(found) > 1:
            del found[place]
        case 1:
            found.insert(place, rng.choice(found))
        case 2:
            found[place], found[-1] = found[-1], found[place]
        case _:
            rng.shuffle(found)
    return found
