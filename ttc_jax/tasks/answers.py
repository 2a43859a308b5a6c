r"""Final answers as text: found in a solution, read where no parser of LaTeX is needed.

Solutions are untrusted: everything here takes time linear in the text.
"""

import re
from fractions import Fraction

_MAX_SOLUTION = 200_000  # characters; what comes before them is not searched for the answer
_ENDING = " \t\r\n\f\v.,;:"
_PIECE = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)
_HASHES = re.compile(r"^[ \t]*####[ \t]*(\S.*)$", re.MULTILINE)

# Numerals. A separator of thousands stands before exactly three digits.
_THOUSANDS = r"(?:,|\{,\}|\\,|\\ |[ \u00a0\u2009\u202f])"
_DECIMAL = re.compile(
    rf"([+-]?)\s*(?:\\?\$)?\s*(\d{{1,3}}(?:{_THOUSANDS}\d{{3}})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)",
    re.ASCII,
)
_RATIO = re.compile(  # with a whole part or none
    r"([+-]?)\s*(?:(\d+)?\s*\\[dt]?frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}"
    r"|(?:(\d+)\s+)?(\d+)\s*/\s*(\d+))",
    re.ASCII,
)
# Whole ones only: nothing is read from within `337.5n`.
_NUMERAL = re.compile(r"(?<![\w.,])-?\$?\d{1,30}(?:,\d{3})*(?:\.\d{1,30})?(?!\w|[.,]\d)", re.ASCII)
_COUNTED = re.compile(r"(\S{1,100})(?:\s+[^\W\d_]+)+")
_MAX_NUMERAL = 100  # characters
_PERCENT = re.compile(r"\s*\\?%$")
_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mbox)\s*\{([^{}\\$]*)\}")
_LETTER = re.compile(r"\(([A-Za-z])\)|([A-Za-z])")
_WORDS = re.compile(r"[^\W\d_](?:[^\W\d_]|[ '-])*")
_ROUNDING = Fraction(1, 10**5)  # math-verify rounds decimals to six places


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


def without_unit(answer: str) -> str:
    """The numeral of an answer that is one and words: `18 dollars`, `**1,000 eggs**`."""
    plain = answer.strip("*").strip()
    counted = _COUNTED.fullmatch(plain)
    numeral = counted[1] if counted else plain
    return answer if number(numeral) is None else numeral


def strip(answer: str) -> str:
    """An answer without the white space around it and the punctuation after it."""
    answer = answer.strip().rstrip(_ENDING)
    if answer.endswith("\\") and not answer.endswith(r"\\"):  # what is left of a spacing command
        answer = answer[:-1].rstrip(_ENDING)
    return answer


def number(answer: str) -> Fraction | None:
    r"""The value of a numeral: `-1,234.5`, `3\,000`, `2/3`, `\frac{2}{3}`, `3 1/2`, `50%`."""
    if len(answer) > _MAX_NUMERAL:
        return None
    answer = _PERCENT.sub("", answer.replace(r"\!", "").strip())
    if found := _DECIMAL.fullmatch(answer):
        return Fraction(found[1] + re.sub(r"[^\d.]", "", found[2]))
    if found := _RATIO.fullmatch(answer):
        parts = found.groups()[1:4] if found[3] else found.groups()[4:]
        whole, above, below = (int(part or 0) for part in parts)
        if below:
            return (whole + Fraction(above, below)) * (-1 if found[1] == "-" else 1)
    return None


def equal_text(gold: str, answer: str) -> bool | None:
    """Whether two answers are equal; None when that takes math-verify."""
    if gold == answer:
        return True
    one, other = number(gold), number(answer)
    if one is None or other is None:
        words = _words(gold)
        return True if words is not None and words == _words(answer) else None
    if one == other:
        return True
    if "%" in gold or "%" in answer:
        return None
    if ("." in gold or "." in answer) and abs(one - other) < _ROUNDING:
        return None
    return False


def canonical_text(answer: str) -> str | None:
    """The canonical form of a numeral or of words; None when that takes math-verify."""
    value = number(answer)
    return _words(answer) if value is None else str(value)


def _words(answer: str) -> str | None:
    r"""A letter or words in lower case, as math-verify reads them: `\text{(B)}`, `no solution`."""
    text = _TEXT.fullmatch(answer)
    words = (text[1] if text else answer).strip()
    if letter := _LETTER.fullmatch(words):
        return (letter[1] or letter[2]).lower()
    # Without \text{} a short word is more likely a product of variables.
    if _WORDS.fullmatch(words) and (text or len(words) > 3):
        return " ".join(words.lower().split())
    return None
