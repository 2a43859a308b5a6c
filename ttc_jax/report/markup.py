"""A report's tables as LaTeX and as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from ttc_jax.report.table import Cell, Table

_LATEX: Final = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "≥": r"$\ge$",
    "×": r"$\times$",
    "−": r"$-$",
    "–": "--",
    "…": r"\dots{}",
    **{x: f"\\{x}" for x in "&%$#_{}"},
}
_LATIN, _QUOTES = 0x17F, "‘’“”„—€"  # letters up to it, and other characters, that pdfLaTeX sets
_MARKDOWN: Final = re.compile(r"([\\`*_\[\]<>|#~$&])")


def latex(table: Table) -> str:
    r"""A `tabular` with the rules of booktabs, below its title as a comment.

    Intervals stand below their numbers, small. Letters beyond Latin stay as they are, and a comment
    says what sets them.
    """
    rows = table.cells
    columns = zip(*rows, strict=True)
    numbers = [any(cell.number for cell in column) for column in columns]
    head, *body = [
        _tex_row([_tex(name) for name in table.header]),
        *(_tex_row([_tex_cell(cell) for cell in row]) for row in rows),
    ]
    lines = [
        "% " + " ".join(table.title.split()),
        r"% needs \usepackage{booktabs}",
        *_tex_fonts([head, *body]),
        rf"\begin{{tabular}}{{{''.join('r' if number else 'l' for number in numbers)}}}",
        r"\toprule",
        head,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def markdown(table: Table) -> str:
    """A table of GitHub's Markdown, with intervals in brackets."""
    rows = table.cells
    numbers = [any(cell.number for cell in column) for column in zip(*rows, strict=True)]
    lines = [
        [_md(name) for name in table.header],
        ["---:" if number else "---" for number in numbers],
        *([_md_cell(cell) for cell in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _tex(text: str) -> str:
    return "".join(_LATEX.get(x, x) for x in " ".join(text.split()))


def _tex_row(cells: Sequence[str]) -> str:
    r"""Returns a row; a first cell such as "[x]" or "*" is no argument of the command before it."""
    row = " & ".join(cells) + r" \\"
    return "{}" + row if row.startswith(("[", "*")) else row


def _tex_fonts(rows: Sequence[str]) -> list[str]:
    """Returns a comment that says what letters need more than pdfLaTeX and its fonts, if any do."""
    letters = sorted({x for row in rows for x in row if ord(x) > _LATIN and x not in _QUOTES})
    if not letters:
        return []
    return [f"% needs XeLaTeX or LuaLaTeX, and a font that has {' '.join(letters)}"]


def _tex_cell(cell: Cell) -> str:
    text = _tex(cell)
    if not cell.interval:
        return text
    interval = _tex(cell.interval.replace(" to ", "–"))
    return rf"\shortstack[r]{{{text}\\{{\tiny {interval}}}}}"


def _md(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def _md_cell(cell: Cell) -> str:
    return f"{_md(cell)} ({_md(cell.interval)})" if cell.interval else _md(cell)
