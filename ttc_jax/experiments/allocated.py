"""Allocations fitted to a run's samples: what they bring, and the file that a server follows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ttc_jax.policy.allocation import evaluate_allocation
from ttc_jax.policy.allocation_file import allocation_file
from ttc_jax.policy.walks import walks
from ttc_jax.results.curves import scored
from ttc_jax.results.store import Record


def allocate(config: ConfigDict, pool: Sequence[Record], path: Path) -> dict[str, Any]:
    """Writes the allocation file of the baseline's samples.

    Returns:
      Average budget -> what spending unevenly brings; {} for samples that cannot show it, of which
      no file is written.

    Raises:
      UserError: as `walks`, or the file cannot be written.
    """
    if not scored(pool) or any(record.sequential > 1 for record in pool):
        return {}
    aggregation = config.selection.aggregation
    found = walks(pool, aggregation=aggregation, seed=config.seed).since(config.policy.samples)
    budgets = found.grid[1:-1]
    if not budgets:
        return {}
    worths = evaluate_allocation(found, budgets, seed=config.seed, count=config.policy.resamples)
    source = config.data.path.encode("utf-8", "replace").decode()  # a path may be no Unicode text
    allocation_file(found, budgets, aggregation=aggregation, source=source).write(path)
    names = ("accuracy", "spent", "uniform", "gain", "informed")
    return {
        str(n): {name: getattr(one, name).rounded() for name in names}
        | {"stopped": {str(k): round(x, 6) for k, x in zip(found.grid, one.stopped, strict=True)}}
        for n, one in zip(budgets, worths, strict=True)
    }
