"""What a report shows: sections with a figure and the tables behind it.

Every number stands in a summary; nothing is computed here. What a summary lacks leaves no trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from ttc_jax.config import fields
from ttc_jax.report import policy_sections
from ttc_jax.report.console import label
from ttc_jax.report.figures import accuracy_figure, bins_figure, chains_figure, ratios_figure
from ttc_jax.report.looks import POOL, Looks, known_as
from ttc_jax.report.table import Row, Section, Summary, Table, accuracy_by_budget, rows_by_budget


def sections(summaries: Mapping[str, Summary]) -> list[Section]:
    """All that the summaries have to show, in the paper's order.

    Args:
      summaries: of the jobs, as "search", "policy", "chains", "ratios" and "verifiers"; none needs
        to be there.
    """
    looks = Looks.of(summaries[x] for x in ("search", "policy", "verifiers") if x in summaries)
    makers: Sequence[tuple[str, Callable[[Summary], Section | None]]] = (
        ("search", partial(_methods, looks)),
        ("search", partial(_bins, looks)),
        ("search", partial(_choosing, looks)),
        ("policy", partial(policy_sections.compute_optimal, looks)),
        ("policy", policy_sections.choices),
        ("policy", policy_sections.efficiency),
        ("policy", policy_sections.allocation),
        ("chains", _chains),
        ("ratios", _ratios),
        ("verifiers", partial(_verifiers, looks)),
        ("policy", policy_sections.flops_match),
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


def _methods(looks: Looks, summary: Summary) -> Section:
    swept = "bins" in summary
    what = "Search strategies" if swept else "Ways of choosing"
    return Section(
        "methods",
        f"{what} by budget",
        "Accuracy on the same questions against generations per question. A line that rises "
        "earlier needs less compute; where lines meet, the strategy no longer matters.",
        [accuracy_by_budget(summary), *_gain(summary), *_efficiency(summary)],
        partial(accuracy_figure, summary, f"{what} at equal generation budgets", looks=looks),
    )


def _gain(summary: Summary) -> Iterator[Table]:
    if rows := list(rows_by_budget(summary.get("gain") or {}, summary)):
        baseline = label(known_as(POOL, summary))
        yield Table(f"above {baseline} with as many generations, in points, by N", rows, "N")


def _efficiency(summary: Summary) -> Iterator[Table]:
    if found := summary.get("strategy_efficiency"):
        rows = [
            {"strategy": name, "N": int(n), **ratio}
            for name, curve in found.items()
            for n, ratio in curve.items()
        ]
        baseline = label(known_as(POOL, summary))
        yield Table(f"times as many generations as N that {baseline} needs, by N", rows, "N")


def _bins(looks: Looks, summary: Summary) -> Section | None:
    if "bins" not in summary:
        return None
    rows = [
        {"bin": f"{place}: pass@1 {100 * part['pass_at_1']:.0f} %", **row}
        for place, part in enumerate(summary["bins"], 1)
        for row in rows_by_budget(part["accuracy"], summary)
    ]
    return Section(
        "bins",
        "The same, by difficulty",
        "Questions in bins of pass@1, the easiest first. In the paper search pays "
        "where the model is sometimes right, and little where it almost always or never is.",
        [Table("accuracy in % and its 95 % interval, by N", rows, "N")],
        partial(bins_figure, summary, looks=looks),
    )


def _choosing(looks: Looks, summary: Summary) -> Section | None:
    if "choosing" not in summary:
        return None
    found = summary["choosing"]
    tables = [accuracy_by_budget(found)]
    over = list(rows_by_budget(found["over_majority"]))
    tables.append(Table("above majority on the same candidates, in points, by N", over, "N"))
    return Section(
        "choosing",
        "Ways of choosing",
        "The same best-of-N candidates: the most frequent answer, the one of the highest score, or "
        "the one whose scores have the largest sum. An answer's score is that of its last step, "
        "or the least or the product of all its steps' scores.",
        [table for table in tables if table.rows],
        partial(
            accuracy_figure,
            found | {"questions": summary["questions"]},
            "Ways of choosing",
            looks=looks,
        ),
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
        "more wrong answers than it spoils right ones. Looking back helps where a wrong answer is "
        "followed by a right one more often than another chain's first answer (afresh) is right.",
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
        partial(chains_figure, summary),
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
        for row in rows_by_budget({ratio: table[ratio] for ratio in ratios if ratio in table})
    ]
    return Section(
        "ratios",
        "In sequence or in parallel",
        "The same number of answers, as few long chains of revisions or as many short ones. "
        "In the paper easy questions gain from revising, and hard ones need a mixture.",
        [Table("accuracy in % and its 95 % interval, by N", rows, "N")],
        partial(ratios_figure, summary, ratios),
    )


def _verifiers(looks: Looks, summary: Summary) -> Section:
    return Section(
        "verifiers",
        "Verifiers",
        "The same answers, chosen among by different verifiers, as there are more of them.",
        [accuracy_by_budget(summary)],
        partial(accuracy_figure, summary, "Choosing with different verifiers", looks=looks),
    )


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
