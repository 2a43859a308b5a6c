r"""Where a solution states its final answer: in a box, or behind `####` (`prose`: neither).

Solutions are untrusted: everything here takes time linear in the text.
"""

import re
from typing import NamedTuple

from ttc_jax.tasks.answers import strip

_MAX_SOLUTION = 200_000  # characters; what comes before them is not searched for the answer

# What public reasoning models put around their thoughts.
_THOUGHT = re.compile(
    r"(?i:<\|?(?P<close>/|end_of_)?(?:begin_of_|seed:)?(?:think|thinking|thoughts?|reasoning)\|?>)"
    r"|◁(?P<closed>/)?think▷|\[(?P<ended>/)?THINK\]"
)

_BOX = r"\\\\?(?:boxed|fbox|framebox)(?![A-Za-z])"
_PIECE = re.compile(rf"[{{}}]|{_BOX}(?:\s*\{{)?|\\.", re.DOTALL)
# A box without braces: `\boxed 5`, `\boxed\frac12`. In mathematics it reaches to the end of that.
_REST = re.compile(r"\s?([^\n$]{1,200}?)(?:(?<!\\)\$|\\\)|\\\])")
_BARE = re.compile(
    r"[ \t]?(-?\\?\$?\d[\d,]{0,20}(?:\.\d{1,20})?"
    r"|-?\\[A-Za-z]{2,12}(?:\s?(?:\{[^{}\n]{0,100}\}|\d)){0,2})"
)
# What an instruction, or a model that repeats it, has in the box.
_PLACEHOLDER = re.compile(
    r"(?:\\[lcdv]?dots[a-z]?|\\(?:square|Box|quad|qquad|phantom\{[^{}]*\}|[ ,;:!_])|[.…_?~\s-])*"
    r"|[<\[({\s]*(?:(?:your|the|my|a|insert|put|final|correct|numerical|numeric|exact|single)\s+)*"
    r"(?:answer|result|number|value|expression|content|text)s?(?:\s+here)?[>\])}\s]*",
    re.IGNORECASE,
)
_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mbox)\s*\{([^{}]*)\}")
_AND = re.compile(r"[,;]|\b(?:and|or)\b")
_JOINER = re.compile(
    r"(?:[\s$,;&]|\\[()\[\],;:! \\]|\\q?quad|\\text\{\s*(?:and|or)\s*\}|(?:and|or)\b"
    r"|[A-Za-z](?:_\{?\w\}?)?\s*=)*"
)
_MAX_LINE = 300  # characters of a line in which a formula's beginning is sought
_DELIMITERS = ((r"\(", r"\)"), (r"\[", r"\]"))
_MAX_JOINER = 70  # characters, as math-verify


class Box(NamedTuple):
    """A complete box of a solution: where it stands, and what is in it."""

    start: int
    end: int
    content: str


def answer_part(solution: str) -> str:
    """What a solution says behind its thoughts (`</think>` and others), or before unfinished ones.

    The opening mark may be missing, as some chat templates put it into the prompt; but then a
    thought that is cut off looks like an answer (`opened_thought`). Of a longer part only the last
    200,000 characters.
    """
    start, end = 0, None
    for mark in _THOUGHT.finditer(solution):
        if mark.lastgroup:  # it closes
            start, end = mark.end(), None
        elif end is None:
            end = mark.start()
    return solution[start:end][-_MAX_SOLUTION:]


def opened_thought(prompt: str) -> str:
    """The mark with which a prompt ends, if it opens a thought; else "".

    Some chat templates put it there. What a model writes then begins within the thought.
    """
    *_, last = (None, *_THOUGHT.finditer(prompt))
    return last[0] if last and not (last.lastgroup or prompt[last.end() :].strip()) else ""


def boxed(solution: str) -> str | None:
    r"""The content of the last box that holds something; None without one.

    A box is `\boxed{}`, `\fbox{}` or, without braces, `\boxed 5`. Braces are balanced, escaped ones
    (`\{`) do not count. Trailing white space and any of `.,;:` are cut off, as models put the full
    stop of the sentence inside the box. Echoes of the instruction (`\boxed{}`, `\boxed{answer}`)
    are no answers.
    """
    boxes = _filled(answer_part(solution))
    return boxes[-1].content if boxes else None


def boxed_answers(solution: str) -> str | None:
    r"""The last box, or the list of the last boxes: `$\boxed{1}$ and $\boxed{2}$` is `1, 2`.

    As math-verify reads them, but that any other word between two boxes parts them: to math-verify
    `\boxed{1} no, \boxed{2}` is a list too.
    """
    solution = answer_part(solution)
    boxes = _filled(solution)
    answers = [boxes[-1].content] if boxes else []
    for box, after in zip(boxes[-2::-1], boxes[:0:-1], strict=True):
        between = solution[box.end : after.start]
        if len(between) > _MAX_JOINER or not (_AND.search(between) and _JOINER.fullmatch(between)):
            break
        if box.content not in answers:
            answers.append(box.content)
    return ", ".join(reversed(answers)) or None


def _filled(solution: str) -> list[Box]:
    """The boxes with an answer, in order; of nested ones the innermost."""
    found: list[Box] = []
    last = len(solution) + 1
    for box in reversed(_boxes(solution)):
        if box.end <= last and not _PLACEHOLDER.fullmatch(_TEXT.sub(r"\1", box.content)):
            found.append(box)
        last = box.start
    return found[::-1]


def _boxes(solution: str) -> list[Box]:
    """The complete boxes by their beginnings."""
    boxes: list[Box] = []
    opened: list[tuple[int, int] | None] = []  # of each open brace: its box; None: not a box's
    for piece in _PIECE.finditer(solution):
        if piece[0] == "}":
            if box := opened.pop() if opened else None:
                boxes.append(Box(box[0], piece.end(), strip(solution[box[1] : piece.start()])))
        elif piece[0][-1] == "{" and piece[0] != r"\{":
            opened.append(None if piece[0] == "{" else piece.span())
        elif len(piece[0]) > 2 and (content := _without_braces(solution, *piece.span())):
            boxes.append(Box(piece.start(), content.end(1), strip(content[1])))
    return sorted(boxes)


def _without_braces(solution: str, start: int, end: int) -> re.Match[str] | None:
    before = solution[max(0, start - _MAX_LINE) : start].rpartition("\n")[2]
    dollars = before.replace(r"\$", "").replace("$$", "$").count("$")
    inside = dollars % 2 or any(before.rfind(a) > before.rfind(b) for a, b in _DELIMITERS)
    return (inside and _REST.match(solution, end)) or _BARE.match(solution, end)
