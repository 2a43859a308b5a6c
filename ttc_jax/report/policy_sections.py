"""What a report shows of a policy: what it chooses, what it gains, and what that costs.

Every number stands in the summary of `ttc policy`. What a summary lacks leaves no trace.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from ttc_jax.report.console import label, unit
from ttc_jax.report.figures import accuracy_figure
from ttc_jax.report.flops_figure import flops_match_figure, flops_match_rows
from ttc_jax.report.looks import Looks
from ttc_jax.report.table import Row, Section, Summary, Table, accuracy_by_budget


def compute_optimal(looks: Looks, summary: Summary) -> Section:
    """The compute-optimal policy's accuracy beside the baseline's."""
    kinds = summary["compute_optimal"]
    tables = [accuracy_by_budget(summary)]
    tables += [
        Table(
            title,
            [
                {"difficulty": kind, "N": n, **point}
                for kind, found in kinds.items()
                for n, point in (found.get(name) or {}).items()
            ],
            "N",
        )
        for name, title in (
            ("gain", "gain over the baseline, in points, by N"),
            ("single", "accuracy in % of the best single strategy, judged likewise, by N"),
            ("over_single", "gain over the best single strategy, in points, by N"),
        )
    ]
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
        f"Budgets N are {unit(summary)} a question. The best strategy of each difficulty bin is "
        "chosen on other questions than it is judged on. Oracle bins know the right answers; all "
        "others only what the verifier thinks: of many samples (predicted), of a few, or of the "
        "question alone.",
        [table for table in tables if table.rows],
        partial(
            accuracy_figure,
            summary,
            "The best strategy for each difficulty, and the baseline",
            looks=looks,
        ),
    )


def choices(summary: Summary) -> Section:
    """The strategy that the policy uses in each bin at each budget."""
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
        f"What the policy uses in each bin (1 is the easiest) at each budget of {unit(summary)}.",
        [Table("strategy by bin and budget", rows, "N")],
    )


def efficiency(summary: Summary) -> Section | None:
    """How many times as many generations the baseline needs; None where it was not measured."""
    counted = unit(summary)
    found = {
        f"{counted} alone": summary.get("efficiency"),
        "with the cost of difficulty": summary.get("efficiency_net"),
    }
    tables = [
        Table(f"times as many {counted}, {charged}, by N", rows, "N")
        for charged, values in found.items()
        if values
        for rows in [list(_leaves(values))]
    ]
    if not tables:
        return None
    return Section(
        "efficiency",
        "Efficiency",
        f"How many times as many {counted} the baseline needs to be as accurate as the "
        "compute-optimal policy with N. Where its pool ends before, ≥ gives the lower end of the "
        "interval: no more is supported.",
        tables,
    )


def allocation(summary: Summary) -> Section | None:
    """Budgets spread over questions by expected gain; None where it was not measured."""
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


def flops_match(summary: Summary) -> Section | None:
    """The small model beside a larger one at the same FLOPs; None where it was not measured."""
    if not summary.get("flops_match"):
        return None
    rows = flops_match_rows(summary)

    def table(title: str, name: str) -> Table:
        about = [
            {
                "difficulty": row["difficulty"],
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
        partial(flops_match_figure, summary),
    )


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
