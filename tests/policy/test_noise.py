"""A toy of the whole: a beam search that a verifier steers, and a policy fitted to it."""

import numpy as np
import pytest

from ttc_jax.compute.ledger import Ledger
from ttc_jax.policy.difficulty import Binning, predicted
from ttc_jax.policy.policy import evaluate_policy
from ttc_jax.results.accuracy_table import accuracy_table
from ttc_jax.results.store import Candidate, Record

STEPS, QUESTIONS, N, POOL, SEEDS = 4, 300, 16, 64, (0, 1)


def judged(right: np.ndarray, noise: bool, rng: np.random.Generator) -> np.ndarray:
    """Scores of prefixes: the higher the likelier to be right, or nothing but noise."""
    scores = rng.random(right.shape)
    return scores if noise else 0.6 * right + 0.4 * scores


def searched(chance: float, width: int, n: int, noise: bool, rng: np.random.Generator) -> Record:
    """N prefixes a step, each step right with equal chance, of which N / width go on; 1: all do."""
    right, scores = np.ones(n, bool), []
    for _ in range(STEPS):
        right = right & (rng.random(n) < chance ** (1 / STEPS))
        scores.append(judged(right, noise, rng))
        best = np.argsort(-scores[-1])[: n // width] if width > 1 else np.arange(n)
        right, scores = (
            np.repeat(right[best], width),
            [np.repeat(row[best], width) for row in scores],
        )
    candidates = tuple(
        Candidate(
            tokens=(1,),
            text="",
            finished=True,
            log_prob=-1.0,
            step_scores=tuple(float(row[i]) for row in scores),
            answer="right" if ok else f"wrong {rng.integers(4)}",
            correct=bool(ok),
        )
        for i, ok in enumerate(right)
    )
    return Record("", "", n, 0, candidates, Ledger(generations=n))


def swept(noise: bool) -> list[Record]:
    found = []
    for question, chance in enumerate(np.linspace(0.02, 0.9, QUESTIONS)):
        cells = [("difficulty", 1, 32, 1000)]
        cells += [(name, width, n, seed) for seed in SEEDS for name, width, n in STRATEGIES]
        for name, width, n, seed in cells:
            rng = np.random.default_rng([question, width, seed])
            record = searched(chance, width, n, noise, rng)
            key = {"question": f"q{question:03}", "strategy": name, "seed": seed}
            found.append(Record(**{**vars(record), **key}))
    return found


STRATEGIES = (("best_of_n", 1, POOL), ("beam", 4, N))


@pytest.mark.parametrize("noise", [False, True])
def test_the_gain_vanishes_with_a_verifier_that_knows_nothing(noise: bool):
    records = swept(noise)
    samples = [record for record in records if record.strategy == "difficulty"]
    scored = [record for record in records if record.strategy != "difficulty"]
    pools = [record for record in scored if record.strategy == "best_of_n"]
    options = {"pools": ["best_of_n"], "rule": "best_of_n_weighted", "subsets": 32}
    table = accuracy_table(scored, [N], **options)
    baseline = accuracy_table(pools, [1, 4, N, POOL], **options)
    binning = Binning(predicted(samples, "last"))
    found = evaluate_policy(table, binning, baseline, name="best_of_n", count=100)
    if noise:
        assert found.gain[0].low <= 0
        assert found.efficiency[0].low <= 1
    else:
        assert found.gain[0].low > 0.02
        assert found.efficiency[0].low > 1.2
