r"""Final answers as text: compared and put in canonical form where no parser of LaTeX is needed.

Answers are untrusted: everything here takes time linear in the text.
"""

import re
from fractions import Fraction

from ttc_jax.tasks.numerals import number

_ENDING = " \t\r\n\f\v.,;:"
_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mbox)\s*\{([^{}\\$]*)\}")
_LETTER = re.compile(r"\(([A-Za-z])\)|([A-Za-z])")
_WORDS = re.compile(r"[^\W\d_](?:[^\W\d_]|[ '-])*")
_ROUNDING = Fraction(1, 10**5)  # math-verify rounds decimals to six places


def strip(answer: str) -> str:
    """An answer without the white space around it and the punctuation after it."""
    answer = answer.strip().rstrip(_ENDING)
    if answer.endswith("\\") and not answer.endswith(r"\\"):  # what is left of a spacing command
        answer = answer[:-1].rstrip(_ENDING)
    return answer


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
