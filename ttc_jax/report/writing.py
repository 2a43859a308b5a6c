"""Writes figures as PNG and SVG beside the summaries of jobs, with the numbers behind them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ttc_jax import files
from ttc_jax.report.calibration import calibration_figure
from ttc_jax.report.figures import (
    TITLE,
    accuracy_figure,
    bins_figure,
    chains_figure,
    ratios_figure,
)
from ttc_jax.report.judged import judged_csv, judged_figure
from ttc_jax.report.style import images


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


def write_bins(summary: Mapping[str, Any], workdir: Path) -> None:
    """Writes bins.png and bins.svg to the workdir. Raises as `write_accuracy`."""
    write_files(images("bins", bins_figure(summary)), workdir)


def write_ratios(summary: Mapping[str, Any], ratios: Mapping[str, float], workdir: Path) -> None:
    """Writes ratios.png and ratios.svg to the workdir. Raises as `write_accuracy`."""
    write_files(images("ratios", ratios_figure(summary, ratios)), workdir)


def write_chains(summary: Mapping[str, Any], workdir: Path) -> None:
    """Writes chains.png and chains.svg to the workdir. Raises as `write_accuracy`."""
    write_files(images("chains", chains_figure(summary)), workdir)


def write_calibration(quality: Mapping[str, Any], workdir: Path) -> None:
    """Writes calibration.csv, .png and .svg to the workdir. Raises as `write_accuracy`."""
    table = io.StringIO()
    writer = csv.DictWriter(table, list(quality["calibration"][0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(quality["calibration"])
    contents = {"calibration.csv": table.getvalue().encode()}
    write_files(contents | images("calibration", calibration_figure(quality)), workdir)


def write_judged(summary: Mapping[str, Any], workdir: Path) -> None:
    """Writes judge.csv, .png and .svg to the workdir. Raises as `write_accuracy`."""
    contents = {"judge.csv": judged_csv(summary).encode("utf-8", "replace")}
    write_files(contents | images("judge", judged_figure(summary)), workdir)


def write_files(contents: Mapping[str, bytes], workdir: Path) -> list[Path]:
    """Writes files by name. Raises as `write_accuracy`."""
    paths = []
    for name, content in contents.items():
        paths.append(files.write(Path(workdir) / name, content))
    return paths


def accuracy_csv(summary: Mapping[str, Any]) -> str:
    """The numbers behind the figure: strategy,N,mean,low,high."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["strategy", "N", "mean", "low", "high"])
    for rule, curve in summary["accuracy"].items():
        for n, point in curve.items():
            writer.writerow([rule, n, point["mean"], point["low"], point["high"]])
    return table.getvalue()
