"""Delimiters found in the text itself, as a reader would: what the automaton is compared with."""

from collections.abc import Sequence

Span = tuple[int, int]
SPECIAL = "\0"  # a special token, which has no text, but stands between others


def spans_of(texts: Sequence[str]) -> list[Span]:
    """First and end of each token in the text of all."""
    spans, end = [], 0
    for text in texts:
        spans.append((end, end + len(text or SPECIAL)))
        end = spans[-1][1]
    return spans


def delimiters_of(texts: Sequence[str], delimiter: str) -> list[Span]:
    """First and end of each delimiter in the text; they may share characters."""
    whole = "".join(text or SPECIAL for text in texts)
    firsts = [i for i in range(len(whole)) if whole.startswith(delimiter, i)]
    return [(first, first + len(delimiter)) for first in firsts]


def closed(texts: Sequence[str], delimiter: str) -> list[bool]:
    """Whether the text up to the end of each token ends with a delimiter."""
    ends = {end for _, end in delimiters_of(texts, delimiter)}
    return [last in ends for _, last in spans_of(texts)]


def ended(texts: Sequence[str], delimiter: str) -> list[bool]:
    """Which tokens end a step: they complete a delimiter that is not right behind another one."""
    found = delimiters_of(texts, delimiter)
    alone = [
        end for i, (first, end) in enumerate(found) if i == 0 or found[i - 1][1] < first
    ]  # text lies before it
    return [any(first < end <= last for end in alone) for first, last in spans_of(texts)]


def taken(texts: Sequence[str], delimiter: str) -> list[int]:
    """Characters that delimiters over several tokens take: from a token's end, or -n: its start."""
    found, counts = delimiters_of(texts, delimiter), []
    for text, (first, last) in zip(texts, spans_of(texts), strict=True):
        closing = [end - first for begin, end in found if begin < first < end <= last]
        opening = [last - max(begin, first) for begin, end in found if begin < last < end]
        count = -closing[0] if closing else max(opening, default=0)
        counts.append(0 if delimiter in text else count)
    return counts
