"""The Countdown study worked out again in plain NumPy from its kept outcomes.

What a reviewer would write who trusts no line of the package: only the order in which questions are
dealt to halves is the package's own.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from ttc_jax.policy.policy import deal

KEPT = Path(__file__).parents[2] / "docs" / "results" / "countdown"
BUDGETS = (4, 16, 64, 256)
BINS = 5
# Of an average over random parts of a pool, which are other ones here; whole pools are exact.
DRAWN = 3e-3


class Study:
    """The outcomes as arrays over questions [Q], and what was reported of them."""

    def __init__(self) -> None:
        self.summary = json.loads((KEPT / "summary.json").read_text())
        self.questions = sorted({row["question"] for row in _rows(KEPT / "large")})
        self.place = {question: i for i, question in enumerate(self.questions)}
        self.searches: dict[tuple[str, int], NDArray[np.float64]] = {}
        self.costs: dict[tuple[str, int], dict[str, float]] = {}
        self.pools: dict[int, list[list[tuple]]] = {}  # answer, score, whether it is right
        self.easiness = np.zeros(len(self.questions))
        seeds: dict[tuple[str, int], set[int]] = {}
        for row in _rows(KEPT / "search"):
            i, cell = self.place[row["question"]], (row["strategy"], row["budget"])
            seeds.setdefault(cell, set()).add(row["seed"])
            if row["strategy"] == "best_of_n":
                pool = self.pools.setdefault(row["seed"], [[] for _ in self.questions])
                answer = -1 if row["answer"] is None else int(row["answer"])
                pool[i].append((answer, (row["step_scores"] or [0.0])[-1], row["correct"]))
                continue
            right = self.easiness
            if row["strategy"] != "difficulty":
                right = self.searches.setdefault(cell, np.zeros(len(self.questions)))
                costs = self.costs.setdefault(cell, {})
                for name, cost in row["cost"].items():
                    costs[name] = costs.get(name, 0) + (cost or 0) / len(self.questions)
            right[i] += row["correct"]
        for cell, right in self.searches.items():
            right /= len(seeds[cell])
            self.costs[cell] = {k: x / len(seeds[cell]) for k, x in self.costs[cell].items()}
        self.large = np.zeros(len(self.questions))
        for row in _rows(KEPT / "large"):
            self.large[self.place[row["question"]]] += row["correct"]
        self.large /= len(list(_rows(KEPT / "large"))) / len(self.questions)
        for n in BUDGETS:
            self.searches["best_of_n", n] = self._best_of_n(n)
        ranked = sorted(self.questions, key=lambda q: (-self.easiness[self.place[q]], q))
        self.bins = np.empty(len(self.questions), int)
        self.bins[[self.place[q] for q in ranked]] = np.arange(len(ranked)) * BINS // len(ranked)

    def _best_of_n(self, n: int, parts: int = 512) -> NDArray[np.float64]:
        """[Q] The chance that the weighted vote over n candidates of the pool is right."""
        found = np.zeros(len(self.questions))
        rng = np.random.default_rng(n)
        for pool in self.pools.values():
            for i, rows in enumerate(pool):
                answers, scores, correct = map(np.array, zip(*rows, strict=True))
                right = np.zeros(answers.max() + 2, bool)
                right[answers + 1] = correct
                times = 1 if n == len(rows) else -(-parts * n // len(rows))
                orders = rng.permuted(np.tile(np.arange(len(rows)), (times, 1)), axis=1)
                drawn = orders.reshape(-1, n)
                boxes = np.arange(len(drawn))[:, None] * len(right) + answers[drawn] + 1
                votes = np.bincount(boxes.ravel(), scores[drawn].ravel(), len(drawn) * len(right))
                votes = votes.reshape(len(drawn), -1)
                votes[:, 0] = -1  # of candidates without an answer
                found[i] += right[votes.argmax(1)].mean()
        return found / len(self.pools)

    def policy(self) -> NDArray[np.float64]:
        """[bins, N] Accuracy of the policy by oracle difficulty, on halves that did not choose."""
        found = np.empty((BINS, len(BUDGETS)))
        dealt = np.array(deal(self.questions))
        for b in range(BINS):
            inside = dealt[self.bins[dealt] == b]
            halves = inside[::2], inside[1::2]
            for j, n in enumerate(BUDGETS):
                curves = [right for (_, m), right in self.searches.items() if m == n]
                earned = 0.0
                for judged, chooses in (halves, halves[::-1]):
                    best = max(curves, key=lambda right: right[chooses].sum())
                    earned += best[judged].sum()
                found[b, j] = earned / len(inside)
        return found


@pytest.fixture(scope="module")
def study() -> Study:
    return Study()


def _rows(folder: Path) -> Iterator[dict]:
    for path in sorted(folder.glob("*.parquet")):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(4096):
                yield from batch.to_pylist()


def test_the_accuracy_of_every_strategy_and_budget(study: Study):
    reported = study.summary["accuracy"]
    assert len(study.questions) >= 1000
    for (strategy, n), right in study.searches.items():
        near = DRAWN if strategy == "best_of_n" and n < BUDGETS[-1] else 1e-5
        assert reported[strategy][str(n)]["mean"] == pytest.approx(right.mean(), abs=near)
        for b, part in enumerate(study.summary["by_bin"]):
            told = part["accuracy"][strategy][str(n)]["mean"]
            assert told == pytest.approx(right[study.bins == b].mean(), abs=3 * near)


def test_the_gain_over_best_of_n(study: Study):
    for strategy, curve in study.summary["gain"].items():
        for n in BUDGETS:
            if (strategy, n) not in study.searches:
                assert str(n) not in curve
                continue
            ahead = study.searches[strategy, n] - study.searches["best_of_n", n]
            assert curve[str(n)]["mean"] == pytest.approx(ahead.mean(), abs=DRAWN)
            # The interval beside that of the central limit theorem.
            half = 1.96 * ahead.std() / len(ahead) ** 0.5
            assert curve[str(n)]["high"] - curve[str(n)]["low"] == pytest.approx(2 * half, rel=0.15)


def test_the_compute_optimal_policy(study: Study):
    reported = study.summary["compute_optimal"]["oracle"]
    by_bin = study.policy()
    for j, n in enumerate(BUDGETS):
        # Two strategies that are nearly equal in a half may be chosen either way.
        assert reported["accuracy"][str(n)]["mean"] == pytest.approx(by_bin[:, j].mean(), abs=8e-3)


def test_the_match_with_the_larger_model(study: Study):
    reported, by_bin = study.summary["flops_match"]["oracle"], study.policy()
    for ratio in (0.16, 0.79, 22.0):
        spent = 14 + 3 / ratio * 13
        at = np.log2(np.clip(spent, BUDGETS[0], BUDGETS[-1]))
        both = reported[f"{ratio:g}"]
        for b in range(BINS):
            found = both[str(b + 1)]["generator"]
            small = np.interp(at, np.log2(BUDGETS), by_bin[b])
            assert found["generations"] == pytest.approx(spent, abs=1e-3)
            assert found["small"]["mean"] == pytest.approx(small, abs=0.04)
            large = study.large[study.bins == b].mean()
            assert found["large"]["mean"] == pytest.approx(large, abs=1e-5)
        small = np.interp(at, np.log2(BUDGETS), by_bin.mean(0))
        assert both["all"]["generator"]["small"]["mean"] == pytest.approx(small, abs=8e-3)


def test_the_ledger(study: Study):
    reported = study.summary["ledger"]["search"]
    for (strategy, n), costs in study.costs.items():
        for name, cost in costs.items():
            assert reported[strategy][str(n)][name] == pytest.approx(cost, rel=1e-3, abs=0.06)
