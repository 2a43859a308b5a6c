r"""Where a solution states its final answer: in a box, behind `####`, or in prose.

Solutions are untrusted: everything here takes time linear in the text.
"""

import re

from ttc_jax.tasks.answers import strip

_MAX_SOLUTION = 200_000  # characters; what comes before them is not searched for the answer
_PIECE = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)
_HASHES = re.compile(r"^[ \t]*####[ \t]*(\S.*)$", re.MULTILINE)
# Whole ones only: nothing is read from within `337.5n`.
_NUMERAL = re.compile(r"(?<![\w.,])-?\$?\d{1,30}(?:,\d{3})*(?:\.\d{1,30})?(?!\w|[.,]\d)", re.ASCII)


def boxed(solution: str) -> str | None:
    r"""The content of the last complete `\boxed{}`; None without one, or with an empty one.

    Braces are balanced, escaped ones (`\{`) do not count. Trailing white space and any of `.,;:`
    are cut off, as models put the full stop of the sentence inside the box.
    """
    solution = solution[-_MAX_SOLUTION:]
    opened: list[int | None] = []  # for each open brace, where its box begins; None: not a box
    start, end = -1, -1
    for piece in _PIECE.finditer(solution):
        if piece[0] == "}":
            begin = opened.pop() if opened else None
            if begin is not None and begin > start:
                start, end = begin, piece.start()
        elif piece[0][-1] == "{" and piece[0] != r"\{":
            opened.append(None if piece[0] == "{" else piece.end())
    return (strip(solution[start:end]) or None) if end >= 0 else None


def after_hashes(solution: str) -> str | None:
    """What follows the first `####` that begins a line, GSM8K's way to give the answer.

    The first: a model that does not stop goes on with another question and its answer.
    """
    found = _HASHES.search(solution[-_MAX_SOLUTION:])
    return (strip(found[1]) or None) if found else None


def last_number(solution: str) -> str | None:
    """The last number in a solution, the usual reading of one that marks no answer (GSM8K)."""
    found = _NUMERAL.findall(solution[-_MAX_SOLUTION:])
    return found[-1].replace("$", "") if found else None
