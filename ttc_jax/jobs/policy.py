"""Fits the compute-optimal policy to a sweep: the best strategy of each difficulty bin and budget.

Bins come from samples that are not scored where the sweep has such (strategy `difficulty`), else
from those of the baseline. Within each bin one half of the questions chooses for the other, so that
what is reported was earned on questions that did not choose. WORKDIR gets policy.py, a config with
the policy fitted to all questions; summary.json: accuracy, efficiency and the choices, with oracle
and with predicted difficulty; and compute_optimal.png/.svg. Where `flops_match.large` names a run
of a larger model's greedy answers, the two are compared at equal FLOPs, pretraining included.
"""

from __future__ import annotations

import logging
import pprint
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ttc_jax.compute.ledger import Ledger
from ttc_jax.config import as_flag, at_least, claim_workdir, one_of, to_json
from ttc_jax.errors import UserError
from ttc_jax.policy import difficulty
from ttc_jax.policy.flops_match import PER_TOKEN, Match, generations, match
from ttc_jax.policy.policy import Policy, Worth, fit, worth
from ttc_jax.report.figures import write_compute_optimal
from ttc_jax.report.tables import print_policy
from ttc_jax.results.curves import bootstrap, budget_grid
from ttc_jax.results.outcomes import Outcomes, largest_pools, outcomes
from ttc_jax.results.store import Record, ResultsStore
from ttc_jax.results.summary import DIFFICULTY, versions, write_summary

KINDS = ("predicted", "oracle")
_log = logging.getLogger(__name__)


def main(config: ConfigDict, workdir: Path) -> None:
    """Reads `config.data.path`, fits, and reports."""
    one_of(config, "policy.difficulty", KINDS)
    at_least(config, 1, "policy.bins", "policy.budgets")
    at_least(config, 10, "policy.resamples")
    one_of(config, "flops_match.formula", tuple(PER_TOKEN))
    records = ResultsStore(Path(config.data.path)).read()
    if not records:
        raise UserError(f"data.path={config.data.path}: holds no records; ttc sweep writes them")
    table, baseline = _tables(config, records)
    found = {kind: _bins(config, records, kind) for kind in KINDS}
    claim_workdir(workdir, config)
    about = {"name": config.policy.baseline, "count": config.policy.resamples}
    worths = {
        kind: worth(table, bins, baseline, seed=config.seed, **about)
        for kind, (_, bins) in found.items()
    }
    policies = {kind: fit(table, ease, bins) for kind, (ease, bins) in found.items()}
    path = write_config(workdir / "policy.py", config, policies[config.policy.difficulty])
    summary = _summarise(config, table, baseline, policies, worths)
    if config.flops_match.large:
        bins = found[config.policy.difficulty][1]
        summary["flops_match"] = _flops_match(config, table, bins, records)
    write_summary(workdir, summary)
    write_compute_optimal(summary, workdir)
    print_policy(summary)
    print(f"policy: {path}\nsummary: {workdir / 'summary.json'}")


def _tables(config: ConfigDict, records: Sequence[Record]) -> tuple[Outcomes, Outcomes]:
    """All strategies at the policy's budgets, and the baseline at every budget of its pool."""
    name, budgets = config.policy.baseline, config.policy.budgets
    scored = [record for record in records if record.strategy != DIFFICULTY]
    pool = [x for x in largest_pools(scored, [name]) if x.strategy == name]
    if not pool:
        raise UserError(
            f"policy.baseline={name}: data.path has no such strategy; it has "
            f"{', '.join(sorted({record.strategy for record in scored}))}"
        )
    options = {
        "pools": config.policy.pools,
        "rule": config.selection.rule,
        "aggregation": config.selection.aggregation,
        "subsets": config.selection.subsets,
    }
    largest = min(len(record.candidates) for record in pool)
    if max(budgets) > largest:
        raise UserError(
            f"{as_flag('policy.budgets', budgets)}: {name} has pools of {largest} candidates, with "
            "which larger budgets cannot be compared"
        )
    powers = budget_grid(largest)[:-1]
    fine = sorted({*budgets, *powers, *(3 * n for n in powers if 3 * n < largest), largest})
    return outcomes(scored, budgets, **options), outcomes(pool, fine, **options)


def _bins(
    config: ConfigDict, records: Sequence[Record], kind: str
) -> tuple[dict[str, float], dict[str, int]]:
    """Each question's ease and bin."""
    samples = [record for record in records if record.strategy == DIFFICULTY]
    if not samples:
        samples = [record for record in records if record.strategy == config.policy.baseline]
        _log.warning("%s bins come from the samples that are scored, which flatters them", kind)
    if kind == "oracle":
        ease = difficulty.oracle(samples)
    else:
        ease = difficulty.predicted(samples, config.selection.aggregation)
    if config.policy.edges:
        return ease, difficulty.absolute_bins(ease, config.policy.edges)
    return ease, difficulty.quantile_bins(ease, config.policy.bins)


def _flops_match(
    config: ConfigDict, table: Outcomes, bins: Mapping[str, int], records: Sequence[Record]
) -> dict[str, Any]:
    """R -> what is charged -> generations, and both sides over all questions and by bin.

    The difficulty's samples are charged to every question once, at the verifier's cost where that
    is charged.
    """
    large = ResultsStore(Path(config.flops_match.large)).read()
    if not large:
        raise UserError(f"flops_match.large={config.flops_match.large}: holds no records")
    greedy = difficulty.oracle(large)
    scored = [record for record in records if record.strategy != DIFFICULTY]
    cost = sum((record.ledger for record in scored), Ledger())
    verifier = cost.verifier_flops / max(cost.generator_flops, 1)
    sampled = [len(record.candidates) for record in records if record.strategy == DIFFICULTY]
    found = {}
    for ratio in config.flops_match.ratios:
        spent = generations(config.flops_match.scale, ratio, config.flops_match.formula)
        charged = {}
        if config.flops_match.formula == "arxiv":  # the other one charges the verifier itself
            charged["generator"], spent = spent, spent / (1 + verifier)
        charged |= {
            "verifier": spent,
            "verifier_and_difficulty": spent - max(sampled, default=0),
        }
        found[f"{ratio:g}"] = {
            name: {
                "generations": round(n, 6),
                "affordable": n >= table.budgets[0],
                "beyond": n > table.budgets[-1],
                "by_bin": [_plain(x) for x in sides[1:]],
                "all": _plain(sides[0]),
            }
            for name, n in charged.items()
            for sides in [match(table, bins, greedy, n, count=config.policy.resamples)]
        }
    return found


def _plain(sides: Match) -> dict[str, Any]:
    return {name: x and x.rounded() for name, x in vars(sides).items()}


def write_config(path: Path, config: ConfigDict, policy: Policy) -> Path:
    """The policy as a config that `load_config` reads.

    Raises:
      UserError: the disk is full or not writable.
    """
    table = {"difficulty": config.policy.difficulty, **policy.to_dict()}
    text = f'''"""The compute-optimal policy that `ttc policy` fitted to {config.data.path!s}.

Bin 1 is the easiest. A question whose {config.policy.difficulty} difficulty (higher is easier) is
below edges[i] is in bin i + 2 or harder.
"""

from ml_collections import ConfigDict

POLICY = {pprint.pformat(table, width=96, sort_dicts=False)}


def get_config() -> ConfigDict:
    return ConfigDict({{"policy": POLICY}})
'''
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    return path


def _summarise(
    config: ConfigDict,
    table: Outcomes,
    baseline: Outcomes,
    policies: Mapping[str, Policy],
    worths: Mapping[str, Worth],
) -> dict[str, Any]:
    """What summary.json holds."""
    budgets = [str(n) for n in table.budgets]

    def by_budget(estimates: Sequence[Any]) -> dict[str, dict[str, float]]:
        return {n: x.rounded() for n, x in zip(budgets, estimates, strict=True)}

    base = bootstrap(baseline.of(config.policy.baseline).mean(-1), config.seed)
    return {
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
                "choice": policies[kind].to_dict()["choice"],
            }
            for kind, found in worths.items()
        },
        "efficiency": {
            kind: {
                n: {
                    "ratio": round(x.mean, 6),
                    "low": round(x.low, 6),
                    "high": round(x.high, 6),
                    "censored": censored,
                }
                for n, x, censored in zip(budgets, found.efficiency, found.censored, strict=True)
            }
            for kind, found in worths.items()
        },
        "questions": len(table.questions),
        "seeds": list(table.seeds),
        "config": to_json(config),
        "versions": versions(),
    }
