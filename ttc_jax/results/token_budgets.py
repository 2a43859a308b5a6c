"""Budgets in tokens: what strategies of unequal answers are right in, paying the same.

A generation of one strategy may be ten times as long as one of another, as where thoughts differ in
length. At a budget of tokens each gets as many generations as these pay for on average.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttc_jax.errors import UserError
from ttc_jax.results.accuracy_table import AccuracyTable, accuracy_table, largest_pools
from ttc_jax.results.store import Record


@dataclasses.dataclass(frozen=True)
class Spending:
    """The tokens that generations take.

    Attributes:
      tokens: strategy -> generations of a question -> tokens, on average over questions and seeds.
        Of pools there is just their whole size.
      pools: strategies whose candidates are independent: a part of them takes its part.
    """

    tokens: Mapping[str, Mapping[int, float]]
    pools: Collection[str]

    @classmethod
    def of(cls, records: Sequence[Record], pools: Collection[str]) -> Spending:
        """Returns what the records of a sweep took.

        Raises:
          UserError: as `written`.
        """
        found: dict[str, dict[int, list[int]]] = {}
        for record in largest_pools(records, pools):
            sizes = found.setdefault(record.strategy, {})
            sizes.setdefault(record.budget, []).append(written(record))
        means = {
            name: {n: float(np.mean(spent)) for n, spent in sizes.items()}
            for name, sizes in found.items()
        }
        return cls(means, pools)

    def one(self, strategy: str) -> float:
        """Returns the tokens of one generation, of the largest budget."""
        n, tokens = max(self.tokens[strategy].items())
        return tokens / n

    def generations(self, strategy: str, budget: int) -> int:
        """Returns the generations that a budget of tokens pays for; 0 where it pays for none."""
        if strategy in self.pools:
            return min(max(self.tokens[strategy]), int(budget / self.one(strategy)))
        return max((n for n, x in self.tokens[strategy].items() if x <= budget), default=0)


def written(record: Record) -> int:
    """Returns the tokens that a search wrote, those of lookahead included.

    Raises:
      UserError: they were not counted, as in samples of some other programs.
    """
    if not record.ledger.decode_tokens:
        raise UserError(
            f"policy.unit=tokens: the tokens of {record.strategy!r} for question "
            f"{record.question!r} were not counted; leave that strategy out, or set "
            "policy.unit=generations"
        )
    return record.ledger.decode_tokens + record.ledger.lookahead_tokens


def token_table(
    records: Sequence[Record], budgets: Sequence[int], spending: Spending, **options: Any
) -> AccuracyTable:
    """Returns the accuracy of every strategy at budgets of tokens; NaN where these buy nothing.

    Args:
      budgets: tokens a question.
      options: those of `accuracy_table`, but for the pools.

    Raises:
      UserError: as `accuracy_table`, or a budget that buys no strategy a generation.
    """
    budgets = sorted(set(budgets))
    wanted = {
        name: [spending.generations(name, budget) for budget in budgets] for name in spending.tokens
    }
    for place, budget in enumerate(budgets):
        if not any(row[place] for row in wanted.values()):
            least = min(map(spending.one, spending.tokens))
            raise UserError(
                f"policy.budgets={budget} tokens: no strategy writes an answer in so few; the "
                f"shortest take {least:,.0f}"
            )
    sizes = sorted({n for row in wanted.values() for n in row if n})
    table = accuracy_table(records, sizes, pools=spending.pools, **options)
    shape = len(table.questions), len(table.strategies), len(budgets), len(table.seeds)
    values: NDArray[np.float64] = np.full(shape, np.nan)
    for which, name in enumerate(table.strategies):
        for place, n in enumerate(wanted[name]):
            if n:
                values[:, which, place] = table.values[:, which, table.budgets.index(n)]
    return dataclasses.replace(table, budgets=tuple(budgets), values=values)
