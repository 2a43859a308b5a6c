"""Figures: accuracy by budget, bin and ratio, and along chains of revisions."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ttc_jax.report.console import unit
from ttc_jax.report.looks import Looks
from ttc_jax.report.style import (
    COLORS,
    FAINT,
    INK,
    SCREEN,
    Style,
    dress,
    in_percent,
    name_lines,
)

TITLE: Final = "Accuracy against the generation budget"
_BUDGET: Final = "generations per question, N"
_ACCURACY: Final = "accuracy, % of questions"


def accuracy_figure(
    summary: Mapping[str, Any],
    title: str = TITLE,
    style: Style = SCREEN,
    looks: Looks | None = None,
) -> Figure:
    """Accuracy against N, one line and band a selection rule, log2 axis.

    Args:
        summary: see `results.summary.summarise`; reads "accuracy" and "questions".
        title: written above, where figures have headings.
        style: of the figure.
        looks: those of a report; by default of the summary alone.
    """
    accuracy, looks = summary["accuracy"], looks or Looks.of([summary])
    with style.applied():
        figure, [axes] = style.panels(1, 1, (8.4, 4.9))
        ends = []
        for rule, curve in accuracy.items():
            name, color, marker = looks.look(rule, summary)
            n = np.array([int(budget) for budget in curve])
            mean, low, high = (
                np.array([point[name] for point in curve.values()])
                for name in ("mean", "low", "high")
            )
            dashes = (0, (5, 2.5)) if rule == "pass" else "-"
            width = 1.6 if rule == "pass" else 2.2
            axes.fill_between(n, low, high, color=color, alpha=0.13, linewidth=0)
            look = {"color": color, "marker": marker, "markersize": 5, "lw": width, "ls": dashes}
            style.plot(axes, n, mean, label=name, **look)
            ends.append((float(n[-1]), float(mean[-1]), color, name))
        budgets = sorted({int(n) for curve in accuracy.values() for n in curve})
        dress(axes, budgets, _BUDGET.replace("generations", unit(summary)))
        if style.named:
            name_lines(axes, ends, style.text - 0.5)
        else:
            style.legend(figure, axes, 4)
        axes.set_ylabel(_ACCURACY)
        if not style.headed:
            return figure
        heading = {"xy": (0, 1), "xycoords": "axes fraction", "textcoords": "offset points"}
        axes.annotate(title, xytext=(0, 34), fontsize=14, fontweight="bold", **heading)
        about = f"{summary['questions']:,} questions; bands: 95 % bootstrap intervals"
        axes.annotate(about, xytext=(0, 17), fontsize=10, color=FAINT, **heading)
        return figure


def bins_figure(
    summary: Mapping[str, Any], style: Style = SCREEN, looks: Looks | None = None
) -> Figure:
    """Accuracy against N in every difficulty bin (after the paper's figure 3, right).

    Args:
        summary: see `results.sweep_summary.summarise_sweep`.
        style: of the figure.
        looks: those of a report; by default of the summary alone.
    """
    bins, looks = summary["bins"], looks or Looks.of([summary])
    with style.applied():
        count = len(bins)
        figure, panels = style.panels(count, count, (2.5 * count, 4.4), sharey=True)
        for place, (axes, part) in enumerate(zip(panels, bins, strict=True), 1):
            for name in summary["accuracy"]:
                text, color, marker = looks.look(name, summary)
                curve = part["accuracy"].get(name, {})
                n = [int(budget) for budget in curve]
                mean, low, high = (
                    [point[field] for point in curve.values()] for field in ("mean", "low", "high")
                )
                axes.fill_between(n, low, high, color=color, alpha=0.06, linewidth=0)
                look = {"color": color, "marker": marker, "markersize": 4}
                style.plot(axes, n, mean, label=text, **look)
            dress(axes, sorted({int(n) for curve in part["accuracy"].values() for n in curve}))
            axes.set_title(
                f"bin {place}: pass@1 {100 * part['pass_at_1']:.0f} %", fontsize=style.text
            )
            axes.set_xlabel(_BUDGET if style.headed else "", fontsize=style.text - 1)
        panels[0].set_ylim(0, 1.02)
        style.legend(figure, panels[0], 5)
        if style.headed:
            sizes = sorted({part["questions"] for part in bins})
            size = " to ".join(f"{n:,}" for n in dict.fromkeys((sizes[0], sizes[-1])))
            what = "question" if sizes[-1] == 1 else "questions"
            about = f"bins of {size} {what}; bands: 95 % bootstrap intervals"
            figure.suptitle(about, fontsize=10, color=FAINT)
        else:
            figure.supxlabel(_BUDGET, fontsize=style.text)
        figure.supylabel(_ACCURACY, fontsize=style.text)
        return figure


def ratios_figure(
    summary: Mapping[str, Any], ratios: Mapping[str, float], style: Style = SCREEN
) -> Figure:
    """Accuracy against the ratio of sequential to parallel answers (the paper's figure 7).

    A panel for each N; a line for each difficulty bin, and one for all questions.

    Args:
        summary: see `results.sweep_summary.summarise_sweep`.
        ratios: of the strategies that revise, by name.
        style: of the figure.
    """
    accuracy, names = summary["accuracy"], sorted(ratios, key=lambda name: ratios[name])
    budgets = sorted({int(n) for name in names for n in accuracy[name]})
    parts = [(f"bin {i + 1}", part["accuracy"]) for i, part in enumerate(summary["bins"])]
    meaning = "answers in sequence for one in parallel"
    shades = colormaps["magma"](np.linspace(0.1, 0.8, len(parts)))  # bins are no strategies
    with style.applied():
        count = len(budgets)
        figure, panels = style.panels(count, count, (4.6 * count, 4.9), sharey=True)
        for axes, budget in zip(panels, budgets, strict=True):
            spent = [name for name in names if str(budget) in accuracy[name]]
            at = np.array([ratios[name] for name in spent])

            def column(table: Mapping[str, Any], field: str) -> NDArray[np.float64]:
                return np.array([table[name][str(budget)][field] for name in spent])  # noqa: B023

            axes.fill_between(
                at, column(accuracy, "low"), column(accuracy, "high"), color=INK, alpha=0.1, lw=0
            )
            mean = column(accuracy, "mean")
            style.plot(axes, at, mean, color=INK, lw=2.6, label="all questions")
            for (name, table), color, (_, marker) in zip(parts, shades, COLORS, strict=False):
                look = {"color": color, "marker": marker, "markersize": 5}
                style.plot(axes, at, column(table, "mean"), label=name, **look)
            dress(axes, at.tolist(), meaning if style.headed else "")
            axes.xaxis.set_major_formatter(lambda ratio, _: str(Fraction(ratio)))
            axes.set_title(f"N = {budget}", fontsize=style.text)
        panels[0].set_ylim(0, 1.02)
        style.legend(figure, panels[0], 6)
        if not style.headed:
            figure.supxlabel(meaning, fontsize=style.text)
        figure.supylabel(_ACCURACY, fontsize=style.text)
        return figure


def chains_figure(summary: Mapping[str, Any], style: Style = SCREEN) -> Figure:
    """Pass@1 of the first, second, … answer of chains of revisions (the paper's figure 6, left).

    Args:
        summary: see `results.summary.summarise`; reads "chains" and "questions".
        style: of the figure.
    """
    points, flips = summary["chains"]["pass_at_1_by_position"], summary["chains"]["flips"]
    at = np.arange(1, len(points) + 1)
    mean, low, high = (np.array([x[name] for x in points]) for name in ("mean", "low", "high"))
    color, marker = COLORS[0]
    with style.applied():
        figure, [axes] = style.panels(1, 1, (7.4, 4.6))
        axes.fill_between(at, low, high, color=color, alpha=0.13, linewidth=0)
        style.plot(axes, at, mean, color=color, marker=marker, markersize=5, lw=2.2)
        meaning = "answer of the chain"
        if style.headed:
            axes.set_title("Along a chain of revisions", fontsize=14, fontweight="bold", loc="left")
            shares = [
                f"{name.replace('_', ' ')} {100 * share['mean']:.1f} %"
                for name, share in flips.items()
                if share
            ]
            meaning += f" ({', '.join(shares)}; {summary['questions']:,} questions)"
        axes.set_xlabel(meaning, labelpad=6)
        axes.set_ylabel("pass@1, % of answers")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        in_percent(axes)
        return figure
