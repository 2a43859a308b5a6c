"""Searches for answers to every question, grades them, and reports accuracy against N.

Records are appended to WORKDIR/results/ as they come, so that a killed run goes on where it was. Of
several hosts each takes a share of the questions; the first reports what all have stored. At the
end the workdir holds summary.json, accuracy.png/.svg/.csv, timing.json and, where answers are
revised, chains.png/.svg; with another `selection` the same records are reported anew. Answers that
could not be read are listed in unparsed-00000.log. A config of several stages runs them all, each
in a folder of the workdir. prompts.txt holds the first prompts just as the generator reads them.

With --config.policy.path=FILE, a policy that `ttc policy` wrote, every question gets the strategy
that is best for its difficulty at --config.budget generations, as `ttc solve` does it; summary.json
and the table then say by bin what was done, how often it was right and what it cost.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ttc_jax import jobs
from ttc_jax.compute.ledger import Ledger
from ttc_jax.config import to_json
from ttc_jax.experiments import build
from ttc_jax.experiments.fields import check_fields
from ttc_jax.experiments.fitted import followed
from ttc_jax.experiments.recorder import Recorder
from ttc_jax.experiments.resumable import Part, fill, write_timing
from ttc_jax.experiments.sections import task_of
from ttc_jax.experiments.solution import Solution
from ttc_jax.experiments.stages import run_stages
from ttc_jax.experiments.workdir import Claim, exclusive
from ttc_jax.hosts import hosts
from ttc_jax.report.console import print_followed, print_summary
from ttc_jax.report.writing import write_accuracy, write_chains
from ttc_jax.results.chains import summarise_chains
from ttc_jax.results.curves import bootstrap
from ttc_jax.results.store import ResultsStore
from ttc_jax.results.summary import summarise, versions, write_summary
from ttc_jax.search.strategies import Strategy
from ttc_jax.tasks.grading import unparsed_kept


@exclusive
def main(config: ConfigDict, workdir: Path) -> None:
    """Searches for the questions that the store does not hold yet, then reports."""
    if "stages" in config:
        run_stages(config, workdir, jobs.runners(), jobs.checks())
        return
    if "policy" in config:
        follow(config, workdir)
        return
    strategy = build.check(config)
    task = task_of(config.task)
    questions = task.questions(config.split)[: config.limit or None]
    trees = frozenset(question.id for question in questions[: config.search.trees])

    def recorder() -> Recorder:
        found = build.recorder(config, task, strategy, questions=len(questions))
        return dataclasses.replace(found, trees=trees)

    may_change = (*build.may_change(config), "selection")
    parts = [Part(recorder)]
    store = fill(workdir, config, questions, parts, may_change=may_change, title="search")
    if store is not None:
        report(config, workdir, store, strategy)


def check(config: ConfigDict) -> None:
    """Refuses what no run can use, before models are read. Raises as `build.check`."""
    if "policy" in config or "stages" in config:
        check_fields(config)
    else:
        build.check(config)


def report(config: ConfigDict, workdir: Path, store: ResultsStore, strategy: Strategy) -> None:
    """Writes summary, timing and figures of what the store holds, and prints the table."""
    records = store.read()
    summary = summarise(
        records,
        to_json(config),
        # Subsets of a pool are pools; subsets of a search's candidates are no smaller searches.
        budgets=(config.sampling.n * config.search.revisions,) if strategy.stops_at_steps else None,
        aggregation=config.selection.aggregation,
        subsets=config.selection.subsets,
        seed=config.seed,
    )
    chained = any(record.sequential > 1 for record in records)
    if chained:
        summary["chains"] = summarise_chains(records, config.seed)
        write_chains(summary, workdir)
    path = write_summary(workdir, summary)
    timing = write_timing(workdir, records, summary)
    write_accuracy(summary, workdir)
    print_summary(summary)
    print(f"time: {timing}, compiling and scoring included")
    print(f"summary: {path}\nreport: {workdir / 'accuracy.png'}")


def follow(config: ConfigDict, workdir: Path) -> None:
    """Answers the questions as the policy says, those that the store holds left out, and reports.

    Raises:
      UserError: as `build.solver`.
    """
    check_fields(config)
    config, _ = followed(config)
    # What a policy says counts, and not from which file it came.
    claim = Claim(
        workdir, config, may_change=(*build.may_change(config), "policy.path", "policy.loaded")
    )
    store = ResultsStore(workdir, shard=hosts.index(), claim=claim)
    solver = build.solver(config, store, held=store.read())
    questions = task_of(config.task).questions(config.split)[: config.limit or None]
    claim.take(download=True)
    with unparsed_kept(workdir, hosts.index()):
        solutions = solver.solve(hosts.mine(questions))
    hosts.wait("all records stored")
    if not hosts.is_first():
        return
    if hosts.count() > 1:
        solutions = build.solver(config, held=store.read()).solve(questions)
    summary = _summarise(config, solutions)
    path = write_summary(workdir, summary)
    print_followed(summary)
    print(f"summary: {path}")


def _summarise(config: ConfigDict, solutions: Sequence[Solution]) -> dict[str, Any]:
    """Returns what summary.json holds where a policy is followed."""

    def accuracy(some: Sequence[Solution]) -> dict[str, float]:
        [estimate] = bootstrap(np.array([[float(bool(x.correct))] for x in some]), config.seed)
        return estimate.rounded()

    by_bin = []
    for number in sorted({solution.bin or 0 for solution in solutions}):
        inside = [solution for solution in solutions if (solution.bin or 0) == number]
        by_bin.append(
            {
                "bin": number,
                "questions": len(inside),
                "strategies": dict(Counter(solution.strategy for solution in inside)),
                "accuracy": accuracy(inside),
            }
        )
    ledger = sum((solution.ledger for solution in solutions), Ledger()).to_dict()
    candidates = Counter[str]()
    for solution in solutions:
        candidates.update(solution.candidates)
    return {
        "accuracy": {"compute_optimal": {str(config.budget): accuracy(solutions)}},
        "by_bin": by_bin,
        "questions": len(solutions),
        "candidates": dict(candidates),
        "ledger": ledger,
        "ledger_per_question": {name: cost / len(solutions) for name, cost in ledger.items()},
        "config": to_json(config),
        "versions": versions(),
    }
