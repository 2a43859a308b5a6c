"""How much the way of choosing matters: every rule and aggregation on the same candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttc_jax.results.credit import PASS
from ttc_jax.results.curves import QuestionAccuracy, bootstrap, default_rules, question_accuracy
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
    rules = choosing_rules(records)
    accuracy = question_accuracy(records, rules, budgets, LAST, subsets, seed)
    return describe_choosing(accuracy, rules, seed)


def choosing_rules(records: Sequence[Record]) -> list[str]:
    """The rules that `summarise_choosing` compares, as `question_accuracy` takes them."""
    rules = default_rules(records)
    unscored = [rule for rule in rules if rule in (MAJORITY, PASS)]
    scored = [rule for rule in rules if rule not in unscored]
    steps = max((len(x.step_scores) for record in records for x in record.candidates), default=0)
    hows = AGGREGATIONS if steps > 1 else [LAST]  # of one score all are that score
    suffixes = ["" if how == LAST else f"/{how}" for how in hows]
    return unscored + [rule + suffix for suffix in suffixes for rule in scored]


def describe_choosing(
    accuracy: QuestionAccuracy, rules: Sequence[str], seed: int = 0
) -> dict[str, Any]:
    """What `summarise_choosing` returns, of accuracies that are known."""

    def curves(values: Mapping[str, NDArray[np.float64]]) -> dict[str, dict[str, dict[str, float]]]:
        return {
            rule: {
                str(n): x.rounded()
                for n, x in zip(accuracy.budgets, bootstrap(table, seed), strict=True)
            }
            for rule, table in values.items()
        }

    values = {rule: accuracy.values[rule] for rule in rules}
    base = values[MAJORITY]
    over = {rule: x - base for rule, x in values.items() if rule not in (MAJORITY, PASS)}
    return {"accuracy": curves(values), "over_majority": curves(over)}
