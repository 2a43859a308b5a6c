"""The compute-optimal policy: which strategy to use, by difficulty bin and budget (paper §3.2).

For every bin and budget it is the strategy that was most often right. What it is worth is measured
on other questions than it was chosen on: in each bin, one half chooses for the other.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ttc_jax import hashing
from ttc_jax.errors import UserError
from ttc_jax.policy.difficulty import Binning
from ttc_jax.results.accuracy_table import AccuracyTable, generations_to_reach
from ttc_jax.results.curves import Estimate

FOLDS = 2
TIE = 1e-9  # right answers by which sums may differ and still tie


@dataclasses.dataclass(frozen=True)
class Policy:
    """A table of strategies.

    Attributes:
      choice: [bins] budget -> strategy, the bin of the easiest questions first; a budget is the
        generations, or tokens, of a question, and bins may have different ones.
      edges: [bins - 1] difficulty at which one bin ends and the next, a harder one, begins:
        descending, for a number that is the higher the easier a question is.
    """

    choice: tuple[Mapping[int, str], ...]
    edges: tuple[float, ...]

    @property
    def least(self) -> int:
        """The least budget that every bin can follow."""
        return max(map(min, self.choice))

    def bin_of(self, easiness: float) -> int:
        """Returns the bin of a question, 0 the easiest."""
        return sum(easiness < edge for edge in self.edges)

    def strategy(self, easiness: float, budget: int) -> tuple[str, int]:
        """Returns the strategy for a question, and the largest budget of its bin within `budget`.

        Raises:
          UserError: a budget below all of that bin.
        """
        place = self.bin_of(easiness)
        known = self.choice[place]
        if budget < min(known):
            raise UserError(
                f"budget {budget} is below the least of policy.choice.bin_{place + 1}, {min(known)}"
            )
        largest = max(n for n in known if n <= budget)
        return known[largest], largest

    def to_dict(self) -> dict[str, Any]:
        """Returns what a config or JSON holds."""
        return {
            "edges": self.edges,
            "choice": {
                f"bin_{i}": {f"n_{n}": name for n, name in known.items()}
                for i, known in enumerate(self.choice, 1)
            },
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Policy:
        """Returns the policy that `to_dict` wrote.

        Raises:
          UserError: a bin too many or too few for the edges, or one without budgets.
        """
        edges, choice = tuple(found["edges"]), found["choice"]
        names = [f"bin_{i + 1}" for i in range(len(edges) + 1)]
        for name in names:
            if not choice.get(name):
                raise UserError(
                    f"policy.choice lacks {name}: {len(edges)} policy.edges make {len(names)} bins"
                )
        if more := [name for name in choice if name not in names]:
            raise UserError(
                f"policy.choice.{more[0]}: no such bin; {len(edges)} policy.edges make {len(names)}"
            )
        return cls(
            tuple(
                {n: choice[name][f"n_{n}"] for n in sorted(map(_budget, choice[name]))}
                for name in names
            ),
            edges,
        )


def _budget(key: str) -> int:
    return int(key.removeprefix("n_"))


def fit_policy(table: AccuracyTable, binning: Binning) -> Policy:
    """The strategy of the highest accuracy in each bin and at each budget, over all questions.

    Of equal ones the first in `table.strategies`, which is the cheapest. Bins of equal size end
    midway between their questions.

    Raises:
      UserError: see `Binning.of`.
    """
    bins = binning.of(table.questions)
    count = int(bins.max()) + 1
    inside = bins == np.arange(count)[:, None]
    best = best_of(np.tensordot(inside.astype(float), table.values.mean(-1), 1))
    edges = binning.edges[: count - 1]  # beyond these the fit had no questions
    if not edges:
        easiness = np.array([binning.easiness[question] for question in table.questions])
        of_bin = [easiness[row] for row in inside if row.any()]
        edges = [float(a.min() + b.max()) / 2 for a, b in itertools.pairwise(of_bin)]
    names = np.array(table.strategies)
    choice = tuple(dict(zip(table.budgets, map(str, row), strict=True)) for row in names[best])
    return Policy(choice, tuple(edges))


@dataclasses.dataclass(frozen=True)
class PolicyEvaluation:
    """What a policy brings, cross-validated.

    Attributes:
      accuracy: [N] of the policy on questions that did not choose it.
      by_bin: [bins][N] the same in every bin.
      single: [N] accuracy of the one strategy that is best over all bins, chosen and judged on the
        same questions as the policy.
      over_single: [N] accuracy above that: what it adds to choose by difficulty.
      efficiency: [N] generations that the baseline needs to get as far, over the budget.
      net: [N] the same over all that was spent, difficulty included.
      censored: [N] whether the baseline's curve ends before: the ratio is then a lower bound.
      gain: [N] accuracy above the baseline's at the same budget.
    """

    accuracy: tuple[Estimate, ...]
    by_bin: tuple[tuple[Estimate, ...], ...]
    single: tuple[Estimate, ...]
    over_single: tuple[Estimate, ...]
    efficiency: tuple[Estimate, ...]
    net: tuple[Estimate, ...]
    censored: tuple[bool, ...]
    gain: tuple[Estimate, ...]


class Resample(NamedTuple):
    """One draw of questions, and what the policy chosen on it is worth.

    Attributes:
      weights: [Q] how often each question was drawn.
      inside: [bins, Q] the same in its bin, 0 in all others.
      by_bin: [bins, N] accuracy on the halves that did not choose; NaN in a bin of no questions.
      single: [N] accuracy of the one strategy that the other half of all questions chose.
      spent: [N] generations a question with the policy, difficulty included.
    """

    weights: NDArray[np.int64]
    inside: NDArray[np.int64]
    by_bin: NDArray[np.float64]
    single: NDArray[np.float64]
    spent: NDArray[np.float64]

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """[N] over all questions."""
        return self.inside.sum(1) @ np.nan_to_num(self.by_bin) / self.weights.sum()


def costs(table: AccuracyTable, samples: float, pools: Collection[str]) -> NDArray[np.float64]:
    """[strategies, N] what a question takes, what told its difficulty included.

    Args:
      samples: generations that were drawn to tell the difficulty, or their tokens: as budgets are.
      pools: strategies whose candidates are such samples, so that they need not be drawn again.
    """
    budgets = np.array(table.budgets, float)
    pooled = np.array([name in pools for name in table.strategies])[:, None]
    return np.where(pooled, np.maximum(budgets, samples), budgets + samples)


def resamples(
    table: AccuracyTable,
    binning: Binning,
    *,
    cost: NDArray[np.float64] | None = None,
    seed: int = 0,
    count: int = 1000,
) -> Iterator[Resample]:
    """The sample itself, and then `count` draws of its questions with replacement.

    Every draw makes its bins anew, halves them, and lets each half choose for the other. A question
    that was drawn more than once is on one side with all its copies. A half without questions
    chooses the cheapest strategy.

    Args:
      cost: [strategies, N] see `costs`; the budgets alone by default.
      seed: of the draws.

    Raises:
      UserError: fewer than two questions in a bin, and as `Binning.of`.
    """
    values, bins_of = table.values.mean(-1), binning.among(table.questions)
    bins = bins_of(np.ones(len(table.questions), np.int64))
    cost = costs(table, 0, ()) if cost is None else cost
    total = max(int(bins.max()) + 1, binning.count if not binning.edges else 0)
    if np.bincount(bins).min() < FOLDS:
        raise UserError("policy.bins: a bin holds fewer than 2 questions; make it smaller")
    dealt = np.array(deal(table.questions))
    for weights in draws(len(table.questions), seed, count):
        halves = halve(bins_of(weights), weights, dealt, total)
        yield _evaluated(halves, weights, values, cost)


def _evaluated(
    halves: NDArray[np.int64],
    weights: NDArray[np.int64],
    values: NDArray[np.float64],
    cost: NDArray[np.float64],
) -> Resample:
    """What the halves of a draw choose for each other.

    Args:
      halves: [bins, folds, Q] see `halve`.
      weights: [Q] how often a question was drawn.
      values: [Q, strategies, N] accuracies.
      cost: [strategies, N] see `costs`.
    """
    sums = np.tensordot(halves.astype(float), values, 1)  # [bins, folds, strategies, N]
    paid = halves.sum(-1)[..., None, None] * cost
    earned, spent = _crossed(sums, sums), _crossed(sums, paid)
    single = _crossed(sums.sum(0, keepdims=True), sums.sum(0, keepdims=True))[0]
    inside, count = halves.sum(1), weights.sum()
    with np.errstate(invalid="ignore"):
        by_bin = earned / inside.sum(1)[:, None]
    return Resample(weights, inside, by_bin, single / count, spent.sum(0) / count)


def draws(questions: int, seed: int = 0, count: int = 1000) -> Iterator[NDArray[np.int64]]:
    """[Q] how often each question is drawn: once each at first, then `count` draws of them all."""
    yield np.ones(questions, np.int64)
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield rng.multinomial(questions, np.full(questions, 1 / questions))


def evaluate_policy(
    table: AccuracyTable,
    binning: Binning,
    baseline: AccuracyTable,
    *,
    name: str,
    cost: NDArray[np.float64] | None = None,
    seed: int = 0,
    count: int = 1000,
) -> PolicyEvaluation:
    """Accuracy and efficiency of the policy, with 95 % intervals from `resamples`.

    Args:
      binning, cost, seed, count: see `resamples`, also for errors.
      baseline: the same questions and seeds at more budgets, where efficiency is read off.
      name: the baseline's strategy, such as best-of-N.
    """
    curve = baseline.of(name).mean(-1)
    same = [baseline.budgets.index(n) for n in table.budgets]
    found: list[tuple[NDArray[np.float64], ...]] = []
    censored: list[bool] = []  # of the sample itself
    for drawn in resamples(table, binning, cost=cost, seed=seed, count=count):
        accuracy = drawn.accuracy
        base = drawn.weights @ curve / drawn.weights.sum()
        reached = [generations_to_reach(base, baseline.budgets, x) for x in accuracy]
        needs = np.array([n for n, _ in reached])
        row = accuracy, drawn.single, accuracy - drawn.single, needs / np.array(table.budgets)
        found.append((*row, needs / drawn.spent, accuracy - base[same], drawn.by_bin))
        censored = censored or [end for _, end in reached]
    accuracy, single, over, ratio, net, gain, by_bin = map(np.array, zip(*found, strict=True))
    return PolicyEvaluation(
        accuracy=estimates(accuracy),
        by_bin=tuple(estimates(by_bin[:, i]) for i in range(by_bin.shape[1])),
        single=estimates(single),
        over_single=estimates(over),
        efficiency=estimates(ratio),
        net=estimates(net),
        censored=tuple(censored),
        gain=estimates(gain),
    )


def deal(questions: Sequence[str]) -> list[int]:
    """[Q] the order in which questions are dealt to halves; always the same, by a hash of them."""
    return sorted(range(len(questions)), key=lambda i: hashing.bytes_of(questions[i]))


def halve(
    bins: NDArray[np.int64], weights: NDArray[np.int64], dealt: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """[bins, folds, Q] how often each half of a bin holds a question.

    Args:
      bins: [Q] see `Binning.of`.
      weights: [Q] how often a question was drawn; those never drawn are not dealt.
      dealt: [Q] see `deal`.
      count: bins.
    """
    halves = np.zeros((count, FOLDS, len(bins)), np.int64)
    for which in range(count):
        inside = dealt[(bins[dealt] == which) & (weights[dealt] > 0)]
        for fold in range(FOLDS):
            halves[which, fold, inside[fold::FOLDS]] = weights[inside[fold::FOLDS]]
    return halves


def _crossed(sums: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """[bins, N] the sum of `values` of what each half would choose for the other.

    Args:
      sums: [bins, folds, strategies, N] right answers in each half, which choose for the other.
      values: [bins, folds, strategies, N].
    """
    best = best_of(sums)[:, ::-1, None]  # the other half's
    return np.take_along_axis(values, best, 2)[:, :, 0].sum(1)


def best_of(sums: NDArray[np.float64]) -> NDArray[np.int64]:
    """[..., N] the first strategy of the largest sum [..., strategies, N], NaN being none.

    Sums of the same accuracies in another order differ by rounding alone; they still tie.
    """
    known = np.where(np.isnan(sums), -np.inf, sums)
    return (known >= known.max(-2, keepdims=True) - TIE).argmax(-2)


def estimates(values: NDArray[np.float64]) -> tuple[Estimate, ...]:
    """The first row, and the interval of the others; of those that are known."""
    low, high = np.nanquantile(values[1:], [0.025, 0.975], axis=0)
    rows: Sequence[Sequence[float]] = np.stack([values[0], low, high], -1).tolist()
    return tuple(Estimate(*row) for row in rows)
