"""How well a verifier finds first wrong steps, as a figure."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure

from ttc_jax.report.style import COLORS, FAINT, SCREEN, Style, in_percent

NAMES: Final = {
    "accuracy_wrong": "with a wrong step",
    "accuracy_right": "without one",
    "f1": "F1",
}
_AVERAGE: Final = "average"


def rows_of(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Returns what is told of each subset, and of their average where there are several."""
    subsets = dict(summary["subsets"])
    return subsets if len(subsets) == 1 else {**subsets, _AVERAGE: summary["average"]}


def judged_figure(summary: Mapping[str, Any], style: Style = SCREEN) -> Figure:
    """Accuracies and F1 by subset with their intervals, and how they follow the threshold.

    Args:
        summary: see `results.judged.summarise_judged`.
    """
    rows, curve = rows_of(summary), summary["curve"]
    with style.applied():
        figure, [bars, lines] = style.panels(2, 2, (11.0, 4.9), sharey=True)
        for number, (measure, name) in enumerate(NAMES.items()):
            color, marker = COLORS[number]
            for place, row in enumerate(rows.values()):
                if (point := row[measure]) is None:
                    continue
                x = place + 0.2 * (number - 1)
                bars.plot((x, x), (point["low"], point["high"]), color=color, lw=2.2, alpha=0.5)
                style.plot(bars, [x], [point["mean"]], color=color, marker=marker, markersize=7)
            at, share = ([point[key] for point in curve] for key in ("threshold", measure))
            style.plot(lines, at, share, color=color, lw=2.2, label=name)
        value = summary["threshold"]["value"]
        lines.axvline(value, color=FAINT, lw=1.4, ls=(0, (5, 2.5)))
        chosen = "chosen on held-out questions" if "chosen_on" in summary["threshold"] else "given"
        about = f" {value:.3f}, {chosen}"
        lines.annotate(about, (value, 1.02), color=FAINT, fontsize=style.text - 1)
        bars.set_xticks(np.arange(len(rows)), list(rows))
        bars.set_xlim(-0.6, len(rows) - 0.4)
        bars.set_ylabel("solutions judged right")
        bars.set_xlabel("subset; lines: 95 % bootstrap intervals")
        lines.set_xlabel("threshold below which a step is wrong")
        lines.set_ylim(0, 1.08)
        for axes in (bars, lines):
            in_percent(axes)
        style.legend(figure, lines, len(NAMES))
        if style.headed:
            title = "Finding the first wrong step"
            bars.set_title(title, fontsize=14, fontweight="bold", loc="left")
        return figure


def judged_csv(summary: Mapping[str, Any]) -> str:
    """The numbers behind the left panel: subset,solutions,wrong,right,measure,mean,low,high."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    counts, estimate = ("solutions", "wrong", "right"), ("mean", "low", "high")
    writer.writerow(["subset", *counts, "measure", *estimate])
    for subset, row in rows_of(summary).items():
        for measure in NAMES:
            point = row[measure] or {}
            about = [row.get(name, "") for name in counts]
            writer.writerow([subset, *about, measure, *(point.get(x, "") for x in estimate)])
    return table.getvalue()
