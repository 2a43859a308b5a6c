"""Typed access to the metadata of a GGUF file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

import numpy as np

from ttc_jax.errors import UserError

T = TypeVar("T")
MAX_SIZE = 2**31 - 1  # of sizes and ids, which are int32 in llama.cpp


class Metadata:
    """The metadata of a file. What is missing or of another type is refused by file and key.

    A default of `None` says that the key is required.

    Args:
      values: by key, as `gguf_header.read_header` gives them.
      where: the file, for errors.
      advice: what else a user can do, for errors.
    """

    def __init__(self, values: Mapping[str, Any], where: str, advice: str = ""):
        self.values, self.where, self.advice = values, where, advice
        self.asked: set[str] = set()  # keys that were looked at

    def refuse(self, key: str, problem: str) -> NoReturn:
        """Raises a UserError that names file and key."""
        advice = f"; {self.advice}" if self.advice else ""
        raise UserError(f"{self.where}: metadata {key} {problem}{advice}")

    def has(self, key: str) -> bool:
        """Whether the key is there."""
        self.asked.add(key)
        return key in self.values

    def whole(
        self, key: str, default: int | None = None, least: int = 0, most: int = MAX_SIZE
    ) -> int:
        """A whole number."""
        return self._whole(key, self._get(key, default), least, most)

    def whole_of_layers(
        self, key: str, depth: int, default: int | None = None, least: int = 1, most: int = MAX_SIZE
    ) -> int:
        """A whole number, or an array of it for each layer; layers must not differ in it."""
        value = self._get(key, default)
        if isinstance(value, list | np.ndarray):
            if len(value) != depth:
                self.refuse(key, f"has {len(value)} entries for {depth} layers")
            distinct = {*np.asarray(value).tolist()}
            if len(distinct) > 1:
                shown = ", ".join(map(repr, sorted(distinct)[:4]))
                self.refuse(key, f"differs between layers ({shown}), which is not supported")
            value = distinct.pop()
        return self._whole(key, value, least, most)

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(key, f"is {_shown(value)}, not a number")
        if not math.isfinite(value):
            self.refuse(key, f"is {value}, not a finite number")
        return float(value)

    def flag(self, key: str, default: bool | None = None) -> bool:
        """True or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            self.refuse(key, f"is {_shown(value)}, not true or false")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A string."""
        value = self._get(key, default)
        if not isinstance(value, str):
            self.refuse(key, f"is {_shown(value)}, not a string")
        return value

    def texts(self, key: str) -> list[str]:
        """An array of strings, at least one."""
        value = self._get(key, None)
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            self.refuse(key, f"is {_shown(value)}, not an array of strings")
        if not value:
            self.refuse(key, "is empty")
        return value

    def numbers(self, key: str, length: int) -> np.ndarray:
        """An array of `length` numbers, none of them NaN."""
        value = self._get(key, None)
        array = np.asarray(value) if isinstance(value, list | np.ndarray) else np.zeros(())
        if array.ndim != 1 or array.dtype.kind not in "iuf":
            self.refuse(key, f"is {_shown(value)}, not an array of numbers")
        if len(array) != length:
            self.refuse(key, f"has {len(array)} entries for {length} tokens")
        if array.dtype.kind == "f" and np.isnan(array).any():
            self.refuse(key, f"is not a number in entry {int(np.isnan(array).argmax())}")
        return array

    def _get(self, key: str, default: T) -> T | Any:
        self.asked.add(key)
        value = self.values.get(key, default)
        if value is None:
            self.refuse(key, "is missing")
        return value

    def _whole(self, key: str, value: Any, least: int, most: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            self.refuse(key, f"is {_shown(value)}, not a whole number")
        if not least <= value <= most:
            self.refuse(key, f"is {value}; it must be from {least} to {most}")
        return value


def _shown(value: Any) -> str:
    if isinstance(value, list | np.ndarray):
        return f"an array of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
