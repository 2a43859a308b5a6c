r"""Final answers of solutions to competition problems that give them in prose, without a box.

They are sought where the usual prompts with worked examples put them ("The final answer is $16\pi$.
I hope it is correct."), then in the last formula of the last sentence ("Therefore, $x^3=12$.").

Solutions are untrusted: everything here takes time linear in the text. All but the search for the
phrases looks at windows of bounded length.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

from ttc_jax.tasks.answers import strip
from ttc_jax.tasks.extraction import answer_part
from ttc_jax.tasks.numerals import counted, numerals, plain, spelled
from ttc_jax.tasks.prose import CLAUSE, OPERATION, WORDS, last_statement, nearest_number

_WINDOW = 1000  # characters that are looked at behind a phrase, or before one
_ENDING = 3000  # characters in which the last sentence is sought
_MAX_WORDS = 3  # of an answer that is no mathematics

_INLINE = r"(?:[^$\\\n]|\\.){1,500}"
_FORMULA = re.compile(
    r"\$\$([^$]{1,1000})\$\$|\\\[((?:[^\\]|\\[^\]]){1,1000}?)\\\]"
    r"|\\\(((?:[^\\\n]|\\[^)\n]){1,1000}?)\\\)"
    r"|(\\begin\{(?P<name>align|equation|gather|eqnarray)(?P<star>\*?)\}.{1,1500}?"
    r"\\end\{(?P=name)(?P=star)\})"
    # Between blanks a dollar may be money, as in "$5 and $6".
    rf"|(?<![\\$])\$(?:(?!\s)({_INLINE})(?<!\s)\$(?!\d)|(\s{_INLINE}\s)\$"
    rf"|(?=[^$\n]{{1,500}}[=\\^])({_INLINE})\$)",
    re.DOTALL,
)
_ENVIRONMENT = re.compile(r"\\(begin|end)\{[a-z]+\*?\}|\\\\")
_MODULUS = re.compile(r"\s*(?:\\q?quad|\\[,;: ])*\s*\\pmod\s?(?:\{[^{}]*\}|\w)$")
_RELATION = re.compile(r"=|\\equiv|\\approx")
_COMPARISON = r"(?:[=<>]|\\(?:leq?|geq?|in)\b)"
_SYMBOL = re.compile(rf"\s*([A-Za-z](?:_\{{?\w\}}?)?)\s*{_COMPARISON}[^=<>]*")
_STOP = re.compile(r"[.!?](?=[*_\"')]{0,4}(?:\s|$))|\n\s*\n(?!\s*(?:\\\[|\$\$))")
_LINK = re.compile(r"\s*,?\s*(?:and|or)\s*|\s*,\s*")
_END = re.compile(rf"{_STOP.pattern}|\n")
_MARKUP = " \t\n*_`:>~≈=#\"'"
_WORD = re.compile(r"(?<![\\A-Za-z])(?!(?:sin|cos|tan|log|ln|pi|sqrt|or|and)\b)[A-Za-z]{2,}")
_REMARK = re.compile(
    r"\s*(?:I hope (?:it|this|that)\b[^\n]{0,60}|\$?\\(?:blacksquare|square|qed)\$?|[∎■□])\s*$"
)
_COMPLETE = re.compile(r"(?:[.!]|\$|\\[\])]|\\end\{[a-z]+\*?\})[*_\"')]{0,4}$")
_BOLD = re.compile(r"\*\*([^*\n]{1,100})\*\*[^*\d]{0,60}$")
_CONCLUSION = re.compile(
    r"\W*(?:therefore|thus|hence|so|consequently|finally|in (?:total|all|conclusion)|altogether)\b",
    re.IGNORECASE,
)


def stated_answer(solution: str) -> str | None:
    """The answer that a solution gives in prose: near "the answer is", or in its last sentence.

    The last sentence must be a whole one, as where a solution was cut off tells nothing. A formula
    is taken from it, or a plain number where the sentence draws a conclusion ("So there are 12.").
    """
    text = answer_part(solution)
    return last_statement(text, _at_mark) or _conclusion(text)


def _at_mark(mark: re.Match[str]) -> str | None:
    if mark["title"] or mark["verb"]:
        return _behind(mark.string[mark.end() : mark.end() + _WINDOW], bool(mark["title"]))
    if mark["before"]:
        before = mark.string[max(0, mark.start() - _WINDOW) : mark.start()]
        return _last(_last_sentence(before)[1])
    return None


def _behind(text: str, title: bool) -> str | None:
    """The answer in the first sentence of a text, as `nearest_number` takes it."""
    found = _formulas(text)
    content = len(text) - len(text.lstrip(_MARKUP))
    ends = [x.start() for x in _outside(_END.finditer(text), found)]
    end = next((x for x in ends if x >= content), len(text))
    sentence, formulas = text[:end], [x for x in found if x.start() < end]
    before = sentence[: formulas[0].start()] if formulas else sentence
    if not formulas or next(numerals(plain(before)), None):
        return _in_words(text, sentence, title)
    if OPERATION.search(before):
        return _last(formulas)
    answer, after = _joined(formulas)
    goes_on = len(found) > len(formulas) or next(numerals(plain(text[end:])), None)
    brief = len(sentence[after:].split()) < _MAX_WORDS or CLAUSE.match(sentence, after)
    return None if goes_on and (WORDS.search(before) or (title and not brief)) else answer


def _in_words(text: str, sentence: str, title: bool) -> str | None:
    """The answer of a sentence without formulas: mathematics, a number or a few words."""
    answer = sentence.strip(_MARKUP + "$")
    if "boxed" in answer:  # an empty one
        return None
    if not _WORD.search(answer):
        return strip(answer) or None
    if next(numerals(plain(sentence)), None):
        return nearest_number(plain(text), title)
    words = strip(CLAUSE.split(answer, maxsplit=1)[0].strip(_MARKUP))
    return words if 0 < len(words.split()) <= _MAX_WORDS else None


def _conclusion(text: str) -> str | None:
    """The answer in the last sentence of a text."""
    text = _REMARK.sub("", text[-_ENDING:].rstrip()).rstrip()
    if not _COMPLETE.search(text):
        return None
    sentence, formulas = _last_sentence(text)
    if text.rstrip("*_\"')")[-1:] not in (".", "!", "]", "}"):
        # It ends in a line without a full stop: the last one, or one that was cut off.
        displayed = text.endswith("$$")
        ended = bool(formulas) and formulas[-1].end() == len(text.rstrip("*_\"'"))
        if not ended or not (displayed or _CONCLUSION.match(sentence)):
            return None
    if formulas:
        return _last(formulas)
    if bold := _BOLD.search(sentence):
        return counted(bold[1])
    found = list(numerals(plain(sentence))) if _CONCLUSION.match(sentence) else []
    return spelled(found[-1]) if found else None


def _last_sentence(text: str) -> tuple[str, list[re.Match[str]]]:
    """The last sentence of a text, and its formulas (which know their places in the text)."""
    formulas = _formulas(text)
    ends = [x.end() for x in _outside(_STOP.finditer(text), formulas)]
    ends += [x.end() for x in formulas if x[0].rstrip("$)]\\ \n")[-1:] in (".", "!")]
    start = max((x for x in ends if text[x:].strip(_MARKUP + ")]}$\\")), default=0)
    return text[start:], [x for x in formulas if x.start() >= start]


def _formulas(text: str) -> list[re.Match[str]]:
    """The formulas of a text that hold something other than an empty box."""
    return [x for x in _FORMULA.finditer(text) if _content(x) and "boxed" not in x[0]]


def _content(formula: re.Match[str]) -> str:
    """What a formula says; of lines that are aligned the last, or the result of all."""
    if not formula["name"]:
        return strip(next(x for x in formula.groups() if x is not None))
    lines = formula[0].partition("}")[2].rpartition(r"\end")[0].rstrip().removesuffix(r"\\")
    depth, start = 0, 0
    for mark in _ENVIRONMENT.finditer(lines):
        depth += {"begin": 1, "end": -1}.get(mark[1] or "", 0)  # of a matrix
        if not (mark[1] or depth):
            start = mark.end()
    last = lines[start:].replace("&=", "=").strip().lstrip("& \n")
    last = last if r"\begin" in last else last.replace("&", " ")
    last = _MODULUS.sub("", strip(last))
    return strip(_RELATION.split(last)[-1]) if _RELATION.match(last) else last


def _outside(
    found: Iterable[re.Match[str]], formulas: Sequence[re.Match[str]]
) -> Iterator[re.Match[str]]:
    """Those that lie in no formula."""
    return (x for x in found if not any(f.start() <= x.start() < f.end() for f in formulas))


def _joined(formulas: Sequence[re.Match[str]]) -> tuple[str, int]:
    """The first formula with those that a list goes on with, `$1$, $2$ and $3$`, and its end."""
    items = [formulas[0]]
    for one, other in itertools.pairwise(formulas):
        if not _listed(one, other):
            break
        items.append(other)
    return ", ".join(map(_content, items)), items[-1].end()


def _last(formulas: Sequence[re.Match[str]]) -> str | None:
    """The last formula with those that its list begins with."""
    # "for all $x$": a variable alone is seldom the answer.
    formulas = [x for x in formulas if len(_content(x)) > 1 or _content(x).isdigit()] or formulas
    if not formulas:
        return None
    answers = [_content(formulas[-1])]
    for one, other in zip(formulas[-2::-1], formulas[:0:-1], strict=True):
        if not _listed(one, other):
            break
        answers.append(_content(one))
    return ", ".join(reversed(answers))


def _listed(one: re.Match[str], other: re.Match[str]) -> bool:
    """Whether two formulas are items of a list: values, or values of the same variable."""
    if not _LINK.fullmatch(one.string, one.end(), other.start()):
        return False
    names = [_SYMBOL.fullmatch(_content(x)) for x in (one, other)]
    if any(names):
        return all(names) and len({name[1] for name in names if name}) == 1
    return not any(re.search(_COMPARISON, x[0]) for x in (one, other))
