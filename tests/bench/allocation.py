"""What an allocation saves at equal accuracy, on questions that it was not fitted to.

    ttc sweep --config=countdown:search --config.split=validation --config.task.size=800 \\
        --config.sweep.budgets=64 --config.sweep.seeds=0, --workdir=runs/validation
    python -m tests.bench.allocation runs/validation

fits it to half of the questions of a sweep and replays it on the other half, and the other way
round, for several random halves, over which results are averaged. Prints for each average budget
what `tests.bench.serve_policy` prints of a replay. Intervals are over questions; nothing is fitted
anew.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from tests.bench.serve_policy import Replay, beside, interval, means
from ttc_jax.policy.allocation import fit_allocation
from ttc_jax.results.foreign import read_records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--first", type=int, default=4, help="candidates before the first look")
    parser.add_argument("--halves", type=int, default=8)
    given = parser.parse_args()
    records = [one for one in read_records(given.run) if one.strategy == "best_of_n"]
    largest = max(len(one.candidates) for one in records)
    records = sorted(
        (one for one in records if len(one.candidates) == largest), key=lambda one: one.question
    )
    replay = Replay(records, [sum(len(x.tokens) for x in one.candidates) for one in records])
    seen, budgets = replay.walks.since(given.first), replay.grid[replay.grid >= given.first]
    fixed = [means(replay.fixed(budget)) for budget in budgets]

    def line(name: str, spread: np.ndarray) -> str:
        right, candidates, tokens = spread
        return (
            f"{name}: right in {interval(100 * right)} %, candidates {interval(candidates)}, "
            f"tokens {interval(tokens)}"
        )

    for budget, spread in zip(budgets, fixed, strict=True):
        print(line(f"best_of_n-{budget}", spread))
    for budget in budgets[1:-1].tolist():
        total = np.zeros((3, len(records)))
        for seed in range(given.halves):
            half = np.random.default_rng(seed).permutation(len(records)) % 2 == 0
            for judged in (half, ~half):
                found = replay.allocated(fit_allocation(seen.only(~judged), budget))
                total[:, judged] += found[:, judged] / given.halves
        spread = means(total)
        print(f"{line(f'allocation-{budget}', spread)}\n  {beside(spread, fixed)}", flush=True)


if __name__ == "__main__":
    main()
