"""How often the 95 % intervals of a policy's evaluation hold the true value.

    python -m tests.bench.coverage [--questions 150 500] [--trials 300] [--resamples 400]
                                   [--json=FILE]

Questions are drawn from a population in which beam search helps on hard questions and hurts on easy
ones, each with one answer a strategy, budget and seed, and with an easiness that is known from 16
samples. Of each draw the policy is evaluated as `ttc policy` does it. What its numbers estimate is
their mean over draws of so many questions: the mean over `--trials` other draws stands for it.
Printed is the share of draws whose interval holds that mean, below it and above it apart.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ttc_jax.policy.difficulty import Binning
from ttc_jax.policy.policy import PolicyEvaluation, evaluate_policy
from ttc_jax.results.accuracy_table import AccuracyTable
from ttc_jax.results.curves import Estimate

BUDGETS, STRATEGIES, SEEDS, SAMPLES = (4, 16, 64), ("best_of_n", "beam"), 3, 16
BASELINE = (1, 2, 4, 8, 16, 32, 64, 128, 256)
MEASURES = ("accuracy", "single", "over_single", "gain", "efficiency")


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulates, and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--questions", type=int, nargs="+", default=[150, 500])
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--resamples", type=int, default=400)
    parser.add_argument("--json", type=Path, help="where the figures go")
    options = parser.parse_args(arguments)
    found = {}
    for count in options.questions:
        rng = np.random.default_rng(count)
        judged = [evaluated(count, rng, options.resamples) for _ in range(options.trials)]
        others = [evaluated(count, rng, 1) for _ in range(options.trials)]
        for measure in MEASURES:
            for n, budget in enumerate(BUDGETS):
                true = float(np.mean([getattr(x, measure)[n].mean for x in others]))
                intervals: list[Estimate] = [getattr(x, measure)[n] for x in judged]
                below = float(np.mean([x.high < true for x in intervals]))
                above = float(np.mean([x.low > true for x in intervals]))
                key = f"{count} questions, {measure}, N={budget}"
                found[key] = {"true": true, "covered": 1 - below - above, "below": below}
                found[key]["above"] = above
                print(f"{key:<40} " + ", ".join(f"{k} {v:.3f}" for k, v in found[key].items()))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


def evaluated(count: int, rng: np.random.Generator, resamples: int) -> PolicyEvaluation:
    """The evaluation of a policy on questions that are drawn from the population."""
    easiness = rng.beta(0.8, 0.8, count)
    known = rng.binomial(SAMPLES, easiness) / SAMPLES
    sampled = 1 - (1 - easiness[:, None]) ** (np.array(BASELINE) / 4)
    same = sampled[:, [BASELINE.index(n) for n in BUDGETS]]
    beam = np.where(easiness[:, None] > 0.5, 0.9 * same, np.minimum(1, same + 0.1))
    chance = np.stack([same, beam], 1)[..., None]
    values = (rng.random((count, len(STRATEGIES), len(BUDGETS), SEEDS)) < chance).astype(float)
    pool = (rng.random((count, 1, len(BASELINE), SEEDS)) < sampled[:, None, :, None]).astype(float)
    questions = tuple(f"q{i:05}" for i in range(count))
    seeds = tuple(range(SEEDS))
    return evaluate_policy(
        AccuracyTable(questions, STRATEGIES, BUDGETS, seeds, values),
        Binning(dict(zip(questions, known.tolist(), strict=True))),
        AccuracyTable(questions, ("best_of_n",), BASELINE, seeds, pool),
        name="best_of_n",
        seed=int(rng.integers(2**31)),
        count=resamples,
    )


if __name__ == "__main__":
    main()
