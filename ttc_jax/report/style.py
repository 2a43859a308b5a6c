"""How figures look: on a screen, or in the columns of a paper."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Iterator, Sequence
from typing import Any, Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter
from scipy.optimize import isotonic_regression

# Tell apart under every colour blindness, and dark enough to set text in (Okabe and Ito, 2008).
COLORS: Final = (
    ("#0072b2", "o"),
    ("#d55e00", "s"),
    ("#009e73", "D"),
    ("#cc79a7", "^"),
    ("#7f5f00", "v"),
    ("#3a9ad1", "P"),
    ("#5e3c99", "X"),
    ("#8a0f3c", "*"),
)
CEILING: Final = ("#6b6b6b", "")  # pass@N is a bound, not a rule: no markers
INK: Final = "#222222"
FAINT: Final = "#6b6b6b"
_SERIF: Final = ["STIXGeneral", "Times New Roman", "Times"]  # the first comes with matplotlib
_NAMED: Final = 5.0  # inches from which on there is room for names beside lines
_SETTINGS: Final[dict[Any, Any]] = {
    "text.parse_math": False,  # a "$" in a name is a "$"
    "svg.hashsalt": "ttc_jax",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,  # TrueType: publishers refuse Type 3
    "axes.edgecolor": "#b0b0b0",
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
_UNDATED: Final[dict[str, dict[str, Any]]] = {
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}


@dataclasses.dataclass(frozen=True)
class Style:
    """Size and type of a figure.

    Attributes:
      width: inches that it takes; 0: as many as its panels need, and a heading, as on a screen. In
        a paper the caption is the heading.
      text: points of its text.
      line: its lines and markers, in times of those on a screen.
      panel, name: inches that a panel and a name in a legend need, where the width is given.
      family: of its type.
    """

    width: float = 0.0
    text: float = 11.0
    line: float = 1.0
    panel: float = 1.3
    name: float = 1.3
    family: str = "DejaVu Sans"

    @property
    def headed(self) -> bool:
        """Whether a figure says itself what it shows."""
        return not self.width

    @property
    def named(self) -> bool:
        """Whether lines have their names beside them; else there is a legend."""
        return self.headed or self.width >= _NAMED

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Draws with these settings meanwhile."""
        fonts: dict[Any, Any] = {
            "font.size": self.text,
            "font.family": [self.family],
            "font.serif": _SERIF,
        }
        scaled: dict[Any, Any] = {
            "lines.linewidth": 1.5 * self.line,
            "axes.linewidth": 0.8 * self.line,
            "figure.dpi": 160 if self.headed else 300,
        }
        with matplotlib.rc_context(_SETTINGS | fonts | scaled):
            yield

    def panels(
        self, count: int, across: int, size: tuple[float, float], **options: Any
    ) -> tuple[Figure, list[Axes]]:
        """A figure of panels, row by row.

        Args:
          across: panels of a row, where there is room for as many.
          size: inches of all of them on a screen.
          options: as `Figure.subplots`.
        """
        if self.headed:
            width, height = size
        else:
            across = min(across, max(1, int(self.width // self.panel)))
            rows = -(-count // across)
            width, one = self.width, self.width / across
            height = 0.5 + rows * min(2.4, max(0.7 * one, 1.3))
        figure = Figure(figsize=(width, height), layout="constrained")
        rows = -(-count // across)
        every = figure.subplots(rows, across, squeeze=False, **options).flat
        found = list(every)
        for axes in found[count:]:
            axes.remove()
        return figure, found[:count]

    def plot(self, axes: Axes, *data: Any, **options: Any) -> None:
        """Plots as matplotlib does, with widths and sizes in times of those on a screen."""
        for name in {"lw", "markersize"} & options.keys():
            options[name] *= self.line
        axes.plot(*data, **options)

    def legend(self, figure: Figure, axes: Axes, across: int, **options: Any) -> None:
        """Names the lines of a panel below the figure, in a paper above it.

        Args:
          across: names of a row, where there is room for as many.
        """
        handles, labels = axes.get_legend_handles_labels()
        place = "outside lower center"
        if not self.headed:
            place = "outside upper center"
            across = min(across, max(1, int(self.width // self.name)))
            rows = -(-len(labels) // across)
            # Beyond the second row a legend takes no room from the panels.
            figure.set_figheight(figure.get_figheight() + 0.02 * self.text * max(0, rows - 2))
        figure.legend(handles, labels, loc=place, ncols=across, frameon=False, **options)


SCREEN: Final = Style()
PHONE: Final = Style(4.6, text=9.0, panel=3.0, name=2.2)  # panels stand below each other


def paper(width: float) -> Style:
    """Figures so many inches wide, in the type of a paper."""
    return Style(width, text=8.0, line=0.6, family="serif")


def images(
    name: str, figure: Figure, kinds: Sequence[str] = ("png", "svg"), style: Style = SCREEN
) -> dict[str, bytes]:
    """The figure as "<name>.<kind>" of each kind; equal figures give equal bytes."""
    contents = {}
    for kind in kinds:
        buffer = io.BytesIO()
        with style.applied():
            figure.savefig(buffer, format=kind, metadata=_UNDATED[kind])
        contents[f"{name}.{kind}"] = buffer.getvalue()
    return contents


def dress(
    axes: Axes, budgets: Sequence[float], meaning: str = "generations per question, N"
) -> None:
    """Gives a panel a logarithmic axis of budgets, with its meaning, and one of accuracy."""
    axes.set_xscale("log", base=2)
    named = [budgets[0]]  # where there is room: others are told by their points
    for n in budgets:
        if n >= 2 * named[-1]:
            named.append(n)
    axes.xaxis.set_major_locator(FixedLocator(named))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda n, _: f"{n:g}")
    axes.set_xlabel(meaning, labelpad=6)
    axes.set_xlim(budgets[0] / 1.1, budgets[-1] * 1.1)
    low, high = axes.dataLim.intervaly
    margin = 0.05 * max(high - low, 0.1)
    axes.set_ylim(max(0.0, low - margin), min(1.0, high + margin) + 0.002)
    in_percent(axes)


def in_percent(axes: Axes) -> None:
    """Gives a panel an axis of shares, and its grid."""
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0, pad=6)


def name_lines(axes: Axes, ends: list[tuple[float, float, str, str]], size: float) -> None:
    """Writes each line's name at its end, moved apart as little as needed to be readable.

    Args:
      ends: x, y, colour and name of each line.
      size: points of the text.
    """
    ends = sorted(ends, key=lambda end: end[1])
    low, high = axes.get_ylim()
    gap = 0.062 * (high - low)
    order = gap * np.arange(len(ends))
    # Least squares under "at least one gap apart" is an isotonic regression of y minus the gaps.
    apart = isotonic_regression(np.array([y for _, y, _, _ in ends]) - order).x
    heights = np.clip(apart, low, max(low, high - order[-1])) + order
    for (x, y, color, name), height in zip(ends, heights, strict=True):
        axes.annotate(
            name, (x, y), xytext=(1.01, height), textcoords=axes.get_yaxis_transform(),
            color=color, fontsize=size, fontweight="bold", va="center",
        )  # fmt: skip
