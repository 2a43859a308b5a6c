"""summary.json: accuracy, cost, configuration and versions of a run, for machines.

Equal runs give byte-equal files: no date, no wall time, records in a fixed order, and estimates
rounded where the last bits of floating-point sums may differ.
"""

import contextlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.results.curves import (
    PASS,
    Estimate,
    accuracy_curves,
    default_rules,
    question_accuracy,
)
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
_DIGITS: Final = 6


def summarise(
    records: Sequence[Record],
    config: Mapping[str, Any],
    aggregation: str = "last",
    subsets: int = 512,
    seed: int = 0,
) -> dict[str, Any]:
    """What summary.json holds.

    Args:
        records: pools of candidates of one strategy, in any order.
        config: the run's configuration, ready for JSON.
        aggregation: step scores to answer score, see `answer_score`.
        subsets: see `question_accuracy`.
        seed: of the random subsets and the bootstrap.

    Returns:
        "accuracy": rule -> "<N>" -> {"mean", "low", "high"}; "pass_at_1"; "questions", "seeds";
        "candidates": {"count", "cut_off" (by the length limit), "without_answer"}; "ledger": totals
        of all records; "ledger_per_question": their means; "config"; "versions".

    Raises:
        UserError: as `question_accuracy`.
    """
    rules = default_rules(records)
    accuracy = question_accuracy(
        records, rules, aggregation=aggregation, subsets=subsets, seed=seed
    )
    curves = accuracy_curves(accuracy, seed)
    candidates = [candidate for record in records for candidate in record.candidates]
    ledger = sum((record.ledger for record in records), Ledger()).to_dict()
    questions = len(accuracy.questions)
    return {
        "accuracy": {
            rule: {str(n): _estimate(estimate) for n, estimate in curve.items()}
            for rule, curve in curves.items()
        },
        "pass_at_1": _estimate(curves[PASS][1]),
        "questions": questions,
        "seeds": sorted({record.seed for record in records}),
        "candidates": {
            "count": len(candidates),
            "cut_off": sum(not candidate.finished for candidate in candidates),
            "without_answer": sum(candidate.answer is None for candidate in candidates),
        },
        "ledger": ledger,
        "ledger_per_question": {name: cost / questions for name, cost in ledger.items()},
        "config": dict(config),
        "versions": versions(),
    }


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


def write_json(path: Path, value: Mapping[str, Any]) -> Path:
    """Replaces a JSON file at once: a reader sees the old file or the new one, never a half.

    Raises:
        UserError: the disk is full or not writable; the old file is then still there.
    """
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    draft = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise UserError(
            f"{path}: {error.strerror}; make room or choose another --workdir, "
            "then run the same command again"
        ) from error
    return path


def _estimate(estimate: Estimate) -> dict[str, float]:
    return {name: round(value, _DIGITS) for name, value in vars(estimate).items()}
