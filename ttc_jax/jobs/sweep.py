"""Runs a grid of strategies, budgets and seeds over the same questions, and compares them.

Every strategy gets the same generation budgets; one that looks k steps ahead pays for k + 1
generations a candidate, and one that revises spends its N on chains of s = √(N · ratio) answers,
N / s of them side by side. Best-of-N's smaller budgets come from its largest pool. With
`search.judge` there is one strategy more, "judge": best-of-N, from whose candidates that judge
chooses. How hard questions are is judged by samples of their own, `sweep.difficulty`. Records are
appended to
WORKDIR/results/ as they come: a killed sweep goes on where it was, and with another `selection` it
reports the same records anew. Of several hosts each takes a share of the questions; the first
reports what all have stored. At the end the workdir holds summary.json, accuracy.png/.svg/.csv, the
same by difficulty bin, and ratios.png/.svg where answers are revised.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ml_collections import ConfigDict

from ttc_jax.config import as_flag, to_json
from ttc_jax.errors import UserError, naming
from ttc_jax.experiments import build
from ttc_jax.experiments.fields import check_fields
from ttc_jax.experiments.recorder import Recorder
from ttc_jax.experiments.resumable import Part, fill
from ttc_jax.experiments.sections import entry_of, strategy_of, task_of
from ttc_jax.experiments.spending import PARALLEL, is_pool, judged, spend
from ttc_jax.experiments.workdir import exclusive
from ttc_jax.policy.difficulty import oracle, quantile_bins
from ttc_jax.policy_file import Entry
from ttc_jax.report.console import print_sweep
from ttc_jax.report.writing import write_accuracy, write_bins, write_ratios
from ttc_jax.results.store import ResultsStore
from ttc_jax.results.summary import (
    DIFFICULTY,
    POOL,
    difficulty_samples,
    write_summary,
)
from ttc_jax.results.sweep_summary import summarise_sweep


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
    """One strategy at one budget with one seed."""

    name: str
    budget: int
    seed: int
    config: ConfigDict  # of a run

    @property
    def key(self) -> tuple[str, int, int]:
        """Strategy, budget and seed in its records."""
        return self.name, self.budget, self.seed

    def __str__(self) -> str:
        return f"{self.name}, N={self.budget}, seed {self.seed}"


@exclusive
def main(config: ConfigDict, workdir: Path) -> None:
    """Runs the cells that the store does not hold yet, cheapest budgets first, then reports."""
    cells = check(config)
    task = task_of(config.task)
    questions = task.questions(config.split)[: config.limit or None]
    # Records say their budget and seed, so a grid may grow in its workdir.
    growing = ("sweep.budgets", "sweep.seeds", "sweep.difficulty", "selection")
    # Loaded once for all cells in a row that share them.
    last = functools.lru_cache(maxsize=1)
    generator, verifier, judge = build.LOAD
    load = build.Loaders(last(generator), last(verifier), last(judge))

    held: dict[tuple[str, int], Recorder] = {}  # of the last strategy and budget, for all seeds

    def recorder(cell: Cell) -> Recorder:
        search, of = cell.config.search, (cell.name, cell.budget)
        if of not in held:
            held.clear()  # or two searches took memory at once
            strategy = strategy_of(search)
            held[of] = build.recorder(cell.config, task, strategy, load, questions=len(questions))
        trees = frozenset(question.id for question in questions[: search.trees])
        return dataclasses.replace(held[of], strategy=cell.name, seed=cell.seed, trees=trees)

    store = fill(
        workdir,
        config,
        questions,
        # A generation is what every cell pays with, so the bar's estimate holds across budgets.
        [Part(partial(recorder, cell), cell.key, cell.budget, str(cell)) for cell in cells],
        may_change=(*build.may_change(config), *growing),
        title="sweep",
        unit="generation",
    )
    if store is not None:
        _report(config, workdir, store, {cell.key for cell in cells})


def check(config: ConfigDict) -> list[Cell]:
    """Returns the grid, and refuses what no run of it can use.

    The cheapest budgets come first, and seeds of a strategy behind each other: they share a search.

    Raises:
      UserError: as `cells_of` and `build.check`; a rule that reads scores, and a strategy whose
        candidates nothing scores.
    """
    check_fields(config)
    cells = sorted(cells_of(config), key=lambda cell: cell.budget)
    for cell in {(cell.name, cell.budget): cell for cell in cells}.values():
        with naming(f"sweep.strategies.{cell.name}"):
            build.check(cell.config)
            _check_rule(config.selection.rule, cell)
    return cells


def _check_rule(rule: str, cell: Cell) -> None:
    """Refuses a selection rule that cannot choose among a cell's candidates, as `check_rule`."""
    candidates = cell.config.sampling.n * cell.config.search.revisions
    if rule == "majority" or cell.name == DIFFICULTY or candidates == 1:
        return
    if not cell.config.verifier.path:
        raise UserError(
            f"{as_flag('selection.rule', rule)}: reads scores, and verifier.path is empty; name a "
            "verifier, or choose majority"
        )


def cells_of(config: ConfigDict) -> Iterator[Cell]:
    """Yields the grid; a strategy that cannot spend a budget is left out there.

    Raises:
        UserError: a strategy that fits no budget, or none for the pool of best-of-N.
    """
    for name, entry in _entries(config).items():
        with naming(f"sweep.strategies.{name}"):
            spent = {n: spend(config, entry, n) for n in config.sweep.budgets}
        fitting = [(budget, settings) for budget, settings in spent.items() if settings]
        if not fitting:
            raise UserError(f"sweep.strategies.{name} can spend none of sweep.budgets exactly")
        for budget, settings in fitting[-1:] if is_pool(entry) else fitting:
            for seed in config.sweep.seeds:
                cell = settings.copy_and_resolve_references()
                cell.seed = seed
                yield Cell(name, budget, seed, cell)
    if POOL not in config.sweep.strategies:
        raise UserError(f"sweep.strategies lacks {POOL}, whose pass@1 says how hard questions are")
    if samples := config.sweep.difficulty.samples:
        if config.sweep.difficulty.seed in config.sweep.seeds:
            raise UserError(
                f"sweep.difficulty.seed={config.sweep.difficulty.seed} is one of sweep.seeds; "
                "difficulty is judged by other samples than those that are scored"
            )
        cell = spend(config, PARALLEL, samples)
        assert cell is not None  # independent samples can spend any budget
        cell.seed, cell.search.trees = config.sweep.difficulty.seed, 0
        yield Cell(DIFFICULTY, samples, cell.seed, cell)


def _entries(config: ConfigDict) -> dict[str, Entry]:
    found = {name: entry_of(section) for name, section in config.sweep.strategies.items()}
    added = judged(config.search.get("judge", ""))
    if both := found.keys() & added:
        raise UserError(
            f"sweep.strategies.{min(both)}: search.judge adds a strategy of this name; call it "
            "something else"
        )
    return found | added


def _report(
    config: ConfigDict, workdir: Path, store: ResultsStore, cells: set[tuple[str, int, int]]
) -> None:
    records = [record for record in store.read() if record.key[1:] in cells]
    summary = summarise_sweep(
        records,
        to_json(config),
        budgets=config.sweep.budgets,
        bins=quantile_bins(oracle(difficulty_samples(records))),
        rule=config.selection.rule,
        pools=[name for name, entry in _entries(config).items() if is_pool(entry)],
        aggregation=config.selection.aggregation,
        subsets=config.selection.subsets,
    )
    path = write_summary(workdir, summary)
    title = "Search strategies at equal generation budgets"
    write_accuracy(summary, workdir, title)
    write_bins(summary, workdir)
    ratios = {name: entry.ratio for name, entry in _entries(config).items() if entry.ratio}
    if ratios:
        write_ratios(summary, ratios, workdir)
    print_sweep(summary)
    print(f"summary: {path}\nreport: {workdir / 'accuracy.png'}, {workdir / 'bins.png'}")
