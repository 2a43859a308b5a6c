"""What summary.json of a sweep holds: strategies against budgets, by difficulty."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.results.accuracy_table import largest_pools
from ttc_jax.results.choosing import choosing_rules, describe_choosing, summarise_choosing
from ttc_jax.results.curves import DIGITS, bootstrap, pass_at_1, question_accuracy
from ttc_jax.results.selection import LAST
from ttc_jax.results.store import Record
from ttc_jax.results.summary import DIFFICULTY, POOL, difficulty_samples, versions

_Cells = list[tuple[str, int, list[Record]]]  # strategy, budget, records


class _Pool(NamedTuple):
    """Records of which is shown what the way of choosing brings, and the sizes at which it is."""

    records: list[Record]
    sizes: list[int]


class _Measured(NamedTuple):
    """What the records of a sweep say.

    Attributes:
        values: (strategy, generations) -> question -> accuracy.
        choosing: see `describe_choosing`; None where no records were those of the pool.
    """

    values: dict[tuple[str, int], dict[str, float]]
    choosing: dict[str, Any] | None


def summarise_sweep(
    records: Sequence[Record],
    config: Mapping[str, Any],
    budgets: Sequence[int],
    bins: Mapping[str, int],
    rule: str = "best_of_n_weighted",
    pools: Collection[str] = (POOL,),
    aggregation: str = "last",
    subsets: int = 512,
    seed: int = 0,
) -> dict[str, Any]:
    """What summary.json of a sweep holds.

    Args:
        records: of several strategies and budgets over the same questions, in any order.
        budgets: those at which strategies are compared.
        bins: question -> difficulty bin, 0 the easiest.
        rule: how the final answer is chosen from a search's candidates.
        pools: strategies whose candidates are independent: a part of them is a smaller budget.
        aggregation, subsets, seed: see `question_accuracy`.

    Returns:
        "accuracy": strategy -> "<generations>" -> {"mean", "low", "high"}; "bins": a list, easiest
        first, of {"questions", "pass_at_1", "accuracy"}; "ledger": strategy -> "<generations>" ->
        mean costs of a question; "choosing": see `summarise_choosing`, of the pool that sets the
        baseline; "seconds" is nowhere, so that equal sweeps give equal files.

    Raises:
        UserError: a strategy that was not run on the questions that have bins, and as
            `question_accuracy`.
    """
    cells, shown = _cells(records), _shown(records, budgets)
    selected = rule if aggregation == LAST else f"{rule}/{aggregation}"
    values, choosing = _measure(cells, shown, budgets, pools, selected, bins, subsets, seed)
    if choosing is None and shown.sizes:
        choosing = summarise_choosing(shown.records, shown.sizes, subsets, seed)
    easiness = pass_at_1(difficulty_samples(records))
    ledger: dict[str, dict[str, dict[str, float]]] = {}
    for strategy, budget, group in cells:
        ledger.setdefault(strategy, {})[str(budget)] = _mean_costs(group)
    return {
        "accuracy": _table(values, set(easiness), seed),
        "bins": [
            {
                "questions": len(inside),
                "pass_at_1": round(float(np.mean([easiness[q] for q in inside])), DIGITS),
                "accuracy": _table(values, set(inside), seed),
            }
            for inside in _by_bin(bins)
        ],
        **({"choosing": choosing} if choosing else {}),
        "rule": rule,
        "questions": len(easiness),
        "seeds": sorted({record.seed for record in records}),
        "ledger": ledger,
        "config": dict(config),
        "versions": versions(),
    }


def _cells(records: Sequence[Record]) -> _Cells:
    """The records of each strategy and budget, by budget."""
    found: dict[tuple[str, int], list[Record]] = {}
    for record in records:
        if record.strategy != DIFFICULTY:
            found.setdefault((record.strategy, record.budget), []).append(record)
    return [(*cell, found[cell]) for cell in sorted(found, key=lambda cell: cell[1])]


def _shown(records: Sequence[Record], budgets: Sequence[int]) -> _Pool:
    pool = [record for record in largest_pools(records, [POOL]) if record.strategy == POOL]
    least = min((len(record.candidates) for record in pool), default=0)
    return _Pool(pool, [n for n in budgets if n <= least])


def _measure(
    cells: _Cells,
    shown: _Pool,
    budgets: Sequence[int],
    pools: Collection[str],
    selected: str,
    bins: Mapping[str, int],
    subsets: int,
    seed: int,
) -> _Measured:
    """Measures every strategy at each of its budgets, a pool at the smaller ones too.

    Args:
        selected: how the final answer is chosen, as "<rule>/<aggregation>".
    """
    values: dict[tuple[str, int], dict[str, float]] = {}
    choosing = None
    for strategy, budget, group in cells:
        pool = strategy in pools
        sizes = [n for n in budgets if n <= budget] if pool else [len(group[0].candidates)]
        # What is shown of choosing is of one of these groups, and shares its random subsets.
        same = shown.sizes and shown == (group, sizes)
        of_choosing = choosing_rules(group) if same else []
        accuracy = question_accuracy(group, [selected, *of_choosing], sizes, LAST, subsets, seed)
        if others := bins.keys() ^ set(accuracy.questions):
            raise UserError(
                f"results: {strategy} at N={budget} and the samples that say how hard questions "
                f"are must be of the same questions; only one of them has {min(others)!r}"
            )
        if of_choosing:
            choosing = describe_choosing(accuracy, of_choosing, seed)
        for i, size in enumerate(sizes):
            found = accuracy.values[selected][:, i].tolist()
            values[strategy, size if pool else budget] = dict(
                zip(accuracy.questions, found, strict=True)
            )
    return _Measured(values, choosing)


def _mean_costs(records: Sequence[Record]) -> dict[str, float]:
    total = sum((record.ledger for record in records), Ledger()).to_dict()
    return {name: round(cost / len(records), 1) for name, cost in total.items()}


def _by_bin(bins: Mapping[str, int]) -> Iterator[list[str]]:
    """The questions of each bin, the easiest first."""
    for which in sorted(set(bins.values())):
        yield [question for question, own in bins.items() if own == which]


def _table(
    values: Mapping[tuple[str, int], Mapping[str, float]], questions: set[str], seed: int
) -> dict[str, dict[str, dict[str, float]]]:
    table: dict[str, dict[str, dict[str, float]]] = {}
    for (strategy, budget), by_question in sorted(values.items()):
        column = np.array([[by_question[q]] for q in sorted(questions)])
        [estimate] = bootstrap(column, seed)
        table.setdefault(strategy, {})[str(budget)] = estimate.rounded()
    return table
