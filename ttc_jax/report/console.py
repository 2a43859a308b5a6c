"""A summary for people: accuracy by selection rule and N as a table, then the cost in words."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final, TextIO

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ttc_jax.results.selection import AGGREGATIONS
from ttc_jax.tpu.program import Program
from ttc_jax.tpu.topology import GIB

TIES: Final = 0.1  # share of questions in bins by their ids from which on that is said
_LABELS: Final = {
    "majority": "majority",
    "best_of_n": "best-of-N",
    "best_of_n_weighted": "best-of-N weighted",
    "pass": "pass@N",
}


def unit(summary: Mapping[str, Any]) -> str:
    """Returns what the budgets of a policy's summary count: generations, or tokens."""
    return summary.get("unit", "generations")


def label(rule: str) -> str:
    """The name of a selection rule or strategy in figures and tables."""
    name, _, aggregation = rule.rpartition("/")
    if aggregation in AGGREGATIONS:
        return f"{label(name)} by {aggregation}"
    return _LABELS.get(rule, rule.replace("_", " "))


def print_summary(summary: Mapping[str, Any], file: TextIO | None = None) -> None:
    """Prints accuracy and cost: styled on a terminal, plain text in a pipe or a dumb terminal.

    Args:
        summary: see `results.summary.summarise`.
        file: where to; default: stdout.
    """
    _print([accuracy_table(summary)], cost_lines(summary), file)


def accuracy_table(summary: Mapping[str, Any]) -> Table:
    """Rows: selection rules; columns: N; cells: the mean above its 95 % interval, in %."""
    accuracy = summary["accuracy"]
    table = _table(f"accuracy in % and its 95 % interval, {summary['questions']:,} questions")
    table.add_column("N", no_wrap=True)
    budgets = sorted({int(n) for curve in accuracy.values() for n in curve})
    for n in budgets:
        table.add_column(str(n), justify="right", no_wrap=True)
    for rule, curve in accuracy.items():
        table.add_row(label(rule), *(_cell(curve.get(str(n))) for n in budgets))
    return table


def print_sweep(summary: Mapping[str, Any], file: TextIO | None = None) -> None:
    """Prints a sweep: strategies against generations, over all questions and by difficulty bin.

    Args:
        summary: see `results.sweep_summary.summarise_sweep`.
        file: where to; default: stdout.
    """
    parts = [("all questions", summary)] + [
        (f"difficulty bin {i + 1}, pass@1 {100 * part['pass_at_1']:.0f} %", part)
        for i, part in enumerate(summary["bins"])
    ]
    tables = []
    for name, part in parts:
        tables.append(accuracy_table(part))
        tables[-1].title = f"{name}: {tables[-1].title}"
    _print(tables, [], file)


def print_policy(summary: Mapping[str, Any], file: TextIO | None = None) -> None:
    """Prints the policy's accuracy, its choices by bin, and how far it outdoes the baseline.

    Args:
        summary: that of the job `policy`.
        file: where to; default: stdout.
    """
    common = {n for found in summary["compute_optimal"].values() for n in found["gain"]}
    accuracy = {
        name: {n: point for n, point in curve.items() if n in common}
        for name, curve in summary["accuracy"].items()
    }
    tables, lines = [accuracy_table({**summary, "accuracy": accuracy})], []
    counted = unit(summary)
    for kind, found in summary["compute_optimal"].items():
        table = _table(f"strategy by {kind} difficulty, bin 1 the easiest, at N {counted}")
        table.add_column("bin", no_wrap=True)
        for n in found["gain"]:
            table.add_column(f"N={n}", no_wrap=True)
        for place, row in enumerate(found["choice"].values(), 1):
            table.add_row(str(place), *(label(name) for name in row.values()))
        tables.append(table)
        for n, ratio in summary["efficiency"][kind].items():
            net = summary["efficiency_net"][kind][n]
            # A curve that ends before supports no more than the bound of its interval.
            needs = (
                f"at least {ratio['low']:.1f} times as many {counted}; at least {net['low']:.1f}"
                if ratio["censored"]
                else f"{ratio['ratio']:.1f} times as many {counted} "
                f"({ratio['low']:.1f} to {ratio['high']:.1f}); {net['ratio']:.1f}"
            )
            lines.append(
                f"{kind} difficulty, N={n}: the baseline needs {needs} with what told the "
                "difficulty"
            )
        for n, point in (found.get("over_single") or {}).items():
            lines.append(
                f"{kind} difficulty, N={n}: choosing by bin adds {100 * point['mean']:+.1f} "
                f"({100 * point['low']:+.1f} to {100 * point['high']:+.1f}) points to the best "
                "single strategy"
            )
        if found.get("tied", 0) > TIES:
            lines.append(
                f"{kind} difficulty: {100 * found['tied']:.0f} % of the questions are as easy as "
                "some of another bin, so that their ids decide; use fewer bins or more samples"
            )
    for found in summary.get("allocation", {}).values():
        gain = found["gain"]
        lines.append(
            f"spent where it helps, {found['spent']['mean']:.1f} generations on average: "
            f"{100 * found['accuracy']['mean']:.1f} %, {100 * gain['mean']:+.1f} "
            f"({100 * gain['low']:+.1f} to {100 * gain['high']:+.1f}) points above as many for "
            "every question"
        )
    _print(tables, lines, file)


def print_followed(summary: Mapping[str, Any], file: TextIO | None = None) -> None:
    """Prints what became of questions that were answered as a policy says.

    Args:
        summary: of `ttc run` with a policy.
        file: where to; default: stdout.
    """
    [(budget, overall)] = summary["accuracy"]["compute_optimal"].items()
    table = _table(f"accuracy in % at {int(budget):,} generations, bin 1 is the easiest")
    table.add_column("bin")
    for name in ("questions", "accuracy"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("strategy")
    for part in summary["by_bin"]:
        names = ", ".join(label(name) for name in part["strategies"])
        table.add_row(str(part["bin"]), str(part["questions"]), _cell(part["accuracy"]), names)
    table.add_row("all", str(summary["questions"]), _cell(overall), "")
    spent = summary["ledger_per_question"]["generations"]
    lines = [f"{spent:,.1f} generations a question, with those that told its difficulty"]
    _print([table], [*lines, *cost_lines(summary)], file)


def print_collection(summary: Mapping[str, Any], file: TextIO | None = None) -> None:
    """Prints collected step values: their mean by the step's place in the answer, and the cost.

    Args:
        summary: see `results.summary.summarise_collection`.
        file: where to; default: stdout.
    """
    table = _table("values of steps")
    for name in ("step", "count", "mean"):
        table.add_column(name, justify="right")
    for position, row in enumerate(summary["step_values"], 1):
        table.add_row(str(position), f"{row['count']:,}", Text(f"{row['mean']:.3f}", "bold"))
    counts = (
        f"{summary['questions']:,} questions, {summary['candidates']['count']:,} samples, "
        f"{summary['prefixes']:,} different prefixes, {summary['rollouts']:,} rollouts"
    )
    _print([table], [counts, *cost_lines(summary)], file)


def print_judged(summary: Mapping[str, Any], file: TextIO | None = None) -> None:
    """Prints how well a verifier finds first wrong steps, by subset.

    Args:
        summary: see `results.judged.summarise_judged`.
        file: where to; default: stdout.
    """
    table = _table("solutions judged right in % and their 95 % interval, by subset")
    table.add_column("subset")
    for name in ("solutions", "wrong", "with a wrong step", "without", "F1"):
        table.add_column(name, justify="right")
    measures = ("accuracy_wrong", "accuracy_right", "f1")
    for name, row in summary["subsets"].items():
        counts = (f"{row[x]:,}" for x in ("solutions", "wrong"))
        table.add_row(visible(name), *counts, *(_cell(row[x]) for x in measures))
    if len(summary["subsets"]) > 1:
        table.add_row("average", "", "", *(_cell(summary["average"][x]) for x in measures))
    found, ledger, about = (summary[name] for name in ("threshold", "ledger", "labels"))
    how = "as given"
    if on := found.get("chosen_on"):
        how = (
            f"chosen on {on['solutions']:,} solutions of {on['questions']:,} held-out questions, "
            f"where F1 is {100 * on['f1']:.1f} %"
        )
    labels = (f"{visible(name)} {x['wrong']:,} of {x['solutions']:,}" for name, x in about.items())
    lines = [f"wrong solutions: {', '.join(labels)}", f"threshold: {found['value']:.4f}, {how}"]
    for what in ("verifier", "generator"):
        if flops := ledger[f"{what}_flops"]:
            tokens = ledger["verifier_tokens" if what == "verifier" else "prefill_tokens"]
            lines.append(f"{what}: {tokens:,} tokens read, {flops:.2e} FLOPs")
    _print([table], lines, file)


def print_solution(solution: Mapping[str, Any], file: TextIO | None = None) -> None:
    """Prints a question's answer with its reasoning, the other answers, and what it cost.

    Whatever is in the texts, it steers neither the terminal nor the layout.

    Args:
        solution: a `solver.Solution` as a dictionary.
        file: where to; default: stdout.
    """
    table = _table("answers")
    table.add_column("answer")
    for name in ("weight", "votes"):
        table.add_column(name, justify="right", no_wrap=True)
    for other in solution["alternatives"]:
        answer, weight = visible(other["answer"]), f"{100 * other['weight']:.1f} %"
        table.add_row(Text(answer), Text(weight), str(other["votes"]))
    how = f"{label(solution['strategy'])} at {solution['budget']:,} generations"
    if solution["difficulty"] is not None:
        how = f"difficulty {solution['difficulty']:.3f}, bin {solution['bin']} (1: easiest); {how}"
    answer = "none found" if solution["answer"] is None else visible(solution["answer"])
    console = Console(file=file, highlight=False)
    console.print(Text(visible(solution["question"]), "bold"), soft_wrap=True)
    console.print(Text(textwrap.indent(visible(solution["reasoning"]), "  ")), soft_wrap=True)
    console.print(Text.assemble("answer: ", (answer, "bold")), soft_wrap=True)
    if table.rows:
        console.print(table)
    for line in (how, *cost_lines(solution), ""):
        console.print(Text(line), soft_wrap=True)


def print_programs(programs: Sequence[Program], file: TextIO | None = None) -> None:
    """Prints what programs take and do, on each device of their chip.

    Args:
        file: where to; default: stdout.
    """
    chip = programs[0].chip
    held = _table(f"HBM of each {chip.name}, GiB of {chip.hbm_bytes / GIB:.2f}")
    done = _table("what is done on each of them")
    for table, columns in (
        (held, ("weights", "caches", "other arguments", "temporary", "left", "aliased")),
        (done, ("GFLOP", "GB moved", "GB at least", "ms at best", "bound by", "compiled in")),
    ):
        table.add_column("program", no_wrap=True)
        for name in columns:
            table.add_column(name, justify="right", no_wrap=True)
    lines = []
    for program in programs:
        other = program.argument_bytes - program.weight_bytes - program.cache_bytes
        sizes = (
            program.weight_bytes,
            program.cache_bytes,
            max(other, 0),
            program.temp_bytes + program.code_bytes,
            program.left_bytes,
            program.alias_bytes,
        )
        held.add_row(program.name, *(f"{size / GIB:.2f}" for size in sizes))
        bounds = program.bounds
        bound = max(bounds, key=lambda name: bounds[name])
        done.add_row(
            f"{program.name}, {program.measured}",
            f"{program.flops / 1e9:,.1f}",
            f"{program.bytes_accessed / 1e9:,.2f}",
            f"{program.ideal_bytes / 1e9:,.2f}",
            f"{1e3 * bounds[bound]:,.2f}",
            bound,
            f"{program.compile_seconds:.0f} s",
        )
        exchanges = [
            f"{x['count']} {x['kind']} of {x['bytes'] / 1e6:,.1f} MB" for x in program.collectives
        ]
        lines.append(f"{program.name} exchanges {', '.join(exchanges) or 'nothing'}")
        if program.host_transfers:
            lines.append(f"{program.name} waits for the host: {', '.join(program.host_transfers)}")
    _print([held, done], lines, file)


def visible(text: str) -> str:
    r"""A text in which what is not printable is escaped, as in `\x1b`, but for line ends."""
    return "".join(
        x if x.isprintable() or x == "\n" else x.encode("unicode_escape").decode() for x in text
    )


def cost_lines(summary: Mapping[str, Any]) -> list[str]:
    """What the run cost and what went wrong with candidates, in sentences."""
    ledger, candidates = summary["ledger"], summary["candidates"]
    lines = [
        f"cost: {ledger['generations']:,} generations; {ledger['decode_tokens']:,} tokens "
        f"generated from {ledger['prefill_tokens']:,} prompt tokens, "
        f"{ledger['generator_flops']:.2e} FLOPs"
    ]
    if ledger["lookahead_tokens"]:
        lines.append(f"lookahead: {ledger['lookahead_tokens']:,} tokens rolled out")
    if ledger["verifier_tokens"]:
        lines.append(
            f"verifier: {ledger['verifier_tokens']:,} tokens read, "
            f"{ledger['verifier_flops']:.2e} FLOPs"
        )
    for field, meaning in (
        ("cut_off", "were cut off by the length limit"),
        ("without_answer", "hold no answer"),
        ("unboxed", "give their answer without a box"),
    ):
        if candidates.get(field):
            lines.append(f"{candidates[field]:,} of {candidates['count']:,} candidates {meaning}")
    if unread := candidates.get("unread_verdicts"):
        lines.append(f"{unread:,} of {candidates['verdicts']:,} verdicts could not be read")
    return lines


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )


def _print(tables: Sequence[Table], lines: Sequence[str], file: TextIO | None) -> None:
    console = Console(file=file, highlight=False, markup=False)  # names may have brackets
    for table in tables:
        natural = Measurement.get(console, console.options.update(width=10_000), table).maximum
        # Numbers wrapped by a narrow terminal can be read; cut off they cannot.
        console.width = max(console.width, natural)
        console.print(table)
    for line in lines:
        console.print(line, soft_wrap=True)


def _cell(point: Mapping[str, float] | None) -> Text:
    if point is None:
        return Text("")
    interval = f"{100 * point['low']:.0f}-{100 * point['high']:.0f}"
    return Text.assemble((f"{100 * point['mean']:.1f}", "bold"), "\n", (interval, "dim"))
