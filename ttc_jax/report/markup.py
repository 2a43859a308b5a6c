"""A report's tables as LaTeX and as Markdown."""

from __future__ import annotations

import re
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
_MARKDOWN: Final = re.compile(r"([\\`*_\[\]<>|#~$&])")


def latex(table: Table) -> str:
    r"""A `tabular` with the rules of booktabs, below its title as a comment.

    Intervals stand below their numbers, small.
    """
    rows = table.cells
    columns = zip(*rows, strict=True)
    numbers = [any(cell.number for cell in column) for column in columns]
    head = " & ".join(map(_tex, table.header))
    body = [" & ".join(map(_tex_cell, row)) + r" \\" for row in rows]
    lines = [
        "% " + " ".join(table.title.split()),
        r"% needs \usepackage{booktabs}",
        rf"\begin{{tabular}}{{{''.join('r' if number else 'l' for number in numbers)}}}",
        r"\toprule",
        head + r" \\",
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
