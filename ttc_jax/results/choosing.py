"""How much the way of choosing matters: every rule and aggregation on the same candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ttc_jax.results.curves import (
    PASS,
    bootstrap,
    default_rules,
    question_accuracy,
)
from ttc_jax.results.selection import AGGREGATIONS, LAST
from ttc_jax.results.store import Record

MAJORITY = "majority"


def summarise_choosing(
    records: Sequence[Record], budgets: Sequence[int], subsets: int = 512, seed: int = 0
) -> dict[str, Any]:
    """Accuracy of majority, best-of-N and the weighted vote (paper, appendix on aggregation).

    Args:
      records: pools of one strategy, whose candidates are independent.
      budgets, subsets, seed: see `question_accuracy`.

    Returns:
      "accuracy": rule -> "<N>" -> {"mean", "low", "high"}, where a rule that reads scores is
      followed by "/" and the aggregation, if that is not the last step's score; "over_majority":
      the same of the differences, question by question, so that both see the same questions.

    Raises:
      UserError: as `question_accuracy`.
    """
    rules = default_rules(records)
    unscored = [rule for rule in rules if rule in (MAJORITY, PASS)]
    scored = [rule for rule in rules if rule not in unscored]
    values = dict(question_accuracy(records, unscored, budgets, subsets=subsets, seed=seed).values)
    for aggregation in AGGREGATIONS if scored else ():
        found = question_accuracy(records, scored, budgets, aggregation, subsets, seed).values
        suffix = "" if aggregation == LAST else f"/{aggregation}"
        values |= {rule + suffix: table for rule, table in found.items()}

    def curve(table: np.ndarray) -> dict[str, dict[str, float]]:
        return {str(n): x.rounded() for n, x in zip(budgets, bootstrap(table, seed), strict=True)}

    return {
        "accuracy": {rule: curve(table) for rule, table in values.items()},
        "over_majority": {
            rule: curve(table - values[MAJORITY])
            for rule, table in values.items()
            if rule not in unscored
        },
    }
