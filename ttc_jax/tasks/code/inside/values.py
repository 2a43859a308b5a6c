"""Values that cross from one process to another as JSON: numbers, texts and collections of them.

What is decoded is of Python's own types, so that no program can send a value whose `==` is its own.
Everything else stays in its process, and a reference to it is sent.
"""

import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from itertools import islice
from typing import Any

LONGEST = 10_000  # elements of an iterator that are read
_PLAIN = 1 << 53  # whole numbers below it are themselves in JSON
_MANY: dict[type, str] = {list: "list", tuple: "tuple", set: "set", frozenset: "frozenset"}
_MADE: dict[str, Callable[[Any], Any]] = {name: kind for kind, name in _MANY.items()}

_AS_OWN: dict[type, Callable[[Any], Any]] = {
    int: int.__int__,
    float: float.__float__,
    str: str.__str__,  # of an enumeration's member its value, not its name
    bytes: bytes,
    **{kind: kind for kind in (list, tuple, set, frozenset, dict)},
}


def encode(value: Any, refer: Callable[[Any], Any]) -> Any:
    """Returns a value as what `json` writes.

    Args:
        refer: gives the reference to a value of no type that is known here.
    """
    value = _own(value)
    kind = type(value)
    if value is None or kind in (bool, str, float):
        return value
    if kind is int:
        return value if -_PLAIN < value < _PLAIN else ["int", hex(value)]
    if kind in _MANY:
        return [_MANY[kind], [encode(each, refer) for each in value]]
    if kind is dict:
        return ["dict", [[encode(k, refer), encode(v, refer)] for k, v in value.items()]]
    if kind is bytes:
        return ["bytes", value.hex()]
    if kind is complex:
        return ["complex", value.real, value.imag]
    if kind is range:
        return ["range", value.start, value.stop, value.step]
    if kind is Fraction:
        return ["fraction", hex(value.numerator), hex(value.denominator)]
    if kind is Decimal:
        return ["decimal", str(value)]
    return ["reference", refer(value)]


def decode(sent: Any, find: Callable[[Any], Any]) -> Any:
    """Returns the value that was encoded.

    Args:
        find: gives what a reference stands for.

    Raises:
        ValueError: it is no value, or one that cannot be, such as a list in a set.
    """
    try:
        return _decode(sent, find)
    except (TypeError, ArithmeticError) as error:
        raise ValueError("not a value") from error


def _decode(sent: Any, find: Callable[[Any], Any]) -> Any:
    match sent:
        case None | bool() | int() | float() | str():
            return sent
        case ["list" | "tuple" | "set" | "frozenset" as kind, list(several)]:
            return _MADE[kind](_decode(each, find) for each in several)
        case ["dict", list(several)]:
            return {_decode(k, find): _decode(v, find) for k, v in several}
        case ["int", str(text)]:
            return int(text, 16)
        case ["bytes", str(text)]:
            return bytes.fromhex(text)
        case ["complex", int() | float() as real, int() | float() as imaginary]:
            return complex(real, imaginary)
        case ["range", int(start), int(stop), int(step)]:
            return range(start, stop, step)
        case ["fraction", str(above), str(below)]:
            return Fraction(int(above, 16), int(below, 16))
        case ["decimal", str(text)]:
            return Decimal(text)
        case ["reference", reference]:
            return find(reference)
    raise ValueError("not a value")


def canonical(value: Any) -> str:
    """Returns a text that is the same for values that count as the same behaviour.

    Those are equal values, numbers that agree in six digits, and iterators of such.
    """
    value = _own(value)
    kind = type(value)
    if kind in (bool, int):
        return hex(value)
    if kind is float:
        whole = math.isfinite(value) and value == int(value) and abs(value) < _PLAIN
        return hex(int(value)) if whole else f"{value:.6g}"
    if kind in (list, tuple):
        return f"{kind.__name__}[{','.join(map(canonical, value))}]"
    if kind in (set, frozenset):
        return f"set[{','.join(sorted(map(canonical, value)))}]"
    if kind is dict:
        pairs = sorted(f"{canonical(k)}:{canonical(v)}" for k, v in value.items())
        return f"dict[{','.join(pairs)}]"
    if value is None or kind in (str, bytes, complex, range, Fraction, Decimal):
        return repr(value)
    if isinstance(value, Iterator):
        return f"iterator[{','.join(map(canonical, islice(value, LONGEST)))}]"
    return f"<{kind.__name__}>"


def _own(value: Any) -> Any:
    """Returns a value of a subclass, or a number of NumPy's, as one of Python's own type."""
    kind = type(value)
    if kind.__module__ == "numpy" and not getattr(value, "shape", True):
        return value.item()
    if kind is bool or kind in _AS_OWN:
        return value
    for own, convert in _AS_OWN.items():
        if isinstance(value, own):
            return convert(value)
    return value
