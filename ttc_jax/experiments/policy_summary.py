"""Summarises a fitted policy: accuracy, efficiency, choices, and the match at equal FLOPs."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from ttc_jax.compute.ledger import Ledger
from ttc_jax.config import to_json
from ttc_jax.errors import UserError
from ttc_jax.policy import difficulty
from ttc_jax.policy.difficulty import Binning
from ttc_jax.policy.flops_match import Match, generations, match
from ttc_jax.policy.policy import Policy, PolicyEvaluation
from ttc_jax.results.accuracy_table import AccuracyTable
from ttc_jax.results.curves import Estimate, bootstrap
from ttc_jax.results.foreign import read_records
from ttc_jax.results.store import Record
from ttc_jax.results.summary import DIFFICULTY, versions

_log = logging.getLogger(__name__)


class Difficulty(NamedTuple):
    """How hard questions are, told in one way.

    Attributes:
      binning: what puts questions into bins.
      samples: drawn of each question to tell it.
    """

    binning: Binning
    samples: int


def flops_match(
    config: ConfigDict, table: AccuracyTable, told: Difficulty, records: Sequence[Record]
) -> dict[str, Any]:
    """Returns R -> what is charged -> generations, and both sides over all questions and by bin.

    The samples that tell the difficulty are charged to every question, at the verifier's cost where
    that is charged. Samples from elsewhere do not tell what their verifier cost.
    """
    large = read_records(Path(config.flops_match.large), texts=False)
    if not large:
        raise UserError(f"flops_match.large={config.flops_match.large}: holds no records")
    searched = [record for record in records if record.strategy != DIFFICULTY]
    cost = sum((record.ledger for record in searched), Ledger())
    by_formula = config.flops_match.formula == "iclr"  # which charges the verifier itself
    if not (by_formula or cost.generator_flops):
        _log.warning("FLOPs are not told in data.path, so they are matched without the verifier's")
    budgets: dict[tuple[str, str], float] = {}
    for ratio in config.flops_match.ratios:
        spent = generations(config.flops_match.scale, ratio, config.flops_match.formula)
        if not by_formula:
            budgets[f"{ratio:g}", "generator"] = spent
            if not cost.generator_flops:
                continue
            spent /= 1 + cost.verifier_flops / cost.generator_flops
        budgets[f"{ratio:g}", "verifier"] = spent
        budgets[f"{ratio:g}", "verifier_and_difficulty"] = spent - told.samples
    matches = match(
        table,
        told.binning,
        difficulty.oracle(large),
        list(budgets.values()),
        seed=config.seed,
        count=config.policy.resamples,
    )
    found: dict[str, Any] = {}
    for ((ratio, charged), n), sides in zip(budgets.items(), matches, strict=True):
        found.setdefault(ratio, {})[charged] = {
            "generations": round(n, 6),
            "affordable": n >= table.budgets[0],
            "beyond": n > table.budgets[-1],
            "by_bin": [_plain(x) for x in sides[1:]],
            "all": _plain(sides[0]),
        }
    return found


def _plain(sides: Match) -> dict[str, Any]:
    return {name: x and x.rounded() for name, x in vars(sides).items()}


def summarise(
    config: ConfigDict,
    table: AccuracyTable,
    baseline: AccuracyTable,
    policies: Mapping[str, Policy],
    worths: Mapping[str, PolicyEvaluation],
    binnings: Mapping[str, Binning],
) -> dict[str, Any]:
    """Returns what summary.json holds."""
    budgets = [str(n) for n in table.budgets]

    def by_budget(estimates: Sequence[Any]) -> dict[str, dict[str, float]]:
        return {n: x.rounded() for n, x in zip(budgets, estimates, strict=True)}

    def ratios(estimates: Sequence[Estimate], censored: Sequence[bool]) -> dict[str, Any]:
        rows = zip(budgets, estimates, censored, strict=True)
        return {n: estimate.ratio(ends) for n, estimate, ends in rows}

    base = bootstrap(baseline.of(config.policy.baseline).mean(-1), config.seed)
    unit = config.policy.get("unit", "generations")
    return {
        **({} if unit == "generations" else {"unit": unit}),
        "accuracy": {
            config.policy.baseline: {
                str(n): x.rounded() for n, x in zip(baseline.budgets, base, strict=True)
            },
            **{f"compute_optimal_{k}": by_budget(x.accuracy) for k, x in worths.items()},
        },
        "compute_optimal": {
            kind: {
                "accuracy": by_budget(found.accuracy),
                "by_bin": [by_budget(row) for row in found.by_bin],
                "gain": by_budget(found.gain),
                "single": by_budget(found.single),
                "over_single": by_budget(found.over_single),
                "tied": round(binnings[kind].tied(table.questions), 6),
                "choice": policies[kind].to_dict()["choice"],
            }
            for kind, found in worths.items()
        },
        "efficiency": {
            kind: ratios(found.efficiency, found.censored) for kind, found in worths.items()
        },
        # The same over all generations spent, those that told the difficulty included.
        "efficiency_net": {
            kind: ratios(found.net, found.censored) for kind, found in worths.items()
        },
        "rule": config.selection.rule,
        "questions": len(table.questions),
        "seeds": list(table.seeds),
        "config": to_json(config),
        "versions": versions(),
    }
