"""Tables of a report, and the sections of its page that they stand in."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from matplotlib.figure import Figure

from ttc_jax.report.console import label
from ttc_jax.report.looks import known_as
from ttc_jax.report.style import SCREEN, Style

Row = Mapping[str, Any]
Summary = Mapping[str, Any]
# Columns that hold what a row says; the others, what it is about.
_VALUES: Final = ("mean", "low", "high", "ratio", "censored", "value")


class Cell(str):
    """What a table's cell shows; of a number, perhaps with its interval."""

    interval = ""
    number = False


@dataclasses.dataclass(frozen=True)
class Table:
    """A long table: one line an estimate, a ratio or a value.

    Attributes:
      title: what its numbers are.
      rows: by column. Estimates are "mean", "low" and "high", shares of 1; ratios "ratio", "low",
        "high" and "censored".
      across: the column whose values become columns when it is shown; "": none does.
    """

    title: str
    rows: Sequence[Row]
    across: str = ""

    @property
    def header(self) -> list[str]:
        """The columns, as they are shown."""
        return [name.replace("_", " ") for name in self._about] + list(map(str, self._spread))

    @property
    def cells(self) -> list[list[Cell]]:
        """Row by row, as many as `header`."""
        if not self.across:
            return [[_about(name, row.get(name)) for name in self._about] for row in self.rows]
        found: dict[tuple[Any, ...], dict[Any, Cell]] = {}
        for row in self.rows:
            about = tuple(row.get(name) for name in self._about)
            found.setdefault(about, {})[row[self.across]] = _value(row)
        return [
            [*map(_about, self._about, about), *(values.get(name, Cell()) for name in self._spread)]
            for about, values in found.items()
        ]

    @property
    def csv(self) -> str:
        """The long table, for machines."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()

    @property
    def _columns(self) -> list[str]:
        return list(dict.fromkeys(name for row in self.rows for name in row))

    @property
    def _about(self) -> list[str]:
        left_out = (self.across, *_VALUES) if self.across else ()
        return [name for name in self._columns if name not in left_out]

    @property
    def _spread(self) -> list[Any]:
        return list(dict.fromkeys(row[self.across] for row in self.rows)) if self.across else []


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
      name: its anchor, and what its files are called.
      caption: what to see.
      draw: draws the figure in a style; None: the tables speak for themselves, and are not hidden
        behind one.
    """

    name: str
    title: str
    caption: str
    tables: Sequence[Table]
    draw: Callable[[Style], Figure] | None = None

    @functools.cached_property
    def figure(self) -> Figure | None:
        """The figure on a screen."""
        return None if self.draw is None else self.draw(SCREEN)


def accuracy_by_budget(summary: Summary) -> Table:
    """The accuracy of each strategy at each N."""
    title = "accuracy in % and its 95 % interval, by N"
    return Table(title, list(rows_by_budget(summary["accuracy"], summary)), "N")


def rows_by_budget(
    accuracy: Mapping[str, Mapping[str, Row]], summary: Summary | None = None
) -> list[Row]:
    """Rows, ordered by N within a strategy, and such that columns come in order.

    Args:
      summary: that says which rule chose among independent samples, if it does.
    """
    budgets = sorted({int(n) for curve in accuracy.values() for n in curve})
    return [
        {"strategy": known_as(name, summary or {}), "N": n, **curve.get(str(n), {"value": ""})}
        for name, curve in accuracy.items()
        for n in budgets
    ]


def _about(column: str, value: Any) -> Cell:
    """Returns what a row is about; strategies have the names that they have in figures."""
    return _plain(label(value) if column == "strategy" else value)


def _value(row: Row) -> Cell:
    if "value" in row:
        return _plain(row["value"])
    if "ratio" in row:
        if row.get("censored"):  # the curve ends before: the interval's lower end is supported
            cell = Cell(f"≥ {row['low']:.2f}×")
        else:
            cell = Cell(f"{row['ratio']:.2f}×")
            cell.interval = f"{row['low']:.2f} to {row['high']:.2f}"
    else:
        cell = Cell(f"{100 * row['mean']:.1f}")
        cell.interval = f"{100 * row['low']:.1f} to {100 * row['high']:.1f}"
    cell.number = True
    return cell


def _plain(value: Any) -> Cell:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Cell("" if value is None else value)
    whole = isinstance(value, int)
    cell = Cell(f"{value:,}" if whole else f"{value:.4g}" if value >= 1e7 else f"{value:,.10g}")
    cell.number = True
    return cell
