"""summary.json: accuracy, cost, configuration and versions of a run, for machines.

Equal runs give byte-equal files: no date, no wall time, records in a fixed order, and estimates
rounded where the last bits of floating-point sums may differ.
"""

import contextlib
import dataclasses
import math
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np

from ttc_jax.compute.ledger import Ledger
from ttc_jax.files import write_json
from ttc_jax.results.curves import (
    DIGITS,
    Estimate,
    accuracy_curves,
    bootstrap,
    default_rules,
    pass_at_1,
    question_accuracy,
)
from ttc_jax.results.records import DIFFICULTY, POOL
from ttc_jax.results.store import Record

_PACKAGES: Final = (
    "ttc_jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "transformers",
    "tokenizers",
    "math-verify",
    "numpy",
)
JUDGE: Final = "judge"  # its choice as a rule, and best-of-N with it as a strategy


def summarise(
    records: Sequence[Record],
    config: Mapping[str, Any],
    budgets: Sequence[int] | None = None,
    aggregation: str = "last",
    subsets: int = 512,
    seed: int = 0,
) -> dict[str, Any]:
    """What summary.json of one strategy holds.

    Args:
        records: candidates of one strategy, in any order.
        config: the run's configuration, ready for JSON.
        budgets: values of N, see `question_accuracy`.
        aggregation: step scores to answer score, see `answer_score`.
        subsets: see `question_accuracy`.
        seed: of the random subsets and the bootstrap.

    Returns:
        "accuracy": rule -> "<N>" -> {"mean", "low", "high"}; "pass_at_1"; "questions", "seeds";
        "candidates": see `count_candidates`; "ledger": totals of all records;
        "ledger_per_question": their means; "config"; "versions".

    Raises:
        UserError: as `question_accuracy`.
    """
    rules = default_rules(records)
    accuracy = question_accuracy(
        records, rules, budgets, aggregation=aggregation, subsets=subsets, seed=seed
    )
    curves = accuracy_curves(accuracy, seed)
    if all(record.choice for record in records):
        settled = question_accuracy([record.settled for record in records], ["majority"], [1])
        curves[JUDGE] = {max(accuracy.budgets): accuracy_curves(settled, seed)["majority"][1]}
    ledger = sum((record.ledger for record in records), Ledger()).to_dict()
    questions = len(accuracy.questions)
    return {
        "accuracy": {
            rule: {str(n): estimate.rounded() for n, estimate in curve.items()}
            for rule, curve in curves.items()
        },
        "pass_at_1": _mean_correctness(records, seed).rounded(),
        "questions": questions,
        "seeds": sorted({record.seed for record in records}),
        "candidates": count_candidates(records),
        "ledger": ledger,
        "ledger_per_question": {name: cost / questions for name, cost in ledger.items()},
        "config": dict(config),
        "versions": versions(),
    }


def combine(summaries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The summaries of several jobs over the same questions as one.

    Args:
        summaries: as "search", "policy", "chains", "ratios" and "verifiers"; none needs to be
            there, and what it would tell is then left out.

    Returns:
        "accuracy": strategy -> "<generations>" -> {"mean", "low", "high"}, the policy's among them;
        "by_bin": the same in each bin, the easiest first; "choosing": rules and aggregations on the
        same candidates; "gain" and "strategy_efficiency" as the sweep has them; "compute_optimal",
        "efficiency", "efficiency_net" and "allocation" as the policy has them;
        "flops_match": difficulty -> R -> bin ("1" the easiest, or "all") -> what is charged ->
        both sides and the relative gain; "chains"; "ratios" and "verifiers": accuracy and bins of
        their own; "ledger" and "config" by job.
    """
    search, policy = summaries.get("search", {}), summaries.get("policy", {})
    accuracy: dict[str, dict[str, Any]] = {}
    for table in (policy.get("accuracy", {}), search.get("accuracy", {})):
        for strategy, curve in table.items():
            accuracy.setdefault(strategy, {}).update(curve)
    names = ("compute_optimal", "efficiency", "efficiency_net", "allocation")
    found = {
        "accuracy": accuracy,
        "by_bin": search.get("bins"),
        "choosing": search.get("choosing"),
        "gain": search.get("gain"),
        "strategy_efficiency": search.get("strategy_efficiency"),
        **{name: policy.get(name) for name in names},
        "flops_match": {
            kind: _by_bin(found) for kind, found in policy.get("flops_match", {}).items()
        },
        "chains": summaries.get("chains", {}).get("chains"),
        **{
            job: {"accuracy": summaries[job]["accuracy"], "by_bin": summaries[job].get("bins")}
            for job in ("ratios", "verifiers")
            if job in summaries
        },
        "ledger": {job: x["ledger"] for job, x in summaries.items() if "ledger" in x},
        "config": {job: x["config"] for job, x in summaries.items() if "config" in x},
    }
    return {name: value for name, value in found.items() if value} | {"versions": versions()}


def _by_bin(flops_match: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for ratio, charges in flops_match.items():
        for charged, match in charges.items():
            cost = {x: match[x] for x in ("generations", "affordable", "beyond")}
            sides = {str(i): x for i, x in enumerate(match["by_bin"], 1)} | {"all": match["all"]}
            for place, both in sides.items():
                found.setdefault(ratio, {}).setdefault(place, {})[charged] = cost | both
    return found


def difficulty_samples(records: Sequence[Record], pool: str = POOL) -> list[Record]:
    """What says how hard a sweep's questions are: samples apart, else the pools that are scored.

    Returns:
        A record a question, with the candidates of all seeds. A sweep that has grown holds smaller
        budgets too, whose candidates are among those of the larger one; and larger ones only of
        some questions, where it was stopped: what is taken is the largest that all questions have.
    """
    by_name = {name: [x for x in records if x.strategy == name] for name in (DIFFICULTY, pool)}
    cells: dict[tuple[int, int], list[Record]] = {}
    for record in by_name[DIFFICULTY] or by_name[pool]:
        cells.setdefault((record.budget, record.seed), []).append(record)
    most = max(map(len, cells.values()), default=0)
    whole = {cell: group for cell, group in cells.items() if len(group) == most}
    largest = max((budget for budget, _ in whole), default=0)
    found: dict[str, Record] = {}
    for (budget, _), group in sorted(whole.items(), key=lambda item: item[0]):
        for record in group if budget == largest else []:
            earlier = found.get(record.question, dataclasses.replace(record, candidates=()))
            candidates = earlier.candidates + record.candidates
            found[record.question] = dataclasses.replace(earlier, candidates=candidates)
    return list(found.values())


def summarise_collection(
    records: Sequence[Record], config: Mapping[str, Any], ends: int, seed: int = 0
) -> dict[str, Any]:
    """What summary.json of a collection of step values holds.

    Args:
        records: as `training.collection.Collector` makes them.
        config: the run's configuration, ready for JSON.
        ends: K, rollouts from each prefix.
        seed: of the bootstrap.

    Returns:
        "questions"; "candidates", "pass_at_1" and "ledger" as `summarise`, of the sampled answers
        and of all costs; "prefixes" that were rolled out and "rollouts" from them; "step_values": a
        list by the step's place in its answer, of {"count", "mean"}; "config"; "versions".
    """
    rollouts = sum(record.budget - len(record.candidates) for record in records)
    values = [c.step_values for record in records for c in record.candidates]
    places = [[row[i] for row in values if len(row) > i] for i in range(max(map(len, values)))]
    return {
        "questions": len(records),
        "candidates": count_candidates(records),
        "pass_at_1": _mean_correctness(records, seed).rounded(),
        "prefixes": rollouts // ends,
        "rollouts": rollouts,
        "step_values": [
            {"count": len(place), "mean": round(math.fsum(place) / len(place), DIGITS)}
            for place in places
        ],
        "ledger": sum((record.ledger for record in records), Ledger()).to_dict(),
        "config": dict(config),
        "versions": versions(),
    }


def count_candidates(records: Sequence[Record]) -> dict[str, int]:
    """How many there are, were cut off by the length limit, and hold no answer, or one unboxed.

    Where a judge chose, also how many verdicts it gave, and how many could not be read.
    """
    choices = [record.choice for record in records if record.choice is not None]
    candidates = [candidate for record in records for candidate in record.candidates]
    unboxed = sum(candidate.unboxed for candidate in candidates)
    return {
        "count": len(candidates),
        "cut_off": sum(not candidate.finished for candidate in candidates),
        "without_answer": sum(candidate.answer is None for candidate in candidates),
        **({"unboxed": unboxed} if unboxed else {}),
        **({"verdicts": sum(len(choice.texts) for choice in choices)} if choices else {}),
        **({"unread_verdicts": sum(choice.unread for choice in choices)} if choices else {}),
    }


def _mean_correctness(records: Sequence[Record], seed: int) -> Estimate:
    [estimate] = bootstrap(np.array([[x] for x in pass_at_1(records).values()]), seed)
    return estimate


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the result, where installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def write_summary(workdir: Path, summary: Mapping[str, Any]) -> Path:
    """Writes `<workdir>/summary.json` and returns its path. Raises as `write_json`."""
    return write_json(Path(workdir) / "summary.json", summary)
