r"""Numerals: the value of a number as people and models write it."""

import re
from fractions import Fraction

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
_COUNTED = re.compile(r"(\S{1,100})(?:\s+[^\W\d_]+)+")
_MAX_NUMERAL = 100  # characters
_PERCENT = re.compile(r"\s*\\?%$")


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


def without_unit(answer: str) -> str:
    """The numeral of an answer that is one and words: `18 dollars`, `**1,000 eggs**`."""
    plain = answer.strip("*").strip()
    counted = _COUNTED.fullmatch(plain)
    numeral = counted[1] if counted else plain
    return answer if number(numeral) is None else numeral
