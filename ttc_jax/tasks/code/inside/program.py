"""Runs a model's program and calls what it defines; one process a program, with no secret in it.

Standard input: the program as a JSON string on a line of its own, then a request a line:

    ["call", REFERENCE, ARGUMENTS, KEYWORDS], ["get", REFERENCE, NAME], ["set", REFERENCE, NAME,
    VALUE], ["list", REFERENCE], ["item", REFERENCE, KEY], ["length", REFERENCE]
    ["behave", NAME, ARGUMENTS]

A reference is the name of what the program defines, or the number of a value that was returned.
Standard output: one line for the program and for each request, ["value", VALUE] or
["error", CLASSES, MESSAGE], where CLASSES are the names of the exception's class and its bases.

The program shares this process and can write whatever it likes in place of these lines. So nothing
is decided here: a line is no more than what the program returned.
"""

import json
import os
import random
import sys
import types
from itertools import islice
from typing import Any

from values import LONGEST, canonical, decode, encode

_MOST = 1 << 20  # characters of a reply


class _Program:
    """A program that was run, and the values that it returned and that are no plain ones."""

    def __init__(self, source: str) -> None:
        self.module = types.ModuleType("solution")
        self.held: list[Any] = []
        sys.modules["solution"] = self.module  # where dataclasses look for it
        exec(compile(source, "solution.py", "exec"), self.module.__dict__)

    def find(self, reference: Any) -> Any:
        if isinstance(reference, int):
            return self.held[reference]
        try:
            return self.module.__dict__[reference]
        except KeyError:
            raise NameError(f"name {reference!r} is not defined") from None

    def refer(self, value: Any) -> int:
        self.held.append(value)
        return len(self.held) - 1

    def answer(self, request: list[Any]) -> Any:
        match request:
            case ["call", reference, list(given), dict(named)]:
                arguments = [decode(each, self.find) for each in given]
                keywords = {name: decode(each, self.find) for name, each in named.items()}
                return encode(self.find(reference)(*arguments, **keywords), self.refer)
            case ["behave", name, list(given)]:
                return canonical(self.find(name)(*[decode(each, self.find) for each in given]))
            case ["get", reference, name]:
                return encode(getattr(self.find(reference), name), self.refer)
            case ["set", reference, name, value]:
                return setattr(self.find(reference), name, decode(value, self.find))
            case ["list", reference]:
                return encode(list(islice(self.find(reference), LONGEST)), self.refer)
            case ["item", reference, key]:
                return encode(self.find(reference)[decode(key, self.find)], self.refer)
            case ["length", reference]:
                return encode(len(self.find(reference)), self.refer)
        raise ValueError("no such request")


def main() -> None:
    """Serves requests until standard input ends."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 0)  # standard error is the null device
    os.dup2(2, 1)
    sys.path.pop(0)  # this folder
    sys.path.extend(sys.argv[1:])
    random.seed(0)
    program = None
    for line in requests:
        try:
            request = json.loads(line)
            if program is None:
                program, found = _Program(request), None
            else:
                found = program.answer(request)
            reply = json.dumps(["value", found])
            if len(reply) > _MOST:
                raise ValueError("too long")
        except BaseException as error:  # SystemExit too
            classes = [each.__name__ for each in type(error).__mro__]
            reply = json.dumps(["error", classes, _message(error)])
        replies.write(reply.encode() + b"\n")
        replies.flush()
        if program is None:
            return


def _message(error: BaseException) -> str:
    try:
        return str(error)[:200]
    except Exception:
        return ""


if __name__ == "__main__":
    main()
