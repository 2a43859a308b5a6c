"""GGUF files byte by byte, whole and broken: what no writer would write."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gguf import GGUFValueType

_FORMS = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT64: "d",
}


def text(value: str | bytes, length: int | None = None) -> bytes:
    """A string, of which the file says that it has `length` bytes."""
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw


def value(kind: GGUFValueType, what: Any) -> bytes:
    """A value and its type."""
    if kind == GGUFValueType.STRING:
        return struct.pack("<I", kind) + text(what)
    return struct.pack("<I" + _FORMS[kind], kind, what)


def array(kind: int, entries: bytes, count: int) -> bytes:
    """An array of `count` entries, and its type."""
    return struct.pack("<IIQ", GGUFValueType.ARRAY, kind, count) + entries


def plain(what: Any) -> bytes:
    """A value of the type that llama.cpp would give it."""
    if isinstance(what, bytes):  # written already
        return what
    if isinstance(what, bool):
        return value(GGUFValueType.BOOL, what)
    if isinstance(what, int):
        kind = GGUFValueType.UINT32 if 0 <= what < 2**32 else GGUFValueType.INT64
        return value(kind, what)
    if isinstance(what, float):
        return value(GGUFValueType.FLOAT32, what)
    if isinstance(what, str):
        return value(GGUFValueType.STRING, what)
    if all(isinstance(entry, str) for entry in what):
        return array(GGUFValueType.STRING, b"".join(map(text, what)), len(what))
    if all(isinstance(entry, bool) for entry in what):
        return array(GGUFValueType.BOOL, bytes(what), len(what))
    kind, dtype = (
        (GGUFValueType.FLOAT32, "<f4")
        if any(isinstance(entry, float) for entry in what)
        else (GGUFValueType.INT32, "<i4")
    )
    return array(kind, np.asarray(what, dtype).tobytes(), len(what))


def tensor(name: str, shape: Sequence[int], kind: int = 0, offset: int = 0) -> bytes:
    """What a header says of a tensor, whose shape begins with the outermost axis."""
    axes = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
    return text(name) + axes + struct.pack("<IQ", kind, offset)


def file(
    pairs: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray] | Sequence[bytes] = (),
    version: int = 3,
    counts: tuple[int | None, int | None] = (None, None),
) -> bytes:
    """A whole file.

    Args:
      tensors: float32 arrays, or what the header says of tensors that are not there.
      counts: of tensors and keys, where the file says others than it has.
    """
    described, data, offset = [], [], 0
    if isinstance(tensors, Mapping):
        for name, values in tensors.items():
            raw = values.astype("<f4").tobytes()
            described.append(tensor(name, values.shape, 0, offset))
            data.append(raw + bytes(-len(raw) % 32))
            offset += len(data[-1])
    else:
        described = [*tensors]
    numbers = [
        own if given is None else given
        for given, own in zip(counts, (len(described), len(pairs)), strict=True)
    ]
    header = b"GGUF" + struct.pack("<IQQ", version, *numbers)
    header += b"".join(text(key) + plain(what) for key, what in pairs.items())
    header += b"".join(described)
    return header + bytes(-len(header) % 32) + b"".join(data)
