r"""One spelling for every answer: what LaTeX, Unicode and prose write in many ways.

`\dfrac12`, `½` and `\frac{1}{2}` are one; so are `12~\text{cm}`, `12 cm` and `12`.
Everything that compares answers, or gives them their canonical form, sees this spelling only.
What math-verify's own normalisation does rightly is left to it. Three of its habits are not
wanted, so units and fractions are settled here: it takes letters for units (`3m`, `2c` and `5d`
lose their variable), it drops everything between the first and the last `\text{}`, and it reads
`\frac123` as 1/23.

Units, currencies and moduli are dropped, so that `5 cm` is `5 m`: gold answers mostly leave them
out, as the question names them, and the answers to one question are seldom in two. Words among
mathematics, as in `5 apples and 3 pears`, are kept (`is_prose`).

Answers are untrusted: everything here takes time linear in the text.
"""

import re
import unicodedata

_ENDING = " \t\r\n\f\v.,;:"
_LONGEST = 100_000  # characters; a longer text is no answer that anyone spells in two ways

_CHARACTERS: dict[str, str] = {
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63", "-"),
    **dict.fromkeys("\u00a0\u2002\u2003\u2007\u2009\u200a\u202f\u205f\u3000", " "),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\u2061\u2062\ufeff\u00ad", ""),
    **dict.fromkeys("×✕", r"\times "),
    **dict.fromkeys("·⋅∙", r"\cdot "),
    **dict.fromkeys("∶", ":"),
    **dict.fromkeys("⁄∕", "/"),
    **dict.fromkeys("’‘′", "'"),
    **dict.fromkeys("°º˚", r"^\circ "),
    **dict.fromkeys("∅⌀", r"\emptyset "),
    **dict.fromkeys("€£¥", ""),
    "÷": r"\div ",
    "±": r"\pm ",
    "∞": r"\infty ",
    "≤": r"\le ",
    "⩽": r"\le ",
    "≥": r"\ge ",
    "⩾": r"\ge ",
    "≠": r"\ne ",
    "≈": r"\approx ",
    "∪": r"\cup ",
    "∩": r"\cap ",
    "∈": r"\in ",
    "∖": r"\setminus ",
    "ℝ": r"\mathbb{R}",
    "ℤ": r"\mathbb{Z}",
    "ℕ": r"\mathbb{N}",
    "ℚ": r"\mathbb{Q}",
    "ℂ": r"\mathbb{C}",
    "∠": r"\angle ",
    "△": r"\triangle ",
    "∛": r"\sqrt[3]",
    "√": r"\sqrt",
    "⟨": "(",
    "⟩": ")",
    "∣": r"\mid ",
    "…": r"\ldots ",
    "∨": r"\text{or}",
}
for _code in (*range(0xBC, 0xBF), *range(0x2150, 0x215F), 0x2189):  # ½, ¾, …
    _above, _, _below = unicodedata.normalize("NFKC", chr(_code)).partition("\u2044")
    _CHARACTERS[chr(_code)] = rf"\frac{{{_above}}}{{{_below}}}"
for _code in range(0x3B1, 0x3CA):  # alpha to omega
    _name = unicodedata.name(chr(_code)).rsplit(" ", 1)[1].lower().replace("lamda", "lambda")
    _CHARACTERS[chr(_code)] = rf"\{_name} "
for _code in (*range(0xFF01, 0xFF5F), *range(0x1D400, 0x1D800)):  # wide and mathematical letters
    if (_plain := unicodedata.normalize("NFKC", chr(_code))).isascii():
        _CHARACTERS[chr(_code)] = _plain
_PLAIN = str.maketrans(_CHARACTERS)
_RAISED = {ord(c): str(i) for i, c in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")} | {ord("⁻"): "-", ord("ⁿ"): "n"}
_LOWERED = {ord(c): str(i) for i, c in enumerate("₀₁₂₃₄₅₆₇₈₉")}

_BARE = r"(\d|(?<=\s)[a-zA-Z]|\\pi(?![a-zA-Z]))"  # an argument without braces
_FONTS = r"(?:mathrm|mathbf|mathit|mathsf|mathnormal|boldsymbol|bm)"
_TEXTS = r"(?:text|textbf|textit|textrm|textsf|textnormal|mbox|hbox|emph)"
_OPERATIONS = r"(?:c[ua]p|times|cdot|div|pm|to|setminus|l[et]|g[et]|in|ne|and|or)(?![a-z])"
_TRIGONOMETRY = re.compile(r"\\(?:arc)?(?:sin|cos|tan|cot|sec|csc)")
_DEGREES = r"\s*\^\s*(?:\\circ(?![a-zA-Z])|\{\s*\\circ\s*\})"

# In this order. A command ends where its letters do; `\\` begins a row of a matrix.
_RESPELLED = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<=\d)(?:\\,|\{,\}|,?\\! ?,?)(?=\d{3}(?!\d))", ""),  # thousands
        (r"(?<=\d)\{,\}(?=\d{1,2}(?!\d))", "."),  # the comma of decimals
        (r"(?<!\\)\\!", ""),
        (r"~|(?<!\\)\\(?:[,;: ]|(?:q?quad|thinspace|enspace|nobreakspace)(?![a-zA-Z]))", " "),
        (r"\\(?:displaystyle|textstyle|limits|rm|bf|it|[hH]uge|[lL]arge|LARGE)(?![a-zA-Z])", ""),
        (r"\\(?:text)?color\s*\{\s*\w{1,20}\s*\}|\\checkmark(?![a-zA-Z])", ""),
        (r"\\(?:left|right|[bB]igg?[lrm]?)(?![a-zA-Z])[ .]?", ""),
        (r"\\[dtc](frac|binom)(?![a-zA-Z])", r"\\\1"),
        (rf"\\{_FONTS}\s*\{{\s*([^{{}}\\]|[\d.,]+)\s*\}}", r"\1"),  # one symbol, or a numeral
        (rf"\\(?:{_TEXTS}|{_FONTS})\s*\{{", r"\\text{"),
        (r"\\(?:lbrace|\{)(?![a-zA-Z])", r"\\{"),
        (r"\\rbrace(?![a-zA-Z])", r"\\}"),
        (r"\\(?:langle|lparen)(?![a-zA-Z])", "("),
        (r"\\(?:rangle|rparen)(?![a-zA-Z])", ")"),
        (r"\\lbrack(?![a-zA-Z])", "["),
        (r"\\rbrack(?![a-zA-Z])", "]"),
        (r"\\[lr]?vert(?![a-zA-Z])", "|"),
        (r"\\varnothing(?![a-zA-Z])", r"\\emptyset"),
        (r"\\leq(?:slant)?(?![a-zA-Z])", r"\\le"),
        (r"\\geq(?:slant)?(?![a-zA-Z])", r"\\ge"),
        (r"\\neq(?![a-zA-Z])", r"\\ne"),
        (r"\\equiv(?![a-zA-Z])", "="),
        (r"\\lt(?![a-zA-Z])", "<"),
        (r"\\gt(?![a-zA-Z])", ">"),
        (r"\\colon(?![a-zA-Z])", ":"),
        (r"\\(?:textdegree|degree)(?![a-zA-Z])", r"^\\circ "),
        (r"\\(?:lor|vee)(?![a-zA-Z])", r"\\text{or}"),
        (r"(?<=[\d)}+-])\s*\\text\{\s*i\s*\}", "i"),
        (r"^\((\w{1,100})\)\s*(?=_)", r"\1"),
        (r"\s*\(?\\[pb]?mod\s*(?:\{[^{}]*\}|\w+)\)?$", ""),
        (r"^(\d+)\s*(?:\\text\{\s*to\s*\}|to(?![a-zA-Z]))\s*(\d+)$", r"\1:\2"),
        (r"\\text\{\s*\\?[$%]\s*\}|\\?\$|\\pounds(?![a-zA-Z])", ""),
        (r"\^\s*\{?\s*\\text\{\s*(?:st|nd|rd|th)\s*\}\s*\}?", ""),
        (r"\*\*", "^"),
        (r"(?<![a-zA-Z\\])sqrt\s*(\d+)", r"\\sqrt{\1}"),
        (r"(?<![a-zA-Z\\])(pi|sqrt|infty)(?![a-zA-Z])", r"\\\1"),
        (r"(?<![a-zA-Z\\])infinity(?![a-zA-Z])", r"\\infty"),
        (
            rf"\\(frac|binom)\s*{_BARE}\s*(\d|[a-zA-Z](?![a-zA-Z])|\\pi(?![a-zA-Z]))",
            r"\\\1{\2}{\3}",
        ),
        (rf"\\(frac|binom)\s*{_BARE}\s*(?=\{{)", r"\\\1{\2}"),
        (r"\\sqrt\s*(\[\d+\])?\s*\(([^()]*)\)", r"\\sqrt\1{\2}"),
        (r"\\sqrt\s*(\[\d+\])?\s*(\d|[a-zA-Z])", r"\\sqrt\1{\2}"),
    )
]
_SQRT_SIGN = re.compile(r"([√∛])\s*(\d+(?:\.\d+)?)")
_REPEATING = re.compile(
    r"(\d{0,30})\.(\d{0,30})\\(?:overline|bar|dot)\s*(?:\{\s*(\d{1,30})\s*\}|(\d))", re.ASCII
)
_TEXT = re.compile(r"\\text\{([^{}\\]*)\}")
_LAST_TEXT = re.compile(r"\\text\{([^{}\\]*)\}(?:\s*\^\s*(?:\d|\{\s*\d\s*\}))?$")
_JOINED = re.compile(r"\\text\{\s*,?\s*(?:and|or)\s*,?\s*\}")
_NAMED = re.compile(r"^[a-zA-Z] ?= ?-?\d{1,3}(?:,\d{3})+(?:\.\d+)?$", re.ASCII)  # `x = 58,500`
_FUNCTION = re.compile(r"(?<![a-zA-Z\\])((?:arc)?(?:sin|cos|tan)h?|cot|csc|log|ln)(?![a-zA-Z])")
_BUILDER = re.compile(
    r"\\\{\s*([a-z])\s*(?:\\in\s*\\mathbb\s*\{?\s*R\s*\}?\s*)?(?:\\mid(?![a-zA-Z])|:|\|)(.*)\\\}"
)
_CHOICE = re.compile(
    r"(?:\\text\{\s*(?:\(\s*([A-J])\s*\)|([A-J])\s*[.:)])\s*\}|\(([A-J])\)(?=[\s\\])"
    rf"|([A-J])[.:)]\s)\s*(?=[^\s,;=+*/^_<>&])(?!\\?{_OPERATIONS})(.+)"
)

_CLOCK = re.compile(
    r"(\d\d?)((?::[0-5]\d){1,2})\s*(?:(?:\\text\{)?\s*([aApP])\.?\s*[mM]\.?\s*\}?)?", re.ASCII
)

# What is before an answer and says only that it is one.
_HEDGE = r"(?:about|approximately|approx\.?|roughly|around|exactly|only|nearly|almost)"
_SAYING = rf"(?:[^{{}}\\]{{0,80}}(?<![A-Za-z]))?(?:is|are|equals|{_HEDGE}|[A-Za-z ]{{1,40}}[:=])"
_LEAD = re.compile(
    rf"^(?:(?:\\(?:approx|therefore|implies|Rightarrow|Longrightarrow)(?![a-zA-Z])|="
    rf"|\\text\{{{_SAYING}\s*\}}(?=[^=,])|(?:[tT]he )?(?:[fF]inal )?[aA]nswer(?: is(?![a-z])|:)"
    rf"|{_HEDGE}\s(?=[\d.\\(+-]))\s*)+"
)
_MINUS = re.compile(r"^(?:\\text\{\s*(?:minus|negative)\s*\}|(?:minus|negative)\s)\s*")
_REMARK = re.compile(r"(?<=[\d)}])\s+\((?!base)[A-Za-z]{4,}[A-Za-z. ]{0,40}\)$")
_NOTHING = re.compile(r"^(?:\\text\{)?(?:[tT]he )?[eE]mpty set\}?$")
_REALS = re.compile(
    r"^(?:x ?\\in ?)?(?:\\text\{)?(?:[tT]he set of )?(?:[aA]ll|[tT]he) real(?: number)?s\}?$"
)
# Words among mathematics: two letters in `\text{}`, or what stands alone and is no product.
_SUBSCRIPT = re.compile(r"_\s*\{\s*\\text\{[^{}]*\}\s*\}")
_PROSE = re.compile(
    r"\\text\{[^{}a-zA-Z]*[a-zA-Z]{2}"
    r"|(?:^|(?<=[\s,;(]))(?!(?:choose|over|sqrt|arc|sinh|cosh|tanh|minus|plus|times)\b)[a-zA-Z]{4,}"
    r"(?=[\s,;.)]|$)"
)
_SHORT_UNITS = re.compile(
    r"[mcdk]m|in|ft|yd|mi|sq|cu|[mk]g|lbs?|oz|[mcd]l|gal|hrs?|mins?|secs?|ms|mph|kph|kmh|rpm|usd"
    r"|st|nd|rd|th|deg|pts",
    re.IGNORECASE,
)
_NO_UNITS = re.compile(
    r"and|or|if|when|where|for|with|to|mod|plus|minus|over|by|choose|squared|cubed|factorial"
)
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_ATTACHED = re.compile(r"(\d\s*)([a-zA-Z]{2,4})(?:\^(?:\d|\{\d\}))?$")
_WORD = re.compile(r"([a-zA-Z]{2,20})\.?(?:\^(?:\d|\{\d\}))?")
_MEASURED = re.compile(r"[\d)}\]!%]$|\\pi$")  # how something that has a unit ends


def strip(answer: str) -> str:
    """An answer without the white space around it and the punctuation after it."""
    answer = answer.strip().rstrip(_ENDING)
    if answer.endswith("\\") and not answer.endswith(r"\\"):  # what is left of a spacing command
        answer = answer[:-1].rstrip(_ENDING)
    return answer


def respell(answer: str) -> str:
    r"""The one spelling of an answer, without its unit, its currency and the choice's letter.

    An answer that is words becomes `\text{words}` if it was in any such command.
    """
    answer = _respell(answer)
    if clock := _CLOCK.fullmatch(answer):
        half = f" {clock[3].lower()}m" if clock[3] else ""
        return f"{int(clock[1])}{clock[2]}{half}"
    chosen = _CHOICE.fullmatch(answer)
    answer = chosen[5] if chosen else answer
    measure = _without_unit(answer)
    # The last unit of `5 apples and 3 pears` is no more to be left out than the first.
    return answer if is_prose(measure) else measure


def is_prose(answer: str) -> bool:
    r"""Whether there are words in an answer, other than a name for it: `\text{June } 20`.

    To a parser of mathematics they are products, so that `\angle ABC` is `\angle CBA`.
    """
    value = answer[answer.rfind("=") + 1 :]
    return len(answer) <= _LONGEST and bool(_PROSE.search(_SUBSCRIPT.sub("", value)))


def choice(answer: str) -> str | None:
    r"""The letter before the answer's value, `C` of `\textbf{(C)}\ 5`; None without either."""
    chosen = _CHOICE.fullmatch(_respell(answer))
    return next(filter(None, chosen.groups())) if chosen else None


def _respell(answer: str) -> str:
    if len(answer) > _LONGEST:
        return answer
    if not answer.isascii():
        answer = _SQRT_SIGN.sub(lambda m: m[1] + "{" + m[2] + "}", answer)
        answer = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ]+", lambda m: f"^{{{m[0].translate(_RAISED)}}}", answer)
        answer = re.sub("[₀-₉]+", lambda m: f"_{{{m[0].translate(_LOWERED)}}}", answer)
        answer = answer.translate(_PLAIN)
    for pattern, replacement in _RESPELLED:
        answer = pattern.sub(replacement, " ".join(answer.split()))  # one blank at a time
    answer = " ".join(strip(answer).split())
    inner = _TEXT.fullmatch(answer)
    if inner and not inner[1].strip()[:1].isalpha():  # `\text{025}`, `\text{1:03 PM}`
        opened = inner[1].strip()
        if not re.fullmatch(r"\([A-Za-z]\)", opened):
            answer = opened
    answer = _REPEATING.sub(_as_fraction, answer)
    if "circ" in answer:
        if _TRIGONOMETRY.search(answer):  # an angle in degrees is a number of its own there
            answer = re.sub(
                rf"(?<![\d.])(\d+(?:\.\d+)?){_DEGREES}", r"(\\frac{\1\\pi}{180})", answer
            )
        answer = re.sub(rf"{_DEGREES}\s*(?:\\text\{{\s*[CF]\s*\}}|[CF](?![a-zA-Z]))?", " ", answer)
    if r"\text" not in answer:
        answer = _FUNCTION.sub(r"\\\1", answer)
    if not _TEXT.fullmatch(answer):
        answer = re.sub(r",\s*,", ",", _JOINED.sub(",", answer))
    if built := _BUILDER.fullmatch(answer):
        answer = built[2] if built[1] in built[2] else answer
    if answer[:1] == "<" and answer[-1:] == ">" and "," in answer:
        answer = f"({answer[1:-1]})"
    answer = _LEAD.sub("", strip(answer))
    answer = _REMARK.sub("", _MINUS.sub("-", answer))
    answer = _REALS.sub(r"\\mathbb{R}", _NOTHING.sub(r"\\emptyset", answer))
    return _NAMED.sub(lambda named: named[0].replace(",", ""), answer)


def _as_fraction(repeating: re.Match[str]) -> str:
    r"""The fraction that `0.1\overline{6}` is."""
    whole, once, again = repeating[1], repeating[2], repeating[3] or repeating[4]
    below = (10 ** len(again) - 1) * 10 ** len(once)
    above = int((whole + once + again) or 0) - int((whole + once) or 0)
    return rf"\frac{{{above}}}{{{below}}}"


def _without_unit(answer: str) -> str:
    r"""An answer without what says of what it is a number: `12 dollars`, `8 \text{ cm}^2`."""
    scale = ""
    for _ in range(4):  # `\text{ m}/\text{s}`
        found = _LAST_TEXT.search(answer)
        before = strip(answer[: found.start()]) if found else ""
        if not found or not before or before[-1] in "_^=+-" or _TEXT.fullmatch(before):
            break
        scale = _scale(found[1].split()) or scale
        before = before.replace(rf"\text{{{found[1]}}}", "")  # `5 \text{ cm}, 3 \text{ cm}`
        answer = before.rstrip("/") if before.endswith("}/") else before
    words: list[str] = []
    rest = answer
    for _ in range(6):  # `18 square inches`
        before, _, last = rest.rpartition(" ")
        word = _WORD.fullmatch(last)
        if not word or not before:
            break
        words.insert(0, word[1])
        rest = strip(before)
    if (
        words
        and _MEASURED.search(rest)
        and not any(map(_NO_UNITS.fullmatch, words))
        and any(len(word) > 3 or _SHORT_UNITS.fullmatch(word) for word in words)
    ):
        answer, scale = rest, _scale(words) or scale
    elif (found := _ATTACHED.search(answer)) and _SHORT_UNITS.fullmatch(found[2]):
        answer = answer[: found.end(1)].rstrip()
    return answer + scale


def _scale(words: list[str]) -> str:
    """The power of ten of `2 million dollars`."""
    power = _SCALES.get(words[0].lower(), 0) if words else 0
    return rf"\times 10^{{{power}}}" if power else ""
