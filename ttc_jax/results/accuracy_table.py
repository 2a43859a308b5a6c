"""Every question's accuracy under every strategy, budget and seed: what policies are fitted to."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.results.curves import question_accuracy
from ttc_jax.results.store import Record


@dataclasses.dataclass(frozen=True)
class AccuracyTable:
    """A table of accuracies; NaN where a strategy cannot spend a budget.

    Attributes:
      questions: [Q] ids, sorted.
      strategies: names, by the FLOPs of a generation, the cheapest first.
      budgets: [N] generations a question, ascending.
      seeds: [T].
      values: [Q, S, N, T] chance that the selected answer is right.
    """

    questions: tuple[str, ...]
    strategies: tuple[str, ...]
    budgets: tuple[int, ...]
    seeds: tuple[int, ...]
    values: NDArray[np.float64]

    def of(self, strategy: str) -> NDArray[np.float64]:
        """[Q, N, T] one strategy's.

        Raises:
          UserError: there is none of that name.
        """
        if strategy not in self.strategies:
            raise UserError(f"results: no strategy {strategy!r}; {', '.join(self.strategies)}")
        return self.values[:, self.strategies.index(strategy)]

    def at(self, strategy: str, budgets: Sequence[int], seed: int) -> NDArray[np.float64] | None:
        """[Q, N] one strategy's at some budgets and a seed; None where one of them is not here."""
        if strategy not in self.strategies or seed not in self.seeds:
            return None
        if not set(budgets) <= set(self.budgets):
            return None
        places = [self.budgets.index(n) for n in budgets]
        return self.of(strategy)[:, places, self.seeds.index(seed)]


def accuracy_table(
    records: Sequence[Record],
    budgets: Sequence[int],
    *,
    pools: Collection[str],
    rule: str = "best_of_n_weighted",
    aggregation: str = "last",
    subsets: int = 512,
    known: AccuracyTable | None = None,
) -> AccuracyTable:
    """The table that a sweep's records make.

    Args:
      records: of several strategies, budgets and seeds over the same questions, in any order.
      budgets: those to look at; for pools any up to their size.
      pools: strategies whose candidates are independent: a part of them is a smaller budget.
      rule, aggregation, subsets: see `question_accuracy`.
      known: a table of some of these records, made with the same options: it is read where it
        has what is asked for, which is otherwise found anew.

    Raises:
      UserError: no records at these budgets, or a cell that lacks questions (an unfinished sweep).
    """
    records = [record.settled for record in largest_pools(records, pools)]
    budgets = sorted(set(budgets))
    cells: dict[tuple[str, int, int], list[Record]] = {}
    for record in records:
        if record.strategy in pools or record.budget in budgets:
            cells.setdefault((record.strategy, record.budget, record.seed), []).append(record)
    if not cells:
        raise UserError(f"results: no record at budgets {', '.join(map(str, budgets))}")
    strategies = _cheapest_first([record for group in cells.values() for record in group])
    questions = tuple(sorted({r.question for group in cells.values() for r in group}))
    seeds = tuple(sorted({seed for _, _, seed in cells}))
    values = np.full((len(questions), len(strategies), len(budgets), len(seeds)), np.nan)
    for name, budget in {cell[:2] for cell in cells}:
        if missing := [seed for seed in seeds if (name, budget, seed) not in cells]:
            raise UserError(
                f"results: {name} at N={budget} lacks seed {missing[0]}; run the sweep to its end"
            )
    for (name, budget, seed), group in cells.items():
        if len(group) != len(questions):
            raise UserError(
                f"results: {name} at N={budget}, seed {seed}, holds {len(group)} of "
                f"{len(questions)} questions; run the sweep to its end"
            )
        pool, sizes = name in pools, sizes_of(group, budgets, pools)
        if not sizes:
            continue
        found = None
        if known is not None and pool and known.questions == questions:
            found = known.at(name, sizes, seed)
        if found is None:
            found = question_accuracy(
                group, [rule], sizes, aggregation=aggregation, subsets=subsets, seed=seed
            ).values[rule]
        at = [budgets.index(n) for n in (sizes if pool else [budget])]
        values[:, strategies.index(name), at, seeds.index(seed)] = found
    return AccuracyTable(questions, strategies, tuple(budgets), seeds, values)


def sizes_of(group: Sequence[Record], budgets: Sequence[int], pools: Collection[str]) -> list[int]:
    """Returns how many candidates to choose among: of a pool at every budget up to its own.

    Args:
      group: records of one strategy and budget.

    Raises:
      UserError: a pool that has fewer candidates than its budget.
    """
    least = min(group, key=lambda record: len(record.candidates))
    count = len(least.candidates)
    if least.strategy not in pools:
        return [count]
    sizes = [n for n in budgets if n <= least.budget]
    if max(sizes, default=0) > count:
        raise UserError(
            f"results: the budget of question {least.question!r} is {least.budget}, and it has "
            f"samples of {least.strategy!r} for {count}, as these are independent and cost one "
            "generation each; leave budget out, or name the strategy otherwise"
        )
    return sizes


def _cheapest_first(records: Sequence[Record]) -> tuple[str, ...]:
    """Strategies by their FLOPs a generation; in order of appearance where these are not told."""
    totals: dict[str, Ledger] = {}
    for record in records:
        totals[record.strategy] = totals.get(record.strategy, Ledger()) + record.ledger
    flops = {
        name: (total.generator_flops + total.verifier_flops) / max(total.generations, 1)
        for name, total in totals.items()
    }
    return tuple(sorted(totals, key=lambda name: flops[name]))


def largest_pools(records: Sequence[Record], pools: Collection[str]) -> list[Record]:
    """The records without the smaller pools of a strategy and seed, as a sweep that grew has them.

    Args:
      pools: see `accuracy_table`.
    """
    size: dict[tuple[str, int], int] = {}
    for record in records:
        key = record.strategy, record.seed
        size[key] = max(size.get(key, 0), record.budget)
    return [
        record
        for record in records
        if record.strategy not in pools or record.budget == size[record.strategy, record.seed]
    ]


def generations_to_reach(
    accuracy: NDArray[np.float64], budgets: Sequence[int], target: float
) -> tuple[float, bool]:
    """The first budget at which a curve reaches a target, between budgets by log2 N.

    Returns:
      The budget, and whether the curve ends before it gets there; the budget is then the last one.
    """
    above = np.flatnonzero(accuracy >= target)
    if not above.size:
        return float(budgets[-1]), True
    first = int(above[0])
    if first == 0:
        return float(budgets[0]), False
    low, high = accuracy[first - 1], accuracy[first]
    part = (target - low) / (high - low)
    a, b = math.log2(budgets[first - 1]), math.log2(budgets[first])
    return 2 ** (a + float(part) * (b - a)), False
