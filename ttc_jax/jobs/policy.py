"""Fits the compute-optimal policy to a sweep: the best strategy of each difficulty bin and budget.

How hard a question is comes from samples that are not scored where the sweep has such (strategy
`difficulty`), else from those of the baseline: as the share that is right (oracle), or as the
verifier's mean score of all (predicted) or of the first `policy.samples` (few); or, before any
sample, as its score of the question alone (question). Within each bin one half of the questions
chooses for the other, so that what is reported was earned on questions that did not choose. WORKDIR
gets policy.json, the policy fitted to all questions; allocation.json, which spends an average
budget unevenly over questions, where the baseline's samples have scores; summary.json: accuracy,
efficiency and the choices, with each kind of difficulty, and what such an allocation brings; and
compute_optimal.png/.svg/.csv. Samples drawn elsewhere will do: a file or folder of them, see
`ttc_jax.results.foreign`. Where
`flops_match.large` names a run of a larger model's greedy answers, the two are compared at equal
FLOPs, pretraining included. With policy.unit=tokens `policy.budgets` are tokens that a question may
take, for strategies whose generations are not equally long, such as those of a model that thinks.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from ttc_jax.config import as_flag
from ttc_jax.errors import UserError
from ttc_jax.experiments.allocated import allocate
from ttc_jax.experiments.fields import check_fields
from ttc_jax.experiments.fitted import write_policy
from ttc_jax.experiments.policy_summary import Difficulty, flops_match, summarise
from ttc_jax.experiments.spending import judged
from ttc_jax.experiments.workdir import claim_workdir
from ttc_jax.hosts import hosts
from ttc_jax.policy import difficulty
from ttc_jax.policy.allocation_file import FILE as ALLOCATION
from ttc_jax.policy.difficulty import Binning
from ttc_jax.policy.policy import (
    FOLDS,
    costs,
    evaluate_policy,
    fit_policy,
)
from ttc_jax.policy_file import FILE
from ttc_jax.report.console import print_policy
from ttc_jax.report.writing import write_compute_optimal
from ttc_jax.results.accuracy_table import AccuracyTable, accuracy_table, largest_pools
from ttc_jax.results.curves import budget_grid, check_rule, check_scores, scored
from ttc_jax.results.foreign import read_records
from ttc_jax.results.store import Record
from ttc_jax.results.summary import DIFFICULTY, difficulty_samples, write_summary
from ttc_jax.results.token_budgets import Spending, token_table, written

_log = logging.getLogger(__name__)


def main(config: ConfigDict, workdir: Path) -> None:
    """Reads `config.data.path`, fits, and reports; of several hosts the first does."""
    if not hosts.is_first():
        return
    check_fields(config)
    records = read_records(Path(config.data.path), texts=False)
    if not records:
        raise UserError(f"data.path={config.data.path}: holds no records; ttc sweep writes them")
    records = _among(config, records)
    check_rule(config.selection.rule, records, f"data.path={config.data.path}")
    pool = _pool(config, records)
    spending = _spending(config, records)
    table, baseline = _tables(config, records, pool, spending)
    found = _difficulties(config, records)
    each = 1.0 if spending is None else _tokens_of_a_sample(config, records)
    if config.policy.difficulty not in found:
        what = "questions" if config.policy.difficulty == "question" else "samples"
        raise UserError(
            f"{as_flag('policy.difficulty', config.policy.difficulty)}: data.path has no scores of "
            f"{what}, which a search with a PRM stores; choose {' or '.join(found)}"
        )
    claim_workdir(workdir, config, may_change=("policy.budgets",))  # which grow with the sweep's
    worths = {
        kind: evaluate_policy(
            table,
            told.binning,
            baseline,
            name=config.policy.baseline,
            cost=costs(table, told.samples * each, [config.policy.baseline]),
            seed=config.seed,
            count=config.policy.resamples,
        )
        for kind, told in found.items()
    }
    policies = {kind: fit_policy(table, told.binning) for kind, told in found.items()}
    chosen, told = policies[config.policy.difficulty], found[config.policy.difficulty]
    path = write_policy(workdir / FILE, config, chosen, told.samples, spending)
    binnings = {kind: told.binning for kind, told in found.items()}
    summary = summarise(config, table, baseline, policies, worths, binnings)
    summary["separate_difficulty"] = _has_separate_difficulty(records)
    if allocation := allocate(config, pool, workdir / ALLOCATION):
        summary["allocation"] = allocation
    if config.flops_match.large:
        kinds = dict.fromkeys(("oracle", config.policy.difficulty))
        summary["flops_match"] = {
            kind: flops_match(config, table, found[kind], records) for kind in kinds
        }
    write_summary(workdir, summary)
    write_compute_optimal(summary, workdir)
    print_policy(summary)
    print(f"policy: {path}\nsummary: {workdir / 'summary.json'}")


def check_stages(config: ConfigDict, read: Mapping[str, ConfigDict]) -> None:
    """Refuses what the sweep that `data.path` names will not hold; see `ttc_jax.jobs`."""
    found = read.get("data.path")
    if found is None or "sweep" not in found:
        return
    entries = found.sweep.strategies
    judge = judged(found.search.get("judge", ""))
    _check_names(config, {*entries, *judge})
    scored_by = {name: entry.verifier or found.verifier.path for name, entry in entries.items()}
    only = {*config.policy.only, config.policy.baseline}
    kept = only - judge.keys() if config.policy.only else set(entries)
    check_scores(
        config.selection.rule,
        {name: bool(scored_by[name]) for name in kept},
        "the sweep",
    )
    if not any(scored_by.values()) and config.policy.difficulty != "oracle":
        raise UserError(
            f"{as_flag('policy.difficulty', config.policy.difficulty)}: is told by scores, and "
            "the sweep has no verifier; choose oracle"
        )
    most, budgets = max(found.sweep.budgets), config.policy.budgets
    if config.policy.get("unit", "generations") == "generations" and max(budgets) > most:
        raise UserError(
            f"{as_flag('policy.budgets', budgets)}: the sweep has {most} generations a question "
            "at most"
        )
    bins = config.policy.bins
    if found.limit and not config.policy.edges and bins * FOLDS > found.limit:
        raise UserError(
            f"{as_flag('policy.bins', bins)}: the sweep has {found.limit} questions, and each bin "
            f"needs {FOLDS}"
        )


def _check_names(config: ConfigDict, known: set[str]) -> None:
    """Refuses strategies that there are not.

    Args:
      known: the strategies of the sweep.
    """
    only, baseline = config.policy.only, config.policy.baseline
    has = f"it has {', '.join(sorted(known))}"
    if unknown := sorted(set(only) - known):
        raise UserError(
            f"{as_flag('policy.only', only)}: data.path has no {', '.join(unknown)}; {has}"
        )
    if baseline not in known:
        raise UserError(f"policy.baseline={baseline}: data.path has no such strategy; {has}")
    if baseline not in config.policy.pools:
        raise UserError(
            f"policy.baseline={baseline}: must be one of policy.pools, whose candidates are "
            f"independent; now {', '.join(config.policy.pools) or 'none'}"
        )


def _among(config: ConfigDict, records: Sequence[Record]) -> list[Record]:
    """Returns the records of the strategies that the policy chooses from, and the baseline's."""
    known = {record.strategy for record in records} - {DIFFICULTY}
    _check_names(config, known)
    kept = (set(config.policy.only) or known) | {config.policy.baseline, DIFFICULTY}
    return [record for record in records if record.strategy in kept]


def _pool(config: ConfigDict, records: Sequence[Record]) -> list[Record]:
    """Returns the baseline's records."""
    name = config.policy.baseline
    return [x for x in largest_pools(records, [name]) if x.strategy == name]


def _spending(config: ConfigDict, records: Sequence[Record]) -> Spending | None:
    """Returns the tokens of generations, where budgets count these."""
    if config.policy.get("unit", "generations") != "tokens":
        return None
    if config.flops_match.large:
        raise UserError(
            "flops_match.large is set, which compares generations; leave it empty, or set "
            "policy.unit=generations"
        )
    searched = [record for record in records if record.strategy != DIFFICULTY]
    return Spending.of(searched, config.policy.pools)


def _tokens_of_a_sample(config: ConfigDict, records: Sequence[Record]) -> float:
    """Returns the tokens of a sample that tells the difficulty, on average. Raises as `written`."""
    drawn = difficulty_samples(records, config.policy.baseline)
    return sum(written(x) for x in drawn) / sum(x.budget for x in drawn)


def _tables(
    config: ConfigDict,
    records: Sequence[Record],
    pool: Sequence[Record],
    spending: Spending | None,
) -> tuple[AccuracyTable, AccuracyTable]:
    """Returns all strategies at the policy's budgets, and the baseline at all of its pool's."""
    name, budgets = config.policy.baseline, config.policy.budgets
    searched = [record for record in records if record.strategy != DIFFICULTY]
    options = {
        "rule": config.selection.rule,
        "aggregation": config.selection.aggregation,
        "subsets": config.selection.subsets,
    }
    largest = min(len(record.candidates) for record in pool)
    powers = budget_grid(largest)[:-1]
    sizes = {*powers, *(3 * n for n in powers if 3 * n < largest), largest}
    each = 1.0 if spending is None else spending.one(name)
    least, most = math.ceil(each), math.ceil(each * largest)
    if max(budgets) > most or min(budgets) < least:
        unit = "candidates" if spending is None else "tokens"
        raise UserError(
            f"{as_flag('policy.budgets', budgets)}: {name} has pools of {most:,} {unit} and "
            f"generations of {least:,}, so that other budgets cannot be compared"
        )
    fine = sorted({*budgets, *(math.ceil(n * each) for n in sizes)})
    if spending is not None:
        alone = dataclasses.replace(spending, tokens={name: spending.tokens[name]})
        baseline = token_table(pool, fine, alone, **options)
        return token_table(searched, budgets, spending, **options), baseline
    options["pools"] = config.policy.pools
    baseline = accuracy_table(pool, fine, **options)
    return accuracy_table(searched, budgets, **options, known=baseline), baseline


def _difficulties(config: ConfigDict, records: Sequence[Record]) -> dict[str, Difficulty]:
    """Returns each kind of difficulty that the records allow."""
    samples = difficulty_samples(records, config.policy.baseline)
    if not _has_separate_difficulty(records):
        _log.warning("difficulty comes from the samples that are scored, which flatters it")
    drawn = min(len(record.candidates) for record in samples)
    few = min(config.policy.samples, drawn)
    first = [dataclasses.replace(x, candidates=x.candidates[:few]) for x in samples]
    aggregation = config.selection.aggregation
    eases = {"oracle": (difficulty.oracle(samples), drawn)}
    if scored(samples):
        eases["predicted"] = difficulty.predicted(samples, aggregation), drawn
        eases["few"] = difficulty.predicted(first, aggregation), few
    if all(record.question_score is not None for record in samples):
        eases["question"] = difficulty.of_questions(samples), 0
    count, edges = config.policy.bins, tuple(config.policy.edges)
    return {
        kind: Difficulty(Binning(easiness, count, edges), samples_drawn)
        for kind, (easiness, samples_drawn) in eases.items()
    }


def _has_separate_difficulty(records: Sequence[Record]) -> bool:
    return any(record.strategy == DIFFICULTY for record in records)
