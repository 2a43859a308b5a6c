"""The header of a GGUF file: its metadata, and where its tensors lie, read within bounds.

The `gguf` package has a reader too, but it trusts every count in the file: a hundred bytes make it
loop for years, or take all memory. It also takes half a minute for a vocabulary of 262,144 tokens.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import struct
from pathlib import Path
from typing import Any, NoReturn

import gguf
import numpy as np

from ttc_jax.errors import UserError

MAGIC, VERSIONS = b"GGUF", (2, 3)
# Bounds on the whole header, each some ten times what the largest public models have.
MAX_PAIRS, MAX_TENSORS = 1 << 16, 1 << 16
MAX_STRINGS, MAX_NUMBERS = 1 << 22, 1 << 25  # in arrays
MAX_TEXT = 1 << 28  # bytes of all strings
MAX_NAME = 1 << 16  # bytes of a key or of a tensor's name
MAX_AXES = 4
ALIGNMENT = "general.alignment"

_KIND, _COUNT = struct.Struct("<I"), struct.Struct("<Q")
_DTYPES = {
    gguf.GGUFValueType.UINT8: "<u1",
    gguf.GGUFValueType.INT8: "<i1",
    gguf.GGUFValueType.UINT16: "<u2",
    gguf.GGUFValueType.INT16: "<i2",
    gguf.GGUFValueType.UINT32: "<u4",
    gguf.GGUFValueType.INT32: "<i4",
    gguf.GGUFValueType.FLOAT32: "<f4",
    gguf.GGUFValueType.UINT64: "<u8",
    gguf.GGUFValueType.INT64: "<i8",
    gguf.GGUFValueType.FLOAT64: "<f8",
    gguf.GGUFValueType.BOOL: "?",
}
_STORED = {gguf.GGMLQuantizationType.F32: "<f4", gguf.GGMLQuantizationType.F16: "<f2"}


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor as it is stored, mapped into memory.

    `data` has the tensor's shape if it is float32 or float16, and else the bytes of its blocks.
    """

    shape: tuple[int, ...]
    kind: gguf.GGMLQuantizationType
    data: np.ndarray


def read_header(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Metadata by key (arrays of numbers as numpy arrays, of strings as lists), tensors by name.

    Raises:
      UserError: not a whole GGUF file, or one whose header asks for more than any model has.
    """
    try:
        stat = path.stat()
        return _parse(path, stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


@functools.lru_cache(maxsize=2)  # both weights and tokenizer need it
def _parse(path: Path, modified: int, size: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    del modified  # it tells one state of the file from the next
    if size == 0:  # which cannot be mapped into memory
        raise UserError(f"{path}: not a whole GGUF file (it is empty)")
    return _Parser(str(path), np.memmap(path, np.uint8, mode="r")).parse()


class _Parser:
    """Reads a header from its beginning; `at` is the place of the next byte."""

    def __init__(self, where: str, data: np.ndarray):
        self.where, self.data, self.view = where, data, data.data
        self.size, self.at = len(self.view), 0
        self.strings = self.numbers = self.text = 0  # how many there were so far

    def parse(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """See `read_header`."""
        if bytes(self.take(4, "its first word")) != MAGIC:
            self.refuse("it does not begin with GGUF")
        version = self.number(_KIND, "its version")
        if version and version & 0xFFFF == 0:
            raise UserError(
                f"{self.where}: a big-endian GGUF file, which is not supported; convert it with "
                "gguf_convert_endian.py of llama.cpp"
            )
        if version not in VERSIONS:
            raise UserError(
                f"{self.where}: a GGUF file of version {version}; supported are versions 2 and 3"
            )
        tensors, pairs = (self.number(_COUNT, f"its number of {s}") for s in ("tensors", "keys"))
        self.bound(tensors, MAX_TENSORS, "its header", "tensors")
        self.bound(pairs, MAX_PAIRS, "its header", "keys")
        metadata: dict[str, Any] = {}
        for _ in range(pairs):
            key = self.name("a key")
            if key in metadata:
                self.refuse(f"{key!r} is stored twice")
            metadata[key] = self.value(self.value_type(repr(key)), repr(key))
        return metadata, self.tensors(tensors, metadata.get(ALIGNMENT, 32))

    def tensors(self, count: int, alignment: Any) -> dict[str, Tensor]:
        """The tensors that the rest of the header describes."""
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            self.refuse(f"{ALIGNMENT} {alignment!r} is no power of two")
        described: dict[str, tuple[tuple[int, ...], int, int]] = {}
        for _ in range(count):
            name = self.name("the name of a tensor")
            if name in described:
                self.refuse(f"tensor {name!r} is stored twice")
            axes = self.number(_KIND, f"tensor {name!r}")
            if not 1 <= axes <= MAX_AXES:
                self.refuse(f"tensor {name!r} has {axes} axes; from 1 to {MAX_AXES} are possible")
            inner_first = [self.number(_COUNT, f"tensor {name!r}") for _ in range(axes)]
            kind = self.number(_KIND, f"tensor {name!r}")
            offset = self.number(_COUNT, f"tensor {name!r}")
            if offset % alignment:
                self.refuse(f"tensor {name!r} is at {offset}, no multiple of {alignment}")
            described[name] = tuple(reversed(inner_first)), kind, offset
        start = -(-self.at // alignment) * alignment
        return {
            name: self.tensor(name, shape, kind, start + offset)
            for name, (shape, kind, offset) in described.items()
        }

    def tensor(self, name: str, shape: tuple[int, ...], number: int, start: int) -> Tensor:
        """One tensor, whose data begin at `start`."""
        try:
            kind = gguf.GGMLQuantizationType(number)
            stored = gguf.quant_shape_to_byte_shape(shape, kind)
        except ValueError as error:
            raise UserError(f"{self.where}: tensor {name!r} cannot be read ({error})") from error
        count = math.prod(stored)
        if start + count > self.size:
            self.refuse(f"tensor {name!r} ends beyond its {self.size} bytes")
        data = self.data[start : start + count]
        if kind in _STORED:
            return Tensor(shape, kind, data.view(_STORED[kind]).reshape(shape))
        return Tensor(shape, kind, data.reshape(stored))

    def value(self, kind: gguf.GGUFValueType, what: str) -> Any:
        """One value of the metadata."""
        if kind == gguf.GGUFValueType.STRING:
            return self.string(self.number(_COUNT, what), what)
        if kind != gguf.GGUFValueType.ARRAY:
            dtype = np.dtype(_DTYPES[kind])
            return np.frombuffer(self.take(dtype.itemsize, what), dtype)[0].item()
        inner = self.value_type(what)
        count = self.number(_COUNT, what)
        if inner == gguf.GGUFValueType.ARRAY:
            self.refuse(f"{what} is an array of arrays, which GGUF does not have")
        if inner == gguf.GGUFValueType.STRING:
            self.strings += count
            self.bound(self.strings, MAX_STRINGS, what, "strings")
            return [
                self.string(self.number(_COUNT, what, i), what, i)
                for i in range(self.fitting(count, _COUNT.size, what))
            ]
        self.numbers += count
        self.bound(self.numbers, MAX_NUMBERS, what, "numbers")
        dtype = np.dtype(_DTYPES[inner])
        size = self.fitting(count, dtype.itemsize, what) * dtype.itemsize
        return np.frombuffer(self.take(size, what), dtype)

    def fitting(self, count: int, size: int, what: str) -> int:
        """How many entries there are, if as many of `size` bytes can still follow."""
        if count * size > self.size - self.at:
            self.refuse(f"{what} has {count} entries, which end beyond its {self.size} bytes")
        return count

    def name(self, what: str) -> str:
        """A key, or the name of a tensor."""
        length = self.number(_COUNT, what)
        self.bound(length, MAX_NAME, what, "bytes")
        return self.string(length, what)

    def string(self, length: int, what: str, entry: int | None = None) -> str:
        """The string of `length` bytes that follows."""
        self.text += length
        if length > self.size - self.at:
            self.refuse(f"{_entry(what, entry)} ends beyond its {self.size} bytes")
        self.bound(self.text, MAX_TEXT, _entry(what, entry), "bytes of text")
        start, self.at = self.at, self.at + length
        try:
            return str(self.view[start : self.at], "utf-8")
        except UnicodeDecodeError:
            self.refuse(f"{_entry(what, entry)} is not UTF-8")

    def number(self, form: struct.Struct, what: str, entry: int | None = None) -> int:
        """The whole number that follows."""
        start, self.at = self.at, self.at + form.size
        if self.at > self.size:
            self.refuse(f"{_entry(what, entry)} ends beyond its {self.size} bytes")
        return form.unpack_from(self.view, start)[0]

    def value_type(self, what: str) -> gguf.GGUFValueType:
        """The type of value that follows."""
        number = self.number(_KIND, what)
        try:
            return gguf.GGUFValueType(number)
        except ValueError:
            self.refuse(f"{what} is of type {number}, which GGUF does not have")

    def take(self, count: int, what: str) -> memoryview:
        """The next bytes."""
        start, self.at = self.at, self.at + count
        if self.at > self.size:
            self.refuse(f"{what} ends beyond its {self.size} bytes")
        return self.view[start : self.at]

    def bound(self, count: int, most: int, what: str, unit: str) -> None:
        """Refuses counts that no model has."""
        if count > most:
            self.refuse(f"{what} asks for {count} {unit}; at most {most} are read")

    def refuse(self, problem: str) -> NoReturn:
        """Raises a UserError."""
        raise UserError(f"{self.where}: not a whole GGUF file ({problem})")


def _entry(what: str, entry: int | None) -> str:
    return what if entry is None else f"entry {entry} of {what}"
