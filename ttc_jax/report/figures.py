"""Figures: accuracy by budget, bin and ratio, along chains, at equal FLOPs; calibration."""

import csv
import io
import itertools
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, PercentFormatter
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from ttc_jax import files
from ttc_jax.report.console import label

TITLE: Final = "Accuracy against the generation budget"

# Tell apart under every colour blindness, and dark enough to set text in (Okabe and Ito, 2008).
_STYLES: Final = (
    ("#0072b2", "o"),
    ("#d55e00", "s"),
    ("#009e73", "D"),
    ("#cc79a7", "^"),
    ("#7f5f00", "v"),
    ("#3a9ad1", "P"),
    ("#5e3c99", "X"),
    ("#8a0f3c", "*"),
)
_CEILING: Final = ("#6b6b6b", "")  # pass@N is a bound, not a rule: no markers
_INK: Final = "#222222"
_FAINT: Final = "#6b6b6b"
_SETTINGS: Final[dict[Any, Any]] = {
    "font.size": 11,
    "font.family": "DejaVu Sans",
    "text.parse_math": False,  # a "$" in a name is a "$"
    "svg.hashsalt": "ttc_jax",
    "svg.fonttype": "none",
    "axes.edgecolor": "#b0b0b0",
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}


def accuracy_figure(summary: Mapping[str, Any], title: str = TITLE) -> Figure:
    """Accuracy against N, one line and band a selection rule, log2 axis.

    Args:
        summary: see `results.summary.summarise`; reads "accuracy" and "questions".
        title: written above.
    """
    accuracy = summary["accuracy"]
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(8.4, 4.9), dpi=160, layout="constrained")
        axes = figure.subplots()
        ends = []
        styles = iter(_STYLES * len(accuracy))
        for rule, curve in accuracy.items():
            color, marker = _CEILING if rule == "pass" else next(styles)
            n = np.array([int(budget) for budget in curve])
            mean, low, high = (
                np.array([point[name] for point in curve.values()])
                for name in ("mean", "low", "high")
            )
            dashes = (0, (5, 2.5)) if rule == "pass" else "-"
            width = 1.6 if rule == "pass" else 2.2
            axes.fill_between(n, low, high, color=color, alpha=0.13, linewidth=0)
            axes.plot(
                n, mean, color=color, marker=marker, markersize=5, lw=width, ls=dashes, label=rule
            )
            ends.append((float(n[-1]), float(mean[-1]), color, label(rule)))
        _dress(axes, sorted({int(n) for curve in accuracy.values() for n in curve}))
        _name_lines(axes, ends)
        heading = {"xy": (0, 1), "xycoords": "axes fraction", "textcoords": "offset points"}
        axes.annotate(title, xytext=(0, 34), fontsize=14, fontweight="bold", **heading)
        about = f"{summary['questions']:,} questions; bands: 95 % bootstrap intervals"
        axes.annotate(about, xytext=(0, 17), fontsize=10, color=_FAINT, **heading)
        return figure


def write_accuracy(summary: Mapping[str, Any], workdir: Path, title: str = TITLE) -> list[Path]:
    """Writes accuracy.png, accuracy.svg and accuracy.csv (the numbers behind them) to the workdir.

    Raises:
        UserError: the disk is full or not writable.
    """
    contents = {"accuracy.csv": accuracy_csv(summary).encode()}
    return write_files(contents | images("accuracy", accuracy_figure(summary, title)), workdir)


def write_compute_optimal(summary: Mapping[str, Any], workdir: Path) -> None:
    """Writes compute_optimal.png, .svg and .csv (after the paper's figure 4) to the workdir.

    Args:
        summary: that of the job `policy`.
        workdir: where to. Raises as `write_accuracy`.
    """
    figure = accuracy_figure(summary, "The best strategy for each difficulty, and the baseline")
    contents = {"compute_optimal.csv": accuracy_csv(summary).encode()}
    write_files(contents | images("compute_optimal", figure), workdir)


def images(name: str, figure: Figure) -> dict[str, bytes]:
    """The figure as "<name>.png" and "<name>.svg"; equal figures give equal bytes."""
    contents = {}
    for kind, about in (("png", {"Software": None}), ("svg", {"Date": None})):
        buffer = io.BytesIO()
        with matplotlib.rc_context(_SETTINGS):
            figure.savefig(buffer, format=kind, metadata=about)
        contents[f"{name}.{kind}"] = buffer.getvalue()
    return contents


def write_files(contents: Mapping[str, bytes], workdir: Path) -> list[Path]:
    """Writes files by name. Raises as `write_accuracy`."""
    paths = []
    for name, content in contents.items():
        paths.append(files.write(Path(workdir) / name, content))
    return paths


def bins_figure(summary: Mapping[str, Any]) -> Figure:
    """Accuracy against N in every difficulty bin (after the paper's figure 3, right).

    Args:
        summary: see `results.summary.summarise_sweep`.
    """
    bins, names = summary["bins"], list(summary["accuracy"])
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(3.1 * len(bins), 4.6), dpi=160, layout="constrained")
        panels = figure.subplots(1, len(bins), sharey=True, squeeze=False)[0]
        for place, (axes, part) in enumerate(zip(panels, bins, strict=True)):
            for name, (color, marker) in zip(names, _STYLES * len(names), strict=False):
                curve = part["accuracy"].get(name, {})
                n = [int(budget) for budget in curve]
                mean, low, high = (
                    [point[field] for point in curve.values()] for field in ("mean", "low", "high")
                )
                axes.fill_between(n, low, high, color=color, alpha=0.06, linewidth=0)
                axes.plot(n, mean, color=color, marker=marker, markersize=4, label=label(name))
            budgets = {int(n) for curve in part["accuracy"].values() for n in curve}
            _dress(axes, sorted(budgets))
            axes.set_title(f"bin {place + 1}: pass@1 {100 * part['pass_at_1']:.0f} %", fontsize=11)
            axes.set_xlabel("generations" if place == len(bins) // 2 else "")
        panels[0].set_ylim(0, 1.02)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        about = f"bins of {bins[0]['questions']} questions; bands: 95 % bootstrap intervals"
        figure.suptitle(about, fontsize=10, color=_FAINT)
        return figure


def write_bins(summary: Mapping[str, Any], workdir: Path) -> None:
    """Writes bins.png and bins.svg to the workdir. Raises as `write_accuracy`."""
    write_files(images("bins", bins_figure(summary)), workdir)


def ratios_figure(summary: Mapping[str, Any], ratios: Mapping[str, float]) -> Figure:
    """Accuracy against the ratio of sequential to parallel answers (the paper's figure 7).

    A panel for each N; a line for each difficulty bin, and one for all questions.

    Args:
        summary: see `results.summary.summarise_sweep`.
        ratios: of the strategies that revise, by name.
    """
    accuracy, names = summary["accuracy"], sorted(ratios, key=lambda name: ratios[name])
    budgets = sorted({int(n) for name in names for n in accuracy[name]})
    parts = [(f"bin {i + 1}", part["accuracy"]) for i, part in enumerate(summary["bins"])]
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(4.6 * len(budgets), 4.9), dpi=160, layout="constrained")
        panels = figure.subplots(1, len(budgets), sharey=True, squeeze=False)[0]
        for axes, budget in zip(panels, budgets, strict=True):
            spent = [name for name in names if str(budget) in accuracy[name]]
            at = np.array([ratios[name] for name in spent])

            def column(table: Mapping[str, Any], field: str) -> NDArray[np.float64]:
                return np.array([table[name][str(budget)][field] for name in spent])  # noqa: B023

            axes.fill_between(
                at, column(accuracy, "low"), column(accuracy, "high"), color=_INK, alpha=0.1, lw=0
            )
            axes.plot(at, column(accuracy, "mean"), color=_INK, lw=2.6, label="all questions")
            for (name, table), (color, marker) in zip(parts, _STYLES, strict=False):
                mean = column(table, "mean")
                axes.plot(at, mean, color=color, marker=marker, markersize=5, label=name)
            _dress(axes, at.tolist(), "answers in sequence for one in parallel")
            axes.xaxis.set_major_formatter(lambda ratio, _: str(Fraction(ratio)))
            axes.set_title(f"N = {budget}", fontsize=11)
        panels[0].set_ylim(0, 1.02)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
        return figure


def write_ratios(summary: Mapping[str, Any], ratios: Mapping[str, float], workdir: Path) -> None:
    """Writes ratios.png and ratios.svg to the workdir. Raises as `write_accuracy`."""
    write_files(images("ratios", ratios_figure(summary, ratios)), workdir)


def chains_figure(summary: Mapping[str, Any]) -> Figure:
    """Pass@1 of the first, second, … answer of chains of revisions (the paper's figure 6, left).

    Args:
        summary: see `results.summary.summarise`; reads "chains" and "questions".
    """
    points, flips = summary["chains"]["pass_at_1_by_position"], summary["chains"]["flips"]
    at = np.arange(1, len(points) + 1)
    mean, low, high = (np.array([x[name] for x in points]) for name in ("mean", "low", "high"))
    color, marker = _STYLES[0]
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(7.4, 4.6), dpi=160, layout="constrained")
        axes = figure.subplots()
        axes.fill_between(at, low, high, color=color, alpha=0.13, linewidth=0)
        axes.plot(at, mean, color=color, marker=marker, markersize=5, lw=2.2)
        axes.set_title("Along a chain of revisions", fontsize=14, fontweight="bold", loc="left")
        shares = [
            f"{name.replace('_', ' ')} {100 * share['mean']:.1f} %"
            for name, share in flips.items()
            if share
        ]
        axes.set_xlabel(
            f"answer of the chain ({', '.join(shares)}; {summary['questions']:,} questions)",
            labelpad=6,
        )
        axes.set_ylabel("pass@1")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _in_percent(axes)
        return figure


def write_chains(summary: Mapping[str, Any], workdir: Path) -> None:
    """Writes chains.png and chains.svg to the workdir. Raises as `write_accuracy`."""
    write_files(images("chains", chains_figure(summary)), workdir)


def flops_match_figure(summary: Mapping[str, Any]) -> Figure:
    """Gain over a larger model at equal FLOPs, by difficulty bin (the paper's figure 9).

    A panel for each R; a colour for what the small model is charged, faint where its budget does
    not pay for it.

    Args:
        summary: that of the job `policy`; reads "flops_match".
    """
    rows, kinds = flops_match_rows(summary), list(summary["flops_match"])
    ratios = list(summary["flops_match"][kinds[0]])
    bins = list(dict.fromkeys(row["bin"] for row in rows))
    charges = list(dict.fromkeys(row["charged"] for row in rows))
    with matplotlib.rc_context(_SETTINGS):
        size = 4.6 * len(ratios), 0.9 + 4.0 * len(kinds)
        figure = Figure(figsize=size, dpi=160, layout="constrained")
        grid = figure.subplots(len(kinds), len(ratios), sharey=True, squeeze=False)
        for (kind, ratio), axes in zip(itertools.product(kinds, ratios), grid.flat, strict=True):
            axes.axhline(0, color=_INK, lw=1)
            for i, (name, (color, marker)) in enumerate(zip(charges, _STYLES, strict=False)):
                shift = 0.22 * (i - (len(charges) - 1) / 2)
                for row in rows:
                    about = row["difficulty"], row["R"], row["charged"]
                    if about != (kind, ratio, name) or row["relative_mean"] is None:
                        continue
                    mean, low, high = (row[f"relative_{x}"] for x in ("mean", "low", "high"))
                    faint = {"alpha": 1.0 if row["affordable"] else 0.35, "color": color}
                    at = bins.index(row["bin"]) + shift
                    axes.plot((at, at), (low, high), lw=1.6, **faint)
                    axes.plot(at, mean, marker=marker, markersize=6, **faint)
                axes.plot([], [], color=color, marker=marker, ls="", label=label(name))
            axes.set_xticks(range(len(bins)), bins)
            axes.set_xlabel(f"bin of {label(kind)} difficulty, 1 the easiest", labelpad=6)
            axes.set_title(f"R = {ratio}", fontsize=11)
            _in_percent(axes)
        for row in grid:
            row[0].set_ylabel("relative gain of the small model")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside lower center", ncols=3, frameon=False, title="charged"
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
    color, marker = _STYLES[0]
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(5.6, 6.4), dpi=160, layout="constrained")
        axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1))
        axes.plot((0, 1), (0, 1), color=_CEILING[0], lw=1.6, ls=(0, (5, 2.5)))
        axes.plot(score, value, color=color, marker=marker, markersize=6, lw=2.2)
        counts.bar(middle, steps / steps.sum(), width=0.092, color=color, alpha=0.4)
        axes.set_title("Calibration of a verifier", fontsize=14, fontweight="bold", loc="left")
        about = (
            f"{steps.sum():,} held-out scores; expected calibration error "
            f"{quality['calibration_error']:.3f}"
        )
        axes.annotate(
            about, (0.02, 0.96), xycoords="axes fraction", fontsize=10, color=_FAINT, va="top"
        )
        axes.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="correct ends")
        counts.set(xlabel="score", ylabel="scores")
        for panel in (axes, counts):
            _in_percent(panel)
        return figure


def write_calibration(quality: Mapping[str, Any], workdir: Path) -> None:
    """Writes calibration.csv, .png and .svg to the workdir. Raises as `write_accuracy`."""
    table = io.StringIO()
    writer = csv.DictWriter(table, list(quality["calibration"][0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(quality["calibration"])
    contents = {"calibration.csv": table.getvalue().encode()}
    write_files(contents | images("calibration", calibration_figure(quality)), workdir)


def accuracy_csv(summary: Mapping[str, Any]) -> str:
    """The numbers behind the figure: strategy,N,mean,low,high."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["strategy", "N", "mean", "low", "high"])
    for rule, curve in summary["accuracy"].items():
        for n, point in curve.items():
            writer.writerow([rule, n, point["mean"], point["low"], point["high"]])
    return table.getvalue()


def _dress(
    axes: Axes, budgets: Sequence[float], meaning: str = "generations per question, N"
) -> None:
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
    _in_percent(axes)


def _in_percent(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0, pad=6)


def _name_lines(axes: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Writes each line's name at its end, moved apart as little as needed to be readable."""
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
            color=color, fontsize=10.5, fontweight="bold", va="center",
        )  # fmt: skip
