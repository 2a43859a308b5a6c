"""What a report shows: sections with a figure and the tables behind it.

Every number stands in a summary; nothing is computed here. What a summary lacks leaves no trace.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from matplotlib.figure import Figure

from ttc_jax.config import fields
from ttc_jax.report.console import label
from ttc_jax.report.figures import (
    accuracy_figure,
    bins_figure,
    chains_figure,
    flops_match_figure,
    flops_match_rows,
    ratios_figure,
)

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
            return [[_plain(row.get(name)) for name in self._about] for row in self.rows]
        found: dict[tuple[Any, ...], dict[Any, Cell]] = {}
        for row in self.rows:
            about = tuple(row.get(name) for name in self._about)
            found.setdefault(about, {})[row[self.across]] = _value(row)
        return [
            [*map(_plain, about), *(values.get(name, Cell()) for name in self._spread)]
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
      figure: None: the tables speak for themselves, and are not hidden behind it.
    """

    name: str
    title: str
    caption: str
    tables: Sequence[Table]
    figure: Figure | None = None


def sections(summaries: Mapping[str, Summary]) -> list[Section]:
    """All that the summaries have to show, in the paper's order.

    Args:
      summaries: of the jobs, as "search", "policy", "chains", "ratios" and "verifiers"; none needs
        to be there.
    """
    makers: Sequence[tuple[str, Callable[[Summary], Section | None]]] = (
        ("search", _methods),
        ("search", _bins),
        ("search", _choosing),
        ("policy", _compute_optimal),
        ("policy", _choices),
        ("policy", _efficiency),
        ("policy", _allocation),
        ("chains", _chains),
        ("ratios", _ratios),
        ("verifiers", _verifiers),
        ("policy", _flops_match),
    )
    found = (make(summaries[name]) for name, make in makers if name in summaries)
    return [section for section in found if section is not None]


def records_of_work(summaries: Mapping[str, Summary]) -> list[Section]:
    """What it cost, how it was set, and by which versions it was made."""
    ledgers = [
        Table(f"{name}: mean cost of a question", list(_costs(summary)))
        for name, summary in summaries.items()
        if "ledger" in summary
    ]
    configs = [
        Table(f"{name}: configuration", [{"field": k, "value": v} for k, v in settings.items()])
        for name, summary in summaries.items()
        for settings in [fields(summary.get("config", {}))]
        if settings
    ]
    versions = [
        {"package": package, "job": name, "value": version}
        for name, summary in summaries.items()
        for package, version in summary.get("versions", {}).items()
    ]
    found = [
        Section("cost", "Cost", "Tokens and FLOPs as they were counted, not estimated.", ledgers),
        Section("configuration", "Configuration", "Every field of the jobs' configs.", configs),
        Section(
            "versions",
            "Versions",
            "What the results were made with.",
            [Table("versions", versions, "job")] if versions else [],
        ),
    ]
    return [section for section in found if section.tables]


def _methods(summary: Summary) -> Section:
    swept = "bins" in summary
    what = "Search strategies" if swept else "Ways of choosing"
    return Section(
        "methods",
        f"{what} by budget",
        "Accuracy on the same questions against generations per question. A line that rises "
        "earlier needs less compute; where lines meet, the strategy no longer matters.",
        [_accuracy("accuracy in % and its 95 % interval, by N", summary)],
        accuracy_figure(summary, f"{what} at equal generation budgets"),
    )


def _bins(summary: Summary) -> Section | None:
    if "bins" not in summary:
        return None
    rows = [
        {"bin": f"{place}: pass@1 {100 * part['pass_at_1']:.0f} %", **row}
        for place, part in enumerate(summary["bins"], 1)
        for row in _curves(part["accuracy"])
    ]
    return Section(
        "bins",
        "The same, by difficulty",
        "Questions in bins of pass@1, the easiest first. In the paper search pays "
        "where the model is sometimes right, and little where it almost always or never is.",
        [Table("accuracy in % and its 95 % interval, by N", rows, "N")],
        bins_figure(summary),
    )


def _choosing(summary: Summary) -> Section | None:
    if "choosing" not in summary:
        return None
    found = summary["choosing"]
    tables = [_accuracy("accuracy in % and its 95 % interval, by N", found)]
    over = list(_curves(found["over_majority"]))
    tables.append(Table("above majority on the same candidates, in points, by N", over, "N"))
    return Section(
        "choosing",
        "Ways of choosing",
        "The same best-of-N candidates: the most frequent answer, the one of the highest score, or "
        "the one whose scores have the largest sum. An answer's score is that of its last step, "
        "or the least or the product of all its steps' scores.",
        [table for table in tables if table.rows],
        accuracy_figure(found | {"questions": summary["questions"]}, "Ways of choosing"),
    )


def _compute_optimal(summary: Summary) -> Section:
    kinds = summary["compute_optimal"]
    tables = [_accuracy("accuracy in % and its 95 % interval, by N", summary)]
    tables.append(
        Table(
            "gain over the baseline, in points, by N",
            [
                {"difficulty": kind, "N": n, **point}
                for kind, found in kinds.items()
                for n, point in found["gain"].items()
            ],
            "N",
        )
    )
    tables.append(
        Table(
            "accuracy in % by bin and N",
            [
                {"difficulty": kind, "bin": place, "N": n, **point}
                for kind, found in kinds.items()
                for place, row in enumerate(found["by_bin"], 1)
                for n, point in row.items()
            ],
            "N",
        )
    )
    return Section(
        "compute_optimal",
        "Compute-optimal against best-of-N",
        "The best strategy of each difficulty bin, chosen on other questions than it is judged on. "
        "Oracle bins know the right answers; all others only what the verifier thinks: of many "
        "samples (predicted), of a few, or of the question alone.",
        [table for table in tables if table.rows],
        accuracy_figure(summary, "The best strategy for each difficulty, and the baseline"),
    )


def _choices(summary: Summary) -> Section:
    rows = [
        {
            "difficulty": kind,
            "bin": name.removeprefix("bin_"),
            "N": f"N = {n.removeprefix('n_')}",
            "value": label(strategy),
        }
        for kind, found in summary["compute_optimal"].items()
        for name, row in found["choice"].items()
        for n, strategy in row.items()
    ]
    return Section(
        "choices",
        "Chosen strategies",
        "What the policy uses in each bin (1 is the easiest) at each budget.",
        [Table("strategy by bin and budget", rows, "N")],
    )


def _efficiency(summary: Summary) -> Section | None:
    found = {
        "generations alone": summary.get("efficiency"),
        "with the cost of difficulty": summary.get("efficiency_net"),
    }
    tables = [
        Table(f"times as many generations, {charged}, by N", rows, "N")
        for charged, values in found.items()
        if values
        for rows in [list(_leaves(values))]
    ]
    if not tables:
        return None
    return Section(
        "efficiency",
        "Efficiency",
        "How many times as many generations the baseline needs to be as accurate as the "
        "compute-optimal policy with N. Where its pool ends before, ≥ gives the bound.",
        tables,
    )


def _allocation(summary: Summary) -> Section | None:
    if not summary.get("allocation"):
        return None
    shares = {
        "accuracy": "accuracy in %",
        "uniform": "accuracy of as many generations for every question, in %",
        "gain": "gain, in points",
        "informed": "gain over as uneven a spread at random, in points",
    }
    rows, stops = [], []
    for n, found in summary["allocation"].items():
        spent = f"{found['spent']['mean']:.1f}"
        rows.append({"of": "generations spent", "N": int(n), "value": spent})
        rows += [{"of": title, "N": int(n), **found[name]} for name, title in shares.items()]
        stops += [
            {"N": int(n), "samples": int(k), "value": f"{100 * share:.1f}"}
            for k, share in found["stopped"].items()
        ]
    return Section(
        "allocation",
        "Allocation across questions",
        "The same average budget, spent evenly or where it is expected to help most.",
        [
            Table("by average budget N", rows, "N"),
            Table("questions in % that stop after so many samples", stops, "samples"),
        ],
    )


def _chains(summary: Summary) -> Section | None:
    if "chains" not in summary:
        return None
    points = enumerate(summary["chains"]["pass_at_1_by_position"], 1)
    flips = summary["chains"]["flips"].items()
    return Section(
        "chains",
        "Along a chain of revisions",
        "How often the first, second, … answer is right. A chain helps as long as it corrects "
        "more wrong answers than it spoils right ones.",
        [
            Table(
                "pass@1 in % by the answer's position",
                [{"answer": "pass@1", "position": i, **point} for i, point in points],
                "position",
            ),
            Table(
                "answers that flip, in % of those that could",
                [
                    {"flip": name.replace("_", " "), "of pairs": "%", **(share or {"value": "–"})}
                    for name, share in flips
                ],
                "of pairs",
            ),
        ],
        chains_figure(summary),
    )


def _ratios(summary: Summary) -> Section | None:
    entries = summary["config"]["sweep"]["strategies"]
    ratios = {name: entry["ratio"] for name, entry in entries.items() if entry.get("ratio")}
    ratios = {name: ratio for name, ratio in ratios.items() if name in summary["accuracy"]}
    if not ratios:
        return None
    parts = [("all", summary["accuracy"])]
    parts += [(str(i), part["accuracy"]) for i, part in enumerate(summary["bins"], 1)]
    rows = [
        {"bin": name, **row}
        for name, table in parts
        for row in _curves({ratio: table[ratio] for ratio in ratios if ratio in table})
    ]
    return Section(
        "ratios",
        "In sequence or in parallel",
        "The same number of answers, as few long chains of revisions or as many short ones. "
        "In the paper easy questions gain from revising, and hard ones need a mixture.",
        [Table("accuracy in % and its 95 % interval, by N", rows, "N")],
        ratios_figure(summary, ratios),
    )


def _verifiers(summary: Summary) -> Section:
    return Section(
        "verifiers",
        "Verifiers",
        "The same answers, chosen among by different verifiers, as there are more of them.",
        [_accuracy("accuracy in % and its 95 % interval, by N", summary)],
        accuracy_figure(summary, "Choosing with different verifiers"),
    )


def _flops_match(summary: Summary) -> Section | None:
    if not summary.get("flops_match"):
        return None
    rows = flops_match_rows(summary)

    def table(title: str, name: str) -> Table:
        about = [
            {
                "R": row["R"],
                "charged": row["charged"],
                "generations": row["generations"],
                "bin": row["bin"] if row["bin"] == "all" else f"bin {row['bin']}",
                **(
                    {"value": "–"}
                    if row[f"{name}_mean"] is None
                    else {field: row[f"{name}_{field}"] for field in ("mean", "low", "high")}
                ),
            }
            for row in rows
        ]
        return Table(title, about, "bin")

    return Section(
        "flops_match",
        "A small model that thinks, or a larger one",
        "At the same FLOPs, pretraining included: the gain of the small model with test-time "
        "compute over the larger one's greedy answers. R is inference over pretraining tokens: "
        "the larger R, the less pretraining weighs and the fewer generations can be afforded.",
        [
            table("relative gain in %", "relative"),
            table("the small model's accuracy in %", "small"),
            table("the larger model's accuracy in %", "large"),
        ],
        flops_match_figure(summary),
    )


def _accuracy(title: str, summary: Summary) -> Table:
    return Table(title, list(_curves(summary["accuracy"])), "N")


def _curves(accuracy: Mapping[str, Mapping[str, Row]]) -> list[Row]:
    """Rows, ordered by N within a strategy, and such that columns come in order."""
    budgets = sorted({int(n) for curve in accuracy.values() for n in curve})
    return [
        {"strategy": name, "N": n, **curve.get(str(n), {"value": ""})}
        for name, curve in accuracy.items()
        for n in budgets
    ]


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[Row]:
    """Estimates, ratios and plain values of nested data; a number on the way is N."""
    if isinstance(value, Mapping) and not {"mean", "ratio"} & set(value):
        for name, inside in value.items():
            yield from _leaves(inside, (*path, str(name)))
        return
    if isinstance(value, Sequence) and not isinstance(value, str):
        for place, inside in enumerate(value, 1):
            yield from _leaves(inside, (*path, f"bin {place}"))
        return
    of = ", ".join(label(name) for name in path if not name.isdecimal())
    n = [int(name) for name in path if name.isdecimal()]
    yield {
        "of": of,
        "N": n[-1] if n else "",
        **(value if isinstance(value, Mapping) else {"value": value}),
    }


def _costs(summary: Summary) -> Iterator[Row]:
    """One line a search."""
    if "ledger_per_question" in summary:
        yield summary["ledger_per_question"]
        return
    for strategy, by_budget in summary["ledger"].items():
        if not isinstance(by_budget, Mapping):
            yield summary["ledger"]
            return
        for budget, costs in by_budget.items():
            yield {"strategy": label(strategy), "N": int(budget), **costs}


def _value(row: Row) -> Cell:
    if "value" in row:
        return _plain(row["value"])
    if "ratio" in row:
        cell = Cell(f"{'≥ ' if row.get('censored') else ''}{row['ratio']:.2f}×")
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
