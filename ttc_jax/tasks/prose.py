r"""Final answers of solutions without a box: behind `####`, behind "the answer is", or at the end.

Solutions are untrusted: everything here takes time linear in the text. All but the search for the
marks looks at windows of bounded length.
"""

import re
from collections.abc import Callable

from ttc_jax.tasks.extraction import answer_part
from ttc_jax.tasks.numerals import counted, numerals, plain, spelled

_MARKS = 100  # of so many the last that states an answer is sought
_WINDOW = 400  # characters that are looked at behind a mark, or before one

_IS = r"(?:is|are|was|be|becomes|equals)\b:?"
_MARK = re.compile(
    r"^[ \t>*_]{0,9}#{4,6}(?!#)(?=(?P<hashes>[^\n]*))"
    # Answer: | **Final Answer:** | Answer (in dollars) = | <answer> | a heading "Answer"
    r"|(?P<title>(?<![A-Za-z])answers?\b(?: ?\([^()\n]{1,40}\))?[*_ ]{0,4}[:=]|<answer>"
    r"|^[ \t>*_#-]{0,9}(?:the |my |final ){0,2}answers?[ \t*_:.]{0,4}$)"
    # the answer is | our final answer for the total would be
    r"|(?P<verb>\b(?:the|final|our|my|your|correct) (?:\w{1,12} )?answers?\b[*_]{0,3}"
    r"(?: (?:to|for|of|in|here|should|must|would|will|now|then|thus|therefore)\b"
    rf"[^.:;!?\n]{{0,80}}?)? {_IS}|\b(?:correct|final|an) answer of\b)"
    # 18 is the answer
    r"|(?P<before>\b(?:is|are) (?:the|our|my|your) (?:final |correct )?answer\b)",
    re.IGNORECASE | re.MULTILINE,
)
# A heading with a number of its own, "#### Eggs left: 9", is no answer.
_HEADING = re.compile(
    r"(?!(?:so|thus|therefore|hence)?,? ?(?:the|our|my|her|his)? ?(?:final|grand|overall)? ?"
    r"(?:answer|total|result|solution|sum)\W{0,4}[:=])[^:=\d]*[A-Za-z]{2}[^:=\d]*:",
    re.IGNORECASE,
)
_TITLE = re.compile(r"\W*(?:the )?(?:final )?(?:answer|result)\W*", re.IGNORECASE)
# A model that does not stop goes on with another question and its answer.
_NEXT = re.compile(
    r"^\W{0,6}(?:question|problem|exercise|q|user|human)\W{0,4}:", re.IGNORECASE | re.MULTILINE
)
_CONTENT = re.compile(r"[\s*_`>:~≈=#]*")
_STOP = re.compile(r"[.!?](?=[*_\"')\]]{0,4}(?:\s|$|\\[)\]]|\$))|\n")
CLAUSE = re.compile(r"[,;] | \(|\b(?:since|because|as|for|so|which|where|given|when|if)\b")
WORDS = re.compile(
    r"(?<!\\)\b(?!(?:about|around|approximately|exactly|just|only|simply|equal|to|a|total|of|now|then"
    r"|therefore|thus|text|minus|negative|USD|EUR|GBP|INR|Rs)\b)[A-Za-z]{2,}\b",
    re.IGNORECASE,
)
OPERATION = re.compile(r"\b(?:sum|difference|product|quotient)\b", re.IGNORECASE)


def after_hashes(solution: str) -> str | None:
    """The number behind the last `####` that has one, GSM8K's way to give the answer.

    Nothing else may stand on its line but a name and a unit: "#### Step 2: add them" is a heading.
    """
    return last_statement(plain(answer_part(solution)), _behind_hashes)


def stated_number(solution: str) -> str | None:
    """The number that a solution states as its answer, behind `####` or near "the answer is".

    Of several statements the last counts.
    """
    return last_statement(plain(answer_part(solution)), _number_at)


def last_statement(text: str, read: Callable[[re.Match[str]], str | None]) -> str | None:
    """What the last of a text's marks of an answer leads to.

    A model that does not stop goes on with another question and its answer: those do not count.

    Args:
        read: The answer at a mark, which has either of the groups "hashes" (the rest of its line),
            "title" or "verb" (the answer is behind the mark), and "before" (it is before it).
    """
    marks = list(_MARK.finditer(text))
    first = next((mark for mark in marks[:_MARKS] if read(mark)), None)
    if first and (following := _NEXT.search(text, first.end())):
        marks = [mark for mark in marks if mark.start() < following.start()]
    return next((found for mark in reversed(marks[-_MARKS:]) if (found := read(mark))), None)


def last_number(solution: str) -> str | None:
    """The last number in a solution, the usual reading of one that marks no answer (GSM8K)."""
    last = None
    for numeral in numerals(plain(answer_part(solution))):
        last = numeral
    return last and spelled(last)


def nearest_number(text: str, title: bool = False) -> str | None:
    """The number of a text's first sentence: the first, or the result of what begins with it.

    Where the text goes on with numbers, the answer must be given at once ("the answer is 18."), not
    in the course of a sentence ("the answer is found by adding 3").

    Args:
        title: A title is before the text, behind which a worked solution may begin too: next to
            nothing may follow the number, if it is not the last.
    """
    content = _CONTENT.match(text)
    stop = _STOP.search(text, content.end() if content else 0)
    sentence, rest = (text[: stop.start()], text[stop.start() :]) if stop else (text, "")
    found = list(numerals(sentence))
    if not found:
        return None
    first, before = found[0], sentence[: found[0].start()]
    if OPERATION.search(before):
        return spelled(found[-1])
    clause = CLAUSE.search(sentence, first.end())
    head = sentence[: clause.start()] if clause else sentence
    if next(numerals(rest), None):
        ended = rest.lstrip(".!?*_)\"' ")[:1] in ("", "\n", "<")
        brief = clause or (len(found) == 1 and (ended or len(head[first.end() :].split()) < 2))
        if WORDS.search(before) or (title and not brief):
            return None
    equals = head.rfind("=", first.end())
    return spelled(next((x for x in found if x.start() > equals), first))


def _number_at(mark: re.Match[str]) -> str | None:
    if mark["hashes"] is not None:
        return _behind_hashes(mark)
    if mark["before"]:
        return _before(mark)
    behind = mark.string[mark.end() : mark.end() + _WINDOW]
    return nearest_number(behind, title=bool(mark["title"]))


def _behind_hashes(mark: re.Match[str]) -> str | None:
    if mark["hashes"] is None:
        return None
    content, end = mark["hashes"].strip(" \t\r*_#"), mark.end("hashes")
    if _HEADING.match(content):
        return None
    if content and not _TITLE.fullmatch(content):
        return counted(content)
    below = mark.string[end : end + _WINDOW]
    line = below.lstrip().partition("\n")[0]
    return counted(line) or (nearest_number(below, title=True) if content else None)


def _before(mark: re.Match[str]) -> str | None:
    """The last number of the sentence before a mark."""
    sentence = re.split(r"[.!?]\s|\n", mark.string[max(0, mark.start() - _WINDOW) : mark.start()])[
        -1
    ]
    found = list(numerals(sentence))
    return spelled(found[-1]) if found else None
