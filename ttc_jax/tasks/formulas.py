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
from ttc_jax.tasks.numerals import numerals, plain, spelled
from ttc_jax.tasks.prose import CLAUSE, OPERATION, last_statement, nearest_number

_WINDOW = 1000  # characters that are looked at behind a phrase, or before one
_ENDING = 3000  # characters in which the last sentence is sought
_MAX_WORDS = 3  # of an answer that is no mathematics

# Dollars that stand for money are told by the blanks around them: `$5 and $6` is no formula.
_FORMULA = re.compile(
    r"\$\$([^$]{1,1000})\$\$|\\\[((?:[^\\]|\\[^\]]){1,1000}?)\\\]"
    r"|\\\(((?:[^\\\n]|\\[^)\n]){1,1000}?)\\\)"
    r"|(?<![\\$])\$(?!\s)((?:[^$\\\n]|\\.){1,500})(?<!\s)\$(?!\d)"
    r"|(?<![\\$])\$\s((?:[^$\\\n]|\\.){1,500})\s\$"
)
_STOP = re.compile(r"[.!?](?=[*_\"')]{0,4}(?:\s|$))|\n\s*\n(?!\s*(?:\\\[|\$\$))")
_LIST = re.compile(r"\s*,?\s*(?:and|or)\s*|(\s*,\s*)")
_MARKUP = " \t\n*_`:>~≈=#\"'"
_WORD = re.compile(r"(?<![\\A-Za-z])(?!(?:sin|cos|tan|log|ln|pi|sqrt|or|and)\b)[A-Za-z]{2,}")
_REMARK = re.compile(
    r"\s*(?:I hope (?:it|this|that)\b[^\n]{0,60}|\$?\\(?:blacksquare|square|qed)\$?|[∎■□])\s*$"
)
_COMPLETE = re.compile(r"(?:[.!]|\$|\\[\])])[*_\"')]{0,4}$")
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
    if mark["behind"] is not None:
        return _behind(mark.string[mark.end() : mark.end() + _WINDOW])
    if mark["before"]:
        before = mark.string[max(0, mark.start() - _WINDOW) : mark.start()]
        return _last(_last_sentence(before)[1])
    return None


def _behind(text: str) -> str | None:
    """The answer in the first sentence of a text: the nearest formula, or else words."""
    formulas = _formulas(text)
    content = len(text) - len(text.lstrip(_MARKUP))
    ends = [x.start() for x in _outside(re.finditer(rf"{_STOP.pattern}|\n", text), formulas)]
    end = next((x for x in ends if x >= content), len(text))
    sentence, formulas = text[:end], [x for x in formulas if x.start() < end]
    before = sentence[: formulas[0].start()] if formulas else sentence
    if not formulas or next(numerals(plain(before)), None):
        return _in_words(sentence)
    if OPERATION.search(before):
        return _last(formulas)
    return _joined(formulas)


def _in_words(sentence: str) -> str | None:
    """The answer of a sentence without formulas: mathematics, a number or a few words."""
    answer = sentence.strip(_MARKUP + "$")
    if "boxed" in answer:  # an empty one
        return None
    if not _WORD.search(answer):
        return strip(answer) or None
    if found := nearest_number(plain(sentence)):
        return found
    words = strip(CLAUSE.split(answer, maxsplit=1)[0].strip(_MARKUP))
    return words if 0 < len(words.split()) <= _MAX_WORDS else None


def _conclusion(text: str) -> str | None:
    """The answer in the last sentence of a text."""
    text = _REMARK.sub("", text[-_ENDING:].rstrip()).rstrip()
    if not _COMPLETE.search(text):
        return None
    sentence, formulas = _last_sentence(text)
    if formulas:
        return _last(formulas)
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
    return strip(next(filter(None, formula.groups())))


def _outside(
    found: Iterable[re.Match[str]], formulas: Sequence[re.Match[str]]
) -> Iterator[re.Match[str]]:
    """Those that lie in no formula."""
    return (x for x in found if not any(f.start() <= x.start() < f.end() for f in formulas))


def _joined(formulas: Sequence[re.Match[str]]) -> str:
    """The first formula with those that a list goes on with: `$1$, $2$ and $3$`."""
    answers = [_content(formulas[0])]
    for one, other in itertools.pairwise(formulas):
        if not _listed(one, other):
            break
        answers.append(_content(other))
    return ", ".join(answers)


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
    """Whether two formulas are items of a list; equations behind a comma follow from each other."""
    link = _LIST.fullmatch(one.string, one.end(), other.start())
    return bool(link) and not (link[1] and "=" in one[0] + other[0])
