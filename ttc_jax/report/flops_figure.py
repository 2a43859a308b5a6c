"""A small model that thinks, against a larger one at equal FLOPs: the figure and its numbers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from ttc_jax.report.console import label
from ttc_jax.report.style import COLORS, INK, SCREEN, Style, in_percent


def flops_match_figure(summary: Mapping[str, Any], style: Style = SCREEN) -> Figure:
    """Gain over a larger model at equal FLOPs, by difficulty bin (the paper's figure 9).

    A panel for each R; a colour for what the small model is charged, faint where its budget does
    not pay for it.

    Args:
        summary: that of the job `policy`; reads "flops_match".
        style: of the figure.
    """
    rows, kinds = flops_match_rows(summary), list(summary["flops_match"])
    ratios = list(summary["flops_match"][kinds[0]])
    bins = list(dict.fromkeys(row["bin"] for row in rows))
    charges = list(dict.fromkeys(row["charged"] for row in rows))
    with style.applied():
        size = 4.6 * len(ratios), 0.9 + 4.0 * len(kinds)
        figure, panels = style.panels(len(kinds) * len(ratios), len(ratios), size, sharey=True)
        for (kind, ratio), axes in zip(itertools.product(kinds, ratios), panels, strict=True):
            axes.axhline(0, color=INK, lw=style.line)
            for i, (name, (color, marker)) in enumerate(zip(charges, COLORS, strict=False)):
                shift = 0.22 * (i - (len(charges) - 1) / 2)
                for row in rows:
                    about = row["difficulty"], row["R"], row["charged"]
                    if about != (kind, ratio, name) or row["relative_mean"] is None:
                        continue
                    mean, low, high = (row[f"relative_{x}"] for x in ("mean", "low", "high"))
                    faint = {"alpha": 1.0 if row["affordable"] else 0.35, "color": color}
                    at = bins.index(row["bin"]) + shift
                    style.plot(axes, (at, at), (low, high), lw=1.6, **faint)
                    style.plot(axes, at, mean, marker=marker, markersize=6, **faint)
                look = {"color": color, "marker": marker, "markersize": 6, "ls": ""}
                style.plot(axes, [], [], label=label(name), **look)
            axes.set_xticks(range(len(bins)), bins)
            if style.headed:
                axes.set_xlabel(f"bin of {label(kind)} difficulty, 1 the easiest", labelpad=6)
                axes.set_title(f"R = {ratio}", fontsize=style.text)
            else:
                axes.set_title(f"R = {ratio}, {label(kind)}", fontsize=style.text)
            in_percent(axes)
        meaning = "relative gain of the small model, %"
        if style.headed:
            for axes in panels[:: len(ratios)]:
                axes.set_ylabel(meaning)
        else:
            figure.supxlabel("bin of difficulty, 1 the easiest", fontsize=style.text)
            figure.supylabel(meaning, fontsize=style.text)
        style.legend(
            figure, panels[0], 3, title="charged; faint where the budget does not pay for it"
        )
        return figure


def flops_match_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The numbers behind the figure, a line for each difficulty, R, charge and bin.

    A number is None where there is none.
    """
    rows = []
    for kind, by_ratio in summary["flops_match"].items():
        for ratio, charged in by_ratio.items():
            for name, found in charged.items():
                row = {"difficulty": kind, "R": ratio, "charged": name}
                row |= {x: found[x] for x in ("generations", "affordable", "beyond")}
                parts = [(str(i), sides) for i, sides in enumerate(found["by_bin"], 1)]
                rows += [
                    row | {"bin": place} | _sides(sides)
                    for place, sides in [*parts, ("all", found["all"])]
                ]
    return rows


def _sides(sides: Mapping[str, Any]) -> dict[str, float | None]:
    return {
        f"{side}_{x}": sides[side] and sides[side][x]
        for side in ("small", "large", "difference", "relative")
        for x in ("mean", "low", "high")
    }
