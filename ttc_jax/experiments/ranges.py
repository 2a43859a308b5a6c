"""Kinds of values that a config's field may take."""

from __future__ import annotations

import dataclasses
import math
import shlex
from typing import Any

_MANY = 2**31 - 1  # what XLA counts with


@dataclasses.dataclass(frozen=True)
class Whole:
    """A whole number from `least` to `most`."""

    least: int = 0
    most: int = _MANY

    def fault(self, value: Any) -> str:
        """Returns what is wrong with a value; "" where nothing is."""
        if isinstance(value, bool) or not isinstance(value, int):
            return "must be a whole number"
        if value < self.least:
            return f"must be at least {self.least}"
        return f"must be at most {self.most}" if value > self.most else ""


@dataclasses.dataclass(frozen=True)
class Real:
    """A finite number from `least` to `most`."""

    least: float = 0.0
    most: float = math.inf
    above: bool = False  # least itself is out
    below: bool = False  # most itself is out

    def fault(self, value: Any) -> str:
        """Returns what is wrong with a value; "" where nothing is."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "must be a number"
        if not math.isfinite(value):
            return "must be a finite number"
        if value < self.least or (self.above and value == self.least):
            return f"must be {'above' if self.above else 'at least'} {self.least:g}"
        if value > self.most or (self.below and value == self.most):
            return f"must be {'below' if self.below else 'at most'} {self.most:g}"
        return ""


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of some words."""

    words: tuple[str, ...]

    def fault(self, value: Any) -> str:
        """Returns what is wrong with a value; "" where nothing is."""
        if value in self.words:
            return ""
        return f"must be one of {', '.join(shlex.quote(word) for word in self.words)}"


@dataclasses.dataclass(frozen=True)
class Each:
    """Several values of one kind, `least` of them at least, none twice."""

    element: Whole | Real | Choice
    least: int = 1
    falls: bool = False  # each below the one before it

    def fault(self, value: Any) -> str:
        """Returns what is wrong with a value; "" where nothing is."""
        if not isinstance(value, tuple | list):
            return "must be several values"
        if len(value) < self.least:
            return f"must be at least {self.least} value{'s' if self.least > 1 else ''}"
        if fault := next(filter(None, map(self.element.fault, value)), ""):
            return f"each {fault}"
        if self.falls and list(value) != sorted(value, reverse=True):
            return "bounds must fall, as in 0.5,0.1"
        if len(set(value)) < len(value):
            return "must not name a value twice"
        return ""


Values = Whole | Real | Choice | Each
