"""What summary.json of a sweep holds: strategies against budgets, by difficulty."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.results.accuracy_table import generations_to_reach, largest_pools, sizes_of
from ttc_jax.results.choosing import choosing_rules, describe_choosing, summarise_choosing
from ttc_jax.results.curves import (
    DIGITS,
    bootstrap,
    bootstrap_of,
    check_rule,
    pass_at_1,
    question_accuracy,
    tied,
)
from ttc_jax.results.selection import LAST
from ttc_jax.results.store import Record
from ttc_jax.results.summary import (
    DIFFICULTY,
    POOL,
    count_candidates,
    difficulty_samples,
    versions,
)

_Cells = list[tuple[str, int, list[Record]]]  # strategy, budget, records
_TIE = 1e-9  # right answers by which sums may differ and still tie


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
        "accuracy": strategy -> "<generations>" -> {"mean", "low", "high"}; "gain": the same of what
        a strategy is above best-of-N with as many, paired by question; "bins": a list, easiest
        first, of {"questions", "pass_at_1", "tied" (the share of them whose ids decide the bin),
        "accuracy", "gain"}; "separate_difficulty": whether samples that are not scored tell the
        bins; "strategy_efficiency": strategy -> "<generations>" -> {"ratio", "low", "high",
        "censored"}, how many times as many best-of-N needs to get as far, on the same questions;
        "ledger": strategy -> "<generations>" -> mean costs of a question; "choosing": see
        `summarise_choosing`, of the pool that sets the baseline; "judged": see `_judged`.
        Equal sweeps give equal files: "seconds" is not there.

    Raises:
        UserError: a strategy that was not run on the questions that have bins, and as
            `check_rule`, `sizes_of` and `question_accuracy`.
    """
    check_rule(rule, records, "the sweep")
    judged, records = _judged(records), [record.settled for record in records]
    cells, shown = _cells(records), _shown(records, budgets)
    selected = rule if aggregation == LAST else f"{rule}/{aggregation}"
    values, choosing = _measure(cells, shown, budgets, pools, selected, bins, subsets, seed)
    if choosing is None and shown.sizes:
        choosing = summarise_choosing(shown.records, shown.sizes, subsets, seed)
    easiness = pass_at_1(difficulty_samples(records))
    return {
        "accuracy": _table(values, set(easiness), seed),
        "bins": _by_bin(values, bins, easiness, seed),
        "separate_difficulty": any(record.strategy == DIFFICULTY for record in records),
        "gain": _table(_gain(values), set(easiness), seed),
        "strategy_efficiency": _efficiency(values, seed),
        **({"choosing": choosing} if choosing else {}),
        **({"judged": judged} if judged else {}),
        "rule": rule,
        "questions": len(easiness),
        "seeds": sorted({record.seed for record in records}),
        "ledger": _ledgers(cells),
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


def _judged(records: Sequence[Record]) -> dict[str, dict[str, dict[str, int]]]:
    """How many verdicts judges gave, and how many could not be read, by strategy and budget."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for strategy, budget, group in _cells([record for record in records if record.choice]):
        counted = count_candidates(group)
        counts = {name: counted[name] for name in ("verdicts", "unread_verdicts")}
        found.setdefault(strategy, {})[str(budget)] = counts
    return found


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
        pool, sizes = strategy in pools, sizes_of(group, budgets, pools)
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


def _ledgers(cells: _Cells) -> dict[str, dict[str, dict[str, float]]]:
    found: dict[str, dict[str, dict[str, float]]] = {}
    for strategy, budget, group in cells:
        found.setdefault(strategy, {})[str(budget)] = _mean_costs(group)
    return found


def _mean_costs(records: Sequence[Record]) -> dict[str, float]:
    total = sum((record.ledger for record in records), Ledger()).to_dict()
    return {name: round(cost / len(records), 1) for name, cost in total.items()}


def _by_bin(
    values: Mapping[tuple[str, int], Mapping[str, float]],
    bins: Mapping[str, int],
    easiness: Mapping[str, float],
    seed: int,
) -> list[dict[str, Any]]:
    """What is known of the questions of each bin, the easiest first."""
    inside: dict[int, list[str]] = {}
    for question, which in sorted(bins.items(), key=lambda item: item[1]):
        inside.setdefault(which, []).append(question)
    by_id = tied(easiness, bins)
    return [
        {
            "questions": len(questions),
            "pass_at_1": round(float(np.mean([easiness[q] for q in questions])), DIGITS),
            "tied": round(len(by_id.intersection(questions)) / len(questions), DIGITS),
            "accuracy": _table(values, set(questions), seed),
            "gain": _table(_gain(values), set(questions), seed),
        }
        for questions in inside.values()
    ]


def _table(
    values: Mapping[tuple[str, int], Mapping[str, float]], questions: set[str], seed: int
) -> dict[str, dict[str, dict[str, float]]]:
    table: dict[str, dict[str, dict[str, float]]] = {}
    for (strategy, budget), by_question in sorted(values.items()):
        column = np.array([[by_question[q]] for q in sorted(questions)])
        [estimate] = bootstrap(column, seed)
        table.setdefault(strategy, {})[str(budget)] = estimate.rounded()
    return table


def _gain(
    values: Mapping[tuple[str, int], Mapping[str, float]],
) -> dict[tuple[str, int], dict[str, float]]:
    """How far each strategy is above the pool's at the same budget, question by question."""
    return {
        (strategy, n): {question: x - values[POOL, n][question] for question, x in found.items()}
        for (strategy, n), found in values.items()
        if strategy != POOL and (POOL, n) in values
    }


def _efficiency(
    values: Mapping[tuple[str, int], Mapping[str, float]], seed: int
) -> dict[str, dict[str, dict[str, float | bool]]]:
    """How many times as many generations the pool needs, paired by question.

    Not of budgets below the pool's least, which may be more than it needs.
    """
    budgets = sorted(n for strategy, n in values if strategy == POOL)
    least = min(budgets, default=0)
    cells = sorted(cell for cell in values if cell[0] != POOL and cell[1] >= least)
    if not budgets or not cells:
        return {}
    questions = sorted(values[cells[0]])
    columns = [values[cell] for cell in [*((POOL, n) for n in budgets), *cells]]
    right = np.array([[column[question] for column in columns] for question in questions])

    def needed(sums: NDArray[np.float64]) -> list[tuple[float, bool]]:
        base, reached = sums[: len(budgets)], sums[len(budgets) :]
        return [generations_to_reach(base, budgets, x - _TIE) for x in reached.tolist()]

    def ratios(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        rows = [[n for n, _ in needed(row)] for row in sums.reshape(-1, sums.shape[-1])]
        return np.reshape(rows, (*sums.shape[:-1], -1)) / [n for _, n in cells]

    estimates, ends = bootstrap_of(right, ratios, seed), needed(right.sum(0))
    found: dict[str, dict[str, dict[str, float | bool]]] = {}
    for (strategy, n), estimate, (_, censored) in zip(cells, estimates, ends, strict=True):
        assert estimate is not None  # every accuracy is reached, or the pool ends
        found.setdefault(strategy, {})[str(n)] = estimate.ratio(censored)
    return found
