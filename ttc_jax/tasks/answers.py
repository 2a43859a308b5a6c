r"""Final answers as text: compared and put in canonical form where no parser of LaTeX is needed.

They take answers in the one spelling that `ttc_jax.tasks.spelling.respell` gives them. What is
decided here is certain; everything else is left to math-verify in a worker process (`None`).

Answers are untrusted: everything here takes time linear in the text.
"""

import re
from fractions import Fraction

from ttc_jax.tasks.numerals import number
from ttc_jax.tasks.spelling import choice, is_prose, respell, strip

__all__ = ["canonical_text", "equal_text", "is_letter", "same_choice", "strip"]

_TEXT = re.compile(r"\\text\{([^{}\\]*)\}")
_LETTER = re.compile(r"\(([A-Za-z])\)|([A-Za-z])")
_FIGURE = re.compile(r"\\(angle|triangle)\s*\{?([A-Z]{1,4})\}?")
_SOLUTIONS = re.compile(r"\bsolutions$")
_ANY_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_FILLERS = re.compile(r"[\s,;.{}~$]+|\b(?:and|the|an)\b")
_WORDS = re.compile(r"[^\W\d_](?:[^\W_]|[ ,.'-])*")
_BETWEEN_WORDS = re.compile(r"[ ,.'-]+")
_BETWEEN_LETTERS = re.compile(r"\s*(?:[,;&]|\b(?:and|or)\b)\s*")
_CLOCK = re.compile(r"(\d\d?(?::[0-5]\d){1,2})( [ap]m)?", re.ASCII)
_BASED = re.compile(
    r"([+-]?)\s*(?:(?:\\text\{)?([0-9A-Za-z]{0,50}\d[0-9A-Za-z.]{0,50})\}?\s*"
    r"_\s*\{?\s*(?:\\text\{)?\s*(?:base\s*)?(\d{1,9}|[a-z]+)\s*\}{0,2}|([0-9A-Za-z.]{1,100}))",
    re.ASCII,
)
_BASES = [
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]
_ROUNDING = Fraction(1, 10**5)  # math-verify rounds decimals to six places


def equal_text(gold: str, answer: str) -> bool | None:
    """Whether two answers are equal; None when that takes math-verify."""
    if gold == answer:
        return True
    for kind in (_clock, _based):
        one, other = kind(gold), kind(answer)
        if one and other and (one[1] or other[1] or kind is _clock):
            # A half of the day, or a base, that only one of them names goes without saying: gold
            # answers of questions that ask for a base name it or not (`52_8`, but `2003` too).
            return one[0] == other[0] and (one[1] == other[1] or not one[1] or not other[1])
    one, other = number(gold), number(answer)
    if one is None or other is None:
        words, others = _words(gold), _words(answer)
        if words is None or others is None:
            # Words are no mathematics, and no mathematics is words.
            return False if is_prose(gold) or is_prose(answer) else None
        return words == others
    if one == other:
        return True
    if "%" in gold or "%" in answer:
        return None
    if ("." in gold or "." in answer) and abs(one - other) < _ROUNDING:
        return None
    return False


def canonical_text(answer: str) -> str | None:
    """The canonical form of a numeral, a time or words; None when that takes math-verify."""
    if _clock(answer):
        return answer
    if (based := _based(answer)) and based[1]:
        return "_".join(based)
    value = number(answer)
    return _words(answer) if value is None else str(value)


def is_letter(answer: str) -> bool:
    r"""Whether an answer is the letter of a choice: `C`, `(C)`, `\text{(C)}`."""
    return len(_words(answer) or "") == 1


def same_choice(gold: str, answer: str) -> bool:
    r"""Whether one is a letter and the other that letter with its value, `(C)\ 5`; as written."""
    letters, named = zip(*((respell(text), choice(text)) for text in (gold, answer)), strict=True)
    for letter, name in (letters[0], named[1]), (letters[1], named[0]):
        if name and is_letter(letter) and _words(letter) == name.lower():
            return True
    return False


def _clock(answer: str) -> tuple[str, str] | None:
    """A time of the day. math-verify reads `6:30` and `7:35` as ratios, both of them 1/5."""
    found = _CLOCK.fullmatch(answer)
    return (found[1], found[2] or "") if found else None


def _based(answer: str) -> tuple[str, str] | None:
    """The digits of a numeral and its base, "" if it names none. math-verify ignores bases."""
    found = _BASED.fullmatch(answer)
    if not found:
        return None
    sign, digits, base = found[1], found[2] or found[4], found[3] or ""
    if base in _BASES:
        base = str(_BASES.index(base) + 2)
    elif base and not base.isdecimal():
        return None
    return sign.replace("+", "") + (digits.upper().lstrip("0") or "0"), base


def _words(answer: str) -> str | None:
    r"""A letter or words in lower case, or letters in alphabetical order: `A,D`, `no solution`.

    math-verify takes words for products, so that `ASA` is `AAS`.
    """
    text = _TEXT.fullmatch(answer)
    words = (text[1] if text else answer).strip()
    letters = [_LETTER.fullmatch(item) for item in _BETWEEN_LETTERS.split(words)]
    if all(letters):
        return ", ".join(sorted((one[1] or one[2]).lower() for one in letters if one))
    if text and any(map(str.isalpha, words)):
        return _spoken(words)
    if figure := _FIGURE.fullmatch(answer):
        return f"{figure[1]} {figure[2].lower()}"
    if _WORDS.fullmatch(words):
        several = _BETWEEN_WORDS.split(words.strip("' -"))
        if any(map(_is_word, several)) or (len(several) == 1 and words.isupper()):
            return _spoken(words)
    return _spoken(_ANY_TEXT.sub(r" \1 ", answer)) if is_prose(answer) else None


def _spoken(words: str) -> str:
    """Words in lower case without what is between the items of a list."""
    words = " ".join(_FILLERS.sub(" ", words.lower()).split())
    return _SOLUTIONS.sub("solution", words)


def _is_word(word: str) -> bool:
    """Whether letters are a word and not a product of variables, as `xy` and `abc` are.

    A product has few letters, no letter twice, and none that is rarely a variable.
    """
    if not word.isalpha():
        return False
    return len(word) > 3 or (
        len(word) > 1
        and not word.isupper()
        and (not word.islower() or len(set(word)) < len(word) or not set(word).isdisjoint("eio"))
    )
