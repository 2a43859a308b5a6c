"""The program in an answer, and the function that a question asks for.

Both are untrusted text: everything here takes time linear in it, and nothing is parsed.
"""

import builtins
import re

from ttc_jax.tasks.extraction import answer_part

LONGEST = 50_000
"""Longest program, in characters (the longest of HumanEval's and MBPP's own have 1,500)."""

# A block of code; one that is cut off reaches to the end.
_FENCE = re.compile(r"^[ \t]*```[ \t]*(\w*)[^\n]*\n(.*?)(?:^[ \t]*```[ \t]*$|\Z)", re.DOTALL | re.M)
_CLOSED = re.compile(r"^[ \t]*(?:```|\[DONE\])", re.M)
_OPENING = re.compile(r"^(?:(?:def|async def|class|import|from) |@|[A-Za-z_]\w* *=[^=])", re.M)
_DEFINED = re.compile(r"^(?:async )?def ([A-Za-z_]\w*) *\(", re.M)
_TESTED = re.compile(r"^[ \t]*assert\b(.*)$", re.M)
_CALLED = re.compile(r"(?<![\w.])([A-Za-z_]\w*)\(")
_AT_MARGIN = re.compile(r"^[^\s#]", re.M)
_LANGUAGES = ("", "py", "python", "python3")


def asked(question: str) -> str:
    """Returns the name of the function that a question asks for; "" where none is to be seen.

    It is the last one that the text begins to define, or else the one that its asserts call.
    """
    if defined := _DEFINED.findall(question):
        return defined[-1]
    called = [name for test in _TESTED.findall(question) for name in _CALLED.findall(test)]
    own = [name for name in called if not hasattr(builtins, name)]
    return next(iter(own or called), "")


def program(question: str, answer: str) -> str | None:
    """Returns the program that an answer gives; None where it gives none.

    Of several blocks of code the last one that defines the function is taken; without such a block
    what stands before the first mark of one, as where the prompt has begun the block. Of a text the
    part from its first line of code on is taken. What does not define the function goes on with the
    question's own beginning of it; there it ends at the first line that is not indented.
    """
    name, part = asked(question), answer_part(answer)
    if not name:
        return None
    defines = re.compile(rf"^(?:(?:async )?def {name}\b|{name}\s*=)", re.M)
    blocks = [code for language, code in _FENCE.findall(part) if language.lower() in _LANGUAGES]
    first = _until_closed(part)  # all of it where the prompt has begun the block
    code = next((block for block in reversed(blocks) if defines.search(block)), None)
    if code is None:
        goes_on = defines.search(first) or first.lstrip("\n")[:1] in (" ", "\t")
        code = blocks[-1] if blocks and not goes_on else first
    begun = [found for found in _DEFINED.finditer(question) if found[1] == name]
    if defines.search(code):
        opening = _OPENING.search(code) if code is first else None
        code = code[opening.start() :] if opening else code
        # Helpers and imports that the question gives.
        before = question[: begun[-1].start()] if begun else ""
        found = f"{before}{code}"
    elif begun and (body := _body(code)).strip():
        found = f"{question.rstrip()}\n{body}"
    else:
        return None
    return found if len(found) <= LONGEST else None


def _until_closed(code: str) -> str:
    """Returns what stands before the mark that ends a program."""
    end = _CLOSED.search(code)
    return code[: end.start()] if end else code


def _body(code: str) -> str:
    """Returns what goes on with a function: up to the first line that is not indented."""
    code = code.lstrip("\n")
    end = _AT_MARGIN.search(code)
    return code[: end.start()] if end else code
