r"""Numerals: reading numbers as people and models write them, alone or in running text.

One grammar serves boxes, `####` and prose: thousands in every common spelling, decimals, fractions
and mixed numbers (`1 1/2`, `1½`, `\frac12`), powers (`1e3`, `3 \times 10^4`, `2^{10}`), currencies,
any script's digits and dashes. Running text knows a few spellings more, which alone could be lists.

Texts are untrusted: everything here takes time linear in the text.
"""

import re
import unicodedata
from collections.abc import Iterator
from fractions import Fraction

_MAX_NUMERAL = 100  # characters

_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"
_ASCII = str.maketrans(
    {**dict.fromkeys(_DASHES, "-"), **dict.fromkeys("\u2044\u2215\uff0f", "/")}
    | dict(zip("．，：％＄＋＝（）", ".,:%$+=()", strict=True))
)
_VULGAR = re.compile(r"(?:(\d) ?)?([¼-¾⅐-⅞])")
_SUPERSCRIPT = re.compile(r"(?<=\d)⁻?[⁰¹²³⁴-⁹]+")
_FOREIGN_DIGIT = re.compile(r"(?![0-9])\d")

# The pieces of the grammar, without groups. The same separator stands before every three digits.
_SPACE = "[ \u00a0\u2007\u2009\u202f]"
_SEPARATORS = (",", r"\{,\}", r",\\!", r"\\[,;:!]", r"\\ ", "~", "['’]", "_", _SPACE)
_THOUSANDS = "|".join(rf"[1-9]\d{{0,2}}(?:{mark}\d{{3}}){{1,9}}" for mark in _SEPARATORS)
_DECIMAL = rf"(?:(?:{_THOUSANDS}|\d{{1,30}})(?:\.\d{{1,30}})?|\.\d{{1,30}})"
_TIMES = r"\s{0,2}(?:\\times|\\cdot|[×·*x])\s{0,2}"
_EXPONENT = r"\s?(?:\^|\*\*)\s?(?:\{\s?-?\d{1,3}\s?\}|-?\d{1,3}(?!\d))"
_PART = r"\s?(?:\{\s?-?\d{1,15}(?:\.\d{1,15})?\s?\}|\d)"  # of \frac, which takes a bare digit too
_FRACTION = rf"(?:{_DECIMAL}\s{{0,2}}/\s{{0,2}}\d{{1,15}}(?!\s?/\s?\d)|\\[dtc]?frac{_PART}{_PART})"
_MIXED = rf"(?:\d{{1,15}}(?:\s{{0,2}}(?=\\)|\s{{1,2}}(?:and\s)?))?{_FRACTION}"
_SCALED = rf"{_DECIMAL}(?:[eE][+-]?\d{{1,3}}(?!\d))?(?:{_TIMES}10{_EXPONENT})?"
_BODY = rf"(?:{_MIXED}|\d{{1,3}}{_EXPONENT}|{_SCALED})"
_CURRENCY = r"(?:\\?\$|[€£¥₹₽₩₪₫฿₦₱]|\bRs\.?|\b(?:USD|EUR|GBP|INR)\b)"

_ALONE = re.compile(
    rf"([+-]|(?i:minus|negative)\s)?\s{{0,3}}{_CURRENCY}?\s{{0,3}}([+-]?)\s{{0,3}}({_BODY})"
    rf"\s{{0,3}}(?:\\?%|{_CURRENCY})?",
    re.ASCII,
)
_RATIO = re.compile(rf"(?:(\d+)\s+(?:and\s)?)?({_DECIMAL})\s*/\s*(\d+)", re.ASCII)
_FRAC = re.compile(rf"(?:(\d+)\s*(?:and\s)?)?\\[dtc]?frac({_PART})({_PART})", re.ASCII)
_POWER = re.compile(rf"(\d{{1,3}})({_EXPONENT})", re.ASCII)
_NUMBER = re.compile(
    rf"({_DECIMAL})(?:[eE]([+-]?\d+))?(?:{_TIMES}10({_EXPONENT}))?",
    re.ASCII,
)

# In running text, what only looks like a numeral is matched first, and so passed over.
_LABEL = (
    r"(?i:\b(?:step|part|case|stage|phase|section|question|problem|example|exercise|method"
    r"|approach|scenario|equation|eq\.|figure|table|hint|attempt|solution))\s?[#(]?\d{1,3}\b"
    r"|^[ \t>*_#-]{0,20}\(?\d{1,3}[.)](?=[*_]{0,3}[ \t]{1,9}[^\s\d+/=<>×÷-])"  # an item
    r"|(?<![\d/])\d{1,4}/\d{1,2}/\d{1,4}(?![\d/])"  # a date
)
_LOCAL = (
    r"(?P<indian>[1-9]\d?(?:,\d{2}){1,6},\d{3}(?:\.\d{1,9})?)"  # 1,00,000
    r"|(?P<european>[1-9]\d{0,2}(?:(?:\.\d{3}){1,8},\d{1,9}|(?:\.\d{3}){2,8})"  # 1.234,50
    r"|\d{1,9},\d{1,2})"  # 1,5
    r"|(?P<clock>\d{1,2}:[0-5]\d(?::[0-5]\d)?)"  # 7:30
)
# No digit of an identifier, an exponent, an index or a version number.
_START = r"(?:(?<![\w^])(?<![\^_]\{)(?<!\d[.,])(?=\d)|(?<![\w.])(?=\.\d)|(?=\\[dtc]?frac))"
# Letters attached to a numeral are a unit, unless they are an ordinal's, or a variable.
_UNIT = r"(?!(?:st|nd|rd|th)\b)(?:[^\W\d_]{2,20}|[mglLhsWVAJCF])[23]?(?!\w)"
_END = rf"(?![.,]\d)(?:(?!\w)|(?={_UNIT}))"
_RUNNING = re.compile(
    rf"{_LABEL}|(?P<numeral>{_START}(?:(?:{_LOCAL}){_END}|(?P<body>{_BODY}){_END}))",
    re.MULTILINE | re.ASCII,
)

# What stands before a numeral: its sign, unless that is an operation's, a range's or a list's.
_MARKUP = r"[*_`\\({]{0,4}"
_BEFORE = 40  # characters that are looked at
_SIGN = re.compile(
    rf"(?:\b(?P<word>minus|negative)\s{{1,2}}|-(?P<gap>[ \t]{{0,2}})){_MARKUP}(?:{_CURRENCY}\s?)?$",
    re.IGNORECASE,
)
_OPERAND = re.compile(
    r"(?:[\d)\]}%]\$?|\b[a-z]|\d\s[a-z]{1,15}|\b(?:that|this|it|which|ten|eleven|twelve|hundred"
    r"|one|two|three|four|five|six|seven|eight|nine|[a-z]{2,9}(?:teen|ty)))[ \t]{0,3}$",
    re.IGNORECASE,
)
_JOINED = re.compile(r"(?:[\w)\]}%-]|[\d)\]}%]\$?[ \t]{1,3})$")  # the dash after it is no sign
_RELATION = re.compile(r"[=≈<>≤≥(\[{][ \t]{0,3}$")

# What may stand around the numeral of an answer that is one: a name before it, a unit after it.
_NAME = re.compile(
    r"[\s*_`$]{0,9}(?:[A-Za-z\\{}()' *]{1,60}(?::|=|\bis\b|\bare\b))?[\s*_`$(=]{0,9}"
    r"(?:(?:about|around|approximately|exactly|only|just)\b|≈|~)?[\s*_`]{0,9}"
    rf"(?:[+-]|minus|negative)?\s{{0,3}}(?:{_CURRENCY}\s?)?[\s*_`{{]{{0,9}}",
    re.IGNORECASE,
)
_UNITS = re.compile(
    r"[*_`]{0,3}(?:(?:[^\W\d_]|[^\W\d_]\}?\^\{?)[23]\}?|[^\W\d_]|[\s%°²³.,()/'’{}$€£¥₹^]|-(?=[^\W\d_])"
    r"|\\(?:text|textbf|textit|mathrm|mbox|circ|quad|[ ,;:!%$]))*[*_`]{0,3}[\s.]{0,9}"
)
# Words alone: `\\text{Tom has } 5 \\text{ apples}` without its numeral.
_SPOKEN = re.compile(
    r"(?:\\(?:text|textbf|mathrm|mbox)\{|\\[ ,$%]|\b[A-Za-z]{2,20}\b|[\s{}().,:;$%'*-])*"
)
_SPACED_SIGN = re.compile(r"^([\s*_`$]{0,9})-\s{1,3}")
_COMPUTED = re.compile(r"(?:[\d\s+*/x×÷().,$%-]|\\(?:times|cdot|div|[$%,!]))+=")


def number(answer: str) -> Fraction | None:
    r"""The value of a text that is a numeral: `-1,234.5`, `3\,000`, `\frac{2}{3}`, `3 1/2`."""
    if len(answer) > _MAX_NUMERAL:
        return None
    found = _ALONE.fullmatch(plain(answer).replace(r"\!", "").strip())
    if not found or (found[1] and found[2]):
        return None
    value, sign = _value(found[3]), found[1] or found[2] or "+"
    return value if value is None or sign == "+" else -value


def plain(text: str) -> str:
    """A text with the digits, dashes, fractions and exponents of Unicode in ASCII."""
    if text.isascii():
        return text
    text = _VULGAR.sub(lambda x: f"{x[1]} {_nfkc(x[2])}" if x[1] else _nfkc(x[2]), text)
    text = _SUPERSCRIPT.sub(lambda x: f"^{{{_nfkc(x[0])}}}", text)
    return _FOREIGN_DIGIT.sub(lambda x: str(unicodedata.decimal(x[0])), text.translate(_ASCII))


def numerals(text: str) -> Iterator[re.Match[str]]:
    """The numerals of a running text that is `plain`, each to be spelled by `spelled`.

    Not those within words (`x2`, `3rd`), exponents, labels ("Step 2") and numbers of lists. A unit
    may be attached (`12kg`), a variable may not (`12n`).
    """
    return (found for found in _RUNNING.finditer(text) if found["numeral"])


def spelled(numeral: re.Match[str]) -> str:
    """A numeral of a running text with its sign and without its currency, as `number` reads it."""
    start, body = numeral.start(), numeral["body"] or numeral["clock"]
    if numeral["indian"]:
        body = numeral["indian"].replace(",", "")
    elif numeral["european"]:
        body = numeral["european"].replace(".", "").replace(",", ".")
    sign = "-" if _negative(numeral.string[max(0, start - _BEFORE) : start]) else ""
    return sign + body


def counted(text: str) -> str | None:
    r"""The numeral of a text that is one, with perhaps a name before it and a unit behind it.

    `18 dollars`, `**1,000 eggs**`, `Total: \$18`, `12\text{ kg}`, `9 \cdot 2 = 18`; but not
    `16\pi`, `1200 - 5`.
    """
    if len(text) > _MAX_NUMERAL * 2:
        return None
    text = _SPACED_SIGN.sub(r"\1-", plain(text))
    if computed := _COMPUTED.match(text):
        text = text[computed.end() :]
    found = next(numerals(text), None)
    if found is None or not _NAME.fullmatch(text, 0, found.start()):
        return None
    return spelled(found) if _UNITS.fullmatch(text, found.end()) else None


def without_unit(answer: str) -> str:
    """The numeral of an answer that is one and words; any other answer as it is."""
    if number(answer) is not None or len(answer) > _MAX_NUMERAL * 2:
        return answer
    if found := counted(answer):
        return found
    text = plain(answer)
    found = list(numerals(text))
    if len(found) == 1:
        around = text[: found[0].start()] + " " + text[found[0].end() :]
        if _SPOKEN.fullmatch(around) and re.search(r"[A-Za-z]{2}", around):
            return spelled(found[0])
    return answer


def _value(body: str) -> Fraction | None:
    if found := _RATIO.fullmatch(body) or _FRAC.fullmatch(body):
        whole, above, below = (_decimal(part or "0") for part in found.groups())
        return whole + above / below if below else None
    if found := _POWER.fullmatch(body):
        base, exponent = int(found[1]), _exponent(found[2])
        return Fraction(base) ** exponent if base or exponent > 0 else None
    if found := _NUMBER.fullmatch(body):
        scale = _exponent(found[2] or "0") + _exponent(found[3] or "0")
        return _decimal(found[1]) * Fraction(10) ** scale
    return None


def _decimal(text: str) -> Fraction:
    return Fraction(re.sub(r"[^\d.-]", "", text))


def _exponent(text: str) -> int:
    return int(re.sub(r"[^\d-]", "", text))


def _nfkc(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def _negative(before: str) -> bool:
    """Whether a text ends with the sign of the numeral behind it."""
    sign = _SIGN.search(before)
    if sign is None:
        return False
    left = before[: sign.start()]
    if sign["word"]:
        return sign["word"].lower() == "negative" or not _OPERAND.search(left)
    return bool(_RELATION.search(left)) if sign["gap"] else not _JOINED.search(left)
