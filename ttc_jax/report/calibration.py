"""The calibration of a verifier, as a figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ttc_jax.report.style import CEILING, COLORS, FAINT, SCREEN, in_percent


def calibration_figure(quality: Mapping[str, Any]) -> Figure:
    """How often scores of each size lead to a correct end: on the diagonal, as often as they say.

    Args:
        quality: see `training.quality.quality`; reads "calibration" and "calibration_error".
    """
    bins = quality["calibration"]
    score, value, steps = (
        np.array([row[name] for row in bins]) for name in ("score", "value", "steps")
    )
    middle = np.array([(row["low"] + row["high"]) / 2 for row in bins])
    color, marker = COLORS[0]
    with SCREEN.applied():
        figure = Figure(figsize=(5.6, 6.4), layout="constrained")
        axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1))
        axes.plot((0, 1), (0, 1), color=CEILING[0], lw=1.6, ls=(0, (5, 2.5)))
        axes.plot(score, value, color=color, marker=marker, markersize=6, lw=2.2)
        counts.bar(middle, steps / steps.sum(), width=0.092, color=color, alpha=0.4)
        axes.set_title("Calibration of a verifier", fontsize=14, fontweight="bold", loc="left")
        about = (
            f"{steps.sum():,} held-out scores; expected calibration error "
            f"{quality['calibration_error']:.3f}"
        )
        axes.annotate(
            about, (0.02, 0.96), xycoords="axes fraction", fontsize=10, color=FAINT, va="top"
        )
        axes.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="correct ends")
        counts.set(xlabel="score", ylabel="scores")
        for panel in (axes, counts):
            in_percent(panel)
        return figure
