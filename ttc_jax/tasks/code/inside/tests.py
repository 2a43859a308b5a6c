"""Runs the tests of a program that runs in another process; the tests are not seen there.

Standard input: one JSON list [TESTS, PROGRAM, ENTRY]. File 3 leads to the program's process, and
file 4 back (see `program.py`). Standard output: `["passed"]` when the tests have run to their end
without an exception, else `["failed", REASON]`.

ENTRY, and each name that the tests use and do not define, is what the program defines. A call of it
sends the arguments over, and gives what came back: a value of Python's own types, never an object
of the program's.
"""

import builtins
import json
import os
import random
import symtable
import sys
from collections.abc import Iterator
from typing import Any

from values import decode, encode

_MOST = 1 << 21  # bytes of a reply


class _Channel:
    """The program's process."""

    def __init__(self, program: str) -> None:
        self._requests, self._replies = os.fdopen(3, "wb"), os.fdopen(4, "rb")
        self.ask(program)

    def ask(self, request: Any) -> Any:
        """Returns a value, or raises the exception that the request led to."""
        line = json.dumps(request).encode()
        self._requests.write(line + b"\n")
        self._requests.flush()
        reply = self._replies.readline(_MOST)
        if not reply.endswith(b"\n"):
            raise EOFError("the program ended, or wrote too much")
        match json.loads(reply):
            case ["value", value]:
                return decode(value, lambda reference: Remote(self, reference))
            case ["error", list(classes), str(message)]:
                raise _exception(classes)(message)
        raise ValueError("not a reply")


class Remote:
    """Something of the program's: equal to nothing but itself."""

    def __init__(self, channel: _Channel, reference: str | int) -> None:
        object.__setattr__(self, "_channel", channel)
        object.__setattr__(self, "_reference", reference)

    def _ask(self, what: str, *arguments: Any) -> Any:
        return self._channel.ask([what, self._reference, *arguments])

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Calls it in its own process."""
        named = {name: encode(value, _refer) for name, value in keywords.items()}
        return self._ask("call", [encode(each, _refer) for each in arguments], named)

    def __getattr__(self, name: str) -> Any:
        return self._ask("get", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask("set", name, encode(value, _refer))

    def __iter__(self) -> Iterator[Any]:
        return iter(self._ask("list"))

    def __getitem__(self, key: Any) -> Any:
        return self._ask("item", encode(key, _refer))

    def __len__(self) -> int:
        return self._ask("length")

    def __bool__(self) -> bool:
        raise TypeError("an object of the program's own is neither true nor false")


def _refer(value: Any) -> str | int:
    if isinstance(value, Remote):
        return object.__getattribute__(value, "_reference")
    raise TypeError(f"a value of type {type(value).__name__} cannot be given to the program")


def _exception(classes: list[Any]) -> type[Exception]:
    """Returns Python's own class that is nearest to an exception of the program's."""
    for name in classes:
        found = getattr(builtins, name, None) if isinstance(name, str) else None
        if isinstance(found, type) and issubclass(found, Exception):
            return found if not issubclass(found, UnicodeError) else ValueError
    return RuntimeError


def _undefined(source: str) -> set[str]:
    """Returns the names that a text uses as global ones and does not define."""
    table = symtable.symtable(source, "tests.py", "exec")
    defined = {each.get_name() for each in table.get_symbols() if each.is_assigned()}
    defined |= {each.get_name() for each in table.get_symbols() if each.is_imported()}
    used, tables = set(), [table]
    while tables:
        here = tables.pop()
        tables += here.get_children()
        at_top = here is table
        for each in here.get_symbols():
            if each.is_referenced() and (at_top or each.is_global()):
                used.add(each.get_name())
    return {name for name in used - defined if not hasattr(builtins, name)}


def main() -> None:
    """Runs the tests once."""
    verdict = os.fdopen(os.dup(1), "w")
    tests, program, entry = json.load(sys.stdin)
    os.dup2(2, 0)  # standard error is the null device
    os.dup2(2, 1)
    sys.path.pop(0)  # this folder
    sys.path.extend(sys.argv[1:])
    random.seed(0)
    try:
        channel = _Channel(program)
        names = {name: Remote(channel, name) for name in {entry, *_undefined(tests)}}
        exec(compile(tests, "tests.py", "exec"), {"__name__": "tests", **names})
        found = ["passed"]
    except BaseException as error:
        found = ["failed", f"{type(error).__name__}: {error}"[:200]]
    verdict.write(json.dumps(found) + "\n")
    verdict.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
