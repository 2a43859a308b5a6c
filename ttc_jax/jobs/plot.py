"""Draws the figures of a report for a paper, and sets its tables; no model is needed.

    ttc plot --workdir=runs/report --format=pdf,tex --width=column

WORKDIR is that of `ttc report`, of which its summaries.json is read: all else may be gone.
WORKDIR/paper gets a file a figure and a file a table, named after the report's sections. Figures
are vectors with text in a serif face at 8 points, colours and names those of the report, without a
heading, as a paper has captions. The same report gives the same bytes.

--format=pdf,tex    figures as pdf, svg or png; tables as tex (LaTeX with booktabs) or md (Markdown)
--width=column      of figures: column (3.25 inches), text (6.75 inches) or a number of inches
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ml_collections import ConfigDict

from ttc_jax.errors import UserError
from ttc_jax.hosts import hosts
from ttc_jax.report.markup import latex, markdown
from ttc_jax.report.sections import sections
from ttc_jax.report.style import Style, images, paper
from ttc_jax.report.table import Section
from ttc_jax.report.writing import write_files
from ttc_jax.results.summary_file import read_summaries

TAKES = ()
FOLDER: Final = "paper"
_FIGURES: Final = ("pdf", "svg", "png")
_TABLES: Final = {"tex": latex, "md": markdown}
_WIDTHS: Final = {"column": 3.25, "text": 6.75}  # of two-column conferences
_LEAST, _MOST = 1.5, 50.0  # inches


def main(_: ConfigDict, workdir: Path, *, format: str = "pdf,tex", width: str = "column") -> None:  # noqa: A002
    """Writes the files; of several hosts the first does."""
    if not hosts.is_first():
        return
    kinds, style = _kinds(format), paper(_inches(width))
    contents: dict[str, bytes] = {}
    for section in sections(read_summaries(workdir)):
        contents |= _files(section, kinds, style)
    for path in write_files(contents, workdir / FOLDER):
        print(path)


def _kinds(text: str) -> list[str]:
    kinds, known = text.split(","), (*_FIGURES, *_TABLES)
    for kind in kinds:
        if kind not in known:
            raise UserError(f"--format={text}: {kind!r} is none of {', '.join(known)}")
    return kinds


def _inches(text: str) -> float:
    try:
        width = _WIDTHS[text] if text in _WIDTHS else float(text)
    except ValueError:
        width = 0.0
    if not _LEAST <= width <= _MOST:
        raise UserError(
            f"--width={text}: must be column, text or inches from {_LEAST:g} to {_MOST:g}"
        )
    return width


def _files(section: Section, kinds: list[str], style: Style) -> dict[str, bytes]:
    """The section's figure and tables, by file name."""
    found: dict[str, bytes] = {}
    figures = [kind for kind in kinds if kind in _FIGURES]
    if section.draw is not None and figures:
        found |= images(section.name, section.draw(style), figures, style)
    for place, table in enumerate(section.tables, 1):
        name = section.name if place == 1 else f"{section.name}_{place}"
        for kind in kinds:
            if kind in _TABLES:
                # An answer in a table may hold lone surrogates, which no file can.
                found[f"{name}.{kind}"] = _TABLES[kind](table).encode("utf-8", "replace")
    return found
