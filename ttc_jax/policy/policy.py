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
from ttc_jax.results.accuracy_table import AccuracyTable, generations_to_reach
from ttc_jax.results.curves import Estimate

FOLDS = 2


@dataclasses.dataclass(frozen=True)
class Policy:
    """A table of strategies.

    Attributes:
      choice: [bins] budget -> strategy, the bin of the easiest questions first; a budget is the
        generations of a question, and bins may have different ones.
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


def fit_policy(
    table: AccuracyTable,
    easiness: Mapping[str, float],
    bins: Mapping[str, int],
    edges: Sequence[float] = (),
) -> Policy:
    """Returns the strategy of the highest accuracy in each bin and at each budget.

    Of equal ones the first in `table.strategies`.

    Args:
      easiness: question -> the number that its bin came from, the higher the easier.
      bins: question -> bin, 0 the easiest.
      edges: the bounds that bins were told by; none: bins end midway between their questions.
    """
    groups = halves(table.questions, bins)[0]
    sums = np.einsum("gq,qsnt->gsn", groups, table.values)
    count = len(groups) // FOLDS
    best = _best(sums.reshape(count, FOLDS, *sums.shape[1:]).sum(1))
    names = np.array(table.strategies)
    edges = edges[: count - 1]  # beyond these the fit had no questions
    if not edges:
        easinesses = [[easiness[q] for q in table.questions if bins[q] == b] for b in range(count)]
        edges = [(min(a) + max(b)) / 2 for a, b in itertools.pairwise(easinesses)]
    choice = tuple(dict(zip(table.budgets, map(str, row), strict=True)) for row in names[best])
    return Policy(choice, tuple(edges))


@dataclasses.dataclass(frozen=True)
class PolicyEvaluation:
    """What a policy brings, cross-validated.

    Attributes:
      accuracy: [N] of the policy on questions that did not choose it.
      by_bin: [bins][N] the same in every bin.
      efficiency: [N] generations that the baseline needs to get as far, over the budget.
      net: [N] the same over all that was spent, difficulty included.
      censored: [N] whether the baseline's curve ends before: the ratio is then a lower bound.
      gain: [N] accuracy above the baseline's at the same budget.
    """

    accuracy: tuple[Estimate, ...]
    by_bin: tuple[tuple[Estimate, ...], ...]
    efficiency: tuple[Estimate, ...]
    net: tuple[Estimate, ...]
    censored: tuple[bool, ...]
    gain: tuple[Estimate, ...]


class Resample(NamedTuple):
    """One draw of questions and seeds, and what the policy chosen on it is worth.

    Attributes:
      weights: [Q] how often each question was drawn.
      seeds: [seeds] share of each seed.
      sizes: [bins] questions drawn.
      by_bin: [bins, N] accuracy on the halves that did not choose.
      spent: [bins, N] generations a question, difficulty included.
    """

    weights: NDArray[np.float64]
    seeds: NDArray[np.float64]
    sizes: NDArray[np.int64]
    by_bin: NDArray[np.float64]
    spent: NDArray[np.float64]


def costs(table: AccuracyTable, samples: int, pools: Collection[str]) -> NDArray[np.float64]:
    """[strategies, N] generations of a question, those that told its difficulty included.

    Args:
      samples: that were drawn to tell the difficulty.
      pools: strategies whose candidates are such samples, so that they need not be drawn again.
    """
    budgets = np.array(table.budgets, float)
    pooled = np.array([name in pools for name in table.strategies])[:, None]
    return np.where(pooled, np.maximum(budgets, samples), budgets + samples)


def resamples(
    table: AccuracyTable,
    bins: Mapping[str, int],
    *,
    cost: NDArray[np.float64] | None = None,
    seed: int = 0,
    count: int = 1000,
) -> Iterator[Resample]:
    """The sample itself, and then `count` draws from it with replacement.

    Questions are drawn within their bin and half, so that no question is on both sides; seeds of
    sampling are drawn too; and each draw chooses anew.

    Args:
      bins: question -> bin, 0 the easiest.
      cost: [strategies, N] see `costs`; the budgets alone by default.
      seed: of the draws.

    Raises:
      UserError: a bin that has fewer than two questions, or questions without a bin.
    """
    groups, sizes = halves(table.questions, bins)
    of_bin = sizes.reshape(-1, FOLDS).sum(1)
    cost = costs(table, 0, ()) if cost is None else cost
    paid = sizes[:, None, None] * cost
    for weights, share in draws(groups, len(table.seeds), seed=seed, count=count):
        sums = np.einsum("gq,qsnt,t->gsn", groups * weights, table.values, share)
        earned, spent = (_crossed(sums, x) / of_bin[:, None] for x in (sums, paid))
        yield Resample(weights, share, of_bin, earned, spent)


def draws(
    groups: NDArray[np.float64], seeds: int, *, seed: int = 0, count: int = 1000
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Weights [Q] of questions and shares [seeds] of seeds: all alike, then `count` draws of both.

    Args:
      groups: [groups, Q] as `halves` deals them; questions are drawn within them, with replacement.
      seeds: how many.
      seed: of the draws.

    Raises:
      UserError: an empty group.
    """
    sizes = groups.sum(1).astype(np.int64)
    if sizes.min() < 1:
        raise UserError("policy: a bin holds fewer than 2 questions; use fewer bins")
    rng = np.random.default_rng(seed)
    weights, of_seeds = np.ones(groups.shape[1]), np.ones(seeds)
    for number in range(count + 1):
        if number:
            for group, size in zip(groups, sizes, strict=True):
                weights[np.flatnonzero(group)] = rng.multinomial(size, _uniform(size))
            of_seeds = rng.multinomial(seeds, _uniform(seeds))
        yield weights.copy(), of_seeds / seeds


def evaluate_policy(
    table: AccuracyTable,
    bins: Mapping[str, int],
    baseline: AccuracyTable,
    *,
    name: str,
    cost: NDArray[np.float64] | None = None,
    seed: int = 0,
    count: int = 1000,
) -> PolicyEvaluation:
    """Accuracy and efficiency of the policy, with 95 % intervals from `resamples`.

    Args:
      bins, cost, seed, count: see `resamples`, also for errors.
      baseline: the same questions and seeds at more budgets, where efficiency is read off.
      name: the baseline's strategy, such as best-of-N.
    """
    curve = baseline.of(name)
    same = [baseline.budgets.index(n) for n in table.budgets]
    found = []
    for drawn in resamples(table, bins, cost=cost, seed=seed, count=count):
        accuracy = drawn.sizes @ drawn.by_bin / drawn.sizes.sum()
        base = np.einsum("q,qnt,t->n", drawn.weights, curve, drawn.seeds) / drawn.sizes.sum()
        reached = [generations_to_reach(base, baseline.budgets, x) for x in accuracy]
        needs = np.array([n for n, _ in reached])
        ends = np.array([end for _, end in reached])
        ratio = needs / np.array(table.budgets)
        net = needs / (drawn.sizes @ drawn.spent / drawn.sizes.sum())
        found.append((accuracy, drawn.by_bin, ratio, net, accuracy - base[same], ends))
    accuracy, by_bin, ratio, net, gain, ends = (np.array(x) for x in zip(*found, strict=True))
    return PolicyEvaluation(
        estimates(accuracy),
        tuple(estimates(by_bin[:, i]) for i in range(by_bin.shape[1])),
        estimates(ratio),
        estimates(net),
        tuple(bool(x) for x in ends[0]),
        estimates(gain),
    )


def halves(
    questions: Sequence[str], bins: Mapping[str, int]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """[bins · folds, Q] which questions each half of a bin holds, and how many they are.

    A hash of the question decides the order in which halves are dealt, so that it is always the
    same.

    Raises:
      UserError: a question without a bin.
    """
    if missing := [question for question in questions if question not in bins]:
        raise UserError(f"policy: {missing[0]!r} is in no difficulty bin; estimate it first")
    count = max(bins[question] for question in questions) + 1
    groups = np.zeros((count * FOLDS, len(questions)))
    dealt = [0] * count
    for place in sorted(range(len(questions)), key=lambda i: hashing.bytes_of(questions[i])):
        which = bins[questions[place]]
        groups[which * FOLDS + dealt[which] % FOLDS, place] = 1
        dealt[which] += 1
    return groups, groups.sum(1).astype(np.int64)


def _crossed(sums: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """[bins, N] the sum of `values` of what each half would choose for the other.

    Args:
      sums: [bins · folds, strategies, N] right answers in each half, which choose for the other.
      values: [bins · folds, strategies, N].
    """
    halves, values = (x.reshape(-1, FOLDS, *x.shape[1:]) for x in (sums, values))
    best = [_best(halves[:, fold]) for fold in range(FOLDS)]
    found = [
        np.take_along_axis(values[:, fold], best[1 - fold][:, None], 1)[:, 0]
        for fold in range(FOLDS)
    ]
    return np.sum(found, axis=0)


def _best(sums: NDArray[np.float64]) -> NDArray[np.int64]:
    """[bins, N] the strategy of the largest sum; one that cannot spend a budget has NaN there."""
    return np.where(np.isnan(sums), -np.inf, sums).argmax(1)


def estimates(values: NDArray[np.float64]) -> tuple[Estimate, ...]:
    """The first row, and the interval of the others."""
    low, high = np.quantile(values[1:], [0.025, 0.975], axis=0)
    rows: Sequence[Sequence[float]] = np.stack([values[0], low, high], -1).tolist()
    return tuple(Estimate(*row) for row in rows)


def _uniform(count: int) -> list[float]:
    return [1 / count] * count
