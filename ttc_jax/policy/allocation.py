"""Which questions to spend on: a budget that holds on average, not for every question.

Beyond the paper. A question is looked at after n = 1, 2, 4, … samples and stopped where another
look is not worth its price: because the vote is settled, or because the question is hopeless. What
is seen of it needs no ground truth: the share of the weighted vote that the winning answer holds,
and how the verifier scores it. Fitting questions, for which the truth is known, tell for each cell
of such states how often the present winner is right and which cells come next (taken to be a Markov
chain). From these follows

    gain(cell) = max over stopping rules of E[more right answers] / E[more generations]

the price of a generation up to which it pays to go on (the index of Gittins). At any price, going
on where the gain exceeds it is the optimal stopping rule, so that one table serves all budgets: a
budget only sets the price, the dual variable of the average (arXiv:2604.14853); Damani et al.
(arXiv:2410.04707) allocate by marginal gain too, but before the first sample.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ttc_jax.errors import UserError
from ttc_jax.policy.flops_match import at_budget
from ttc_jax.policy.policy import FOLDS, deal, draws, estimates
from ttc_jax.policy.walks import Walks
from ttc_jax.results.curves import Estimate

CELLS: Final = (2, 8)  # of the winner's share, and of its score
PRIOR: Final = 0.25  # questions that are added to each cell: right as often as all, and staying
_ROUNDING: Final = 1e-12  # a gain of less is none


@dataclasses.dataclass(frozen=True)
class Allocation:
    """A table of gains, and the price above which a gain is worth it.

    Attributes:
      grid: [n] numbers of samples after which a question is looked at, ascending.
      edges: [n - 1][2][…] ascending bounds between cells, of the winner's share and of its score.
      gains: [n - 1][cells] right answers that a generation brings at best, from here on.
      price: of a generation, in right answers.
      stop_at_price: share of questions that stop where the gain is the price itself, which makes
        the average budget exact.
    """

    grid: tuple[int, ...]
    edges: tuple[tuple[tuple[float, ...], ...], ...]
    gains: tuple[tuple[float, ...], ...]
    price: float
    stop_at_price: float

    def decide(self, n: int, state: Sequence[float], draw: float = 0.5) -> bool:
        """Whether a question stops after n samples.

        Args:
          n: in the grid.
          state: [2] what `look` sees of these n samples.
          draw: uniform in [0, 1), the same each time the question is looked at.

        Raises:
          UserError: n is not in the grid.
        """
        if n not in self.grid:
            raise UserError(f"allocation: looks after {self.grid} samples, not after {n}")
        place = self.grid.index(n)
        if place == len(self.gains):
            return True
        gain = self.gains[place][int(_cell(np.array(state), self.edges[place]))]
        return gain < self.price or (gain == self.price and draw < self.stop_at_price)

    def stops(self, states: NDArray[np.float64]) -> NDArray[np.float64]:
        """[..., n] Chance to stop after each number of samples, for states [..., n, 2]."""
        cells = [_cell(states[..., k, :], edges) for k, edges in enumerate(self.edges)]
        least = _least(np.array(self.gains), np.stack(cells, -1))
        on = (least > self.price) + (1 - self.stop_at_price) * (least == self.price)
        ends = np.zeros((*least.shape[:-1], 1))
        return np.concatenate([1 + ends, on], -1) - np.concatenate([on, ends], -1)


@dataclasses.dataclass(frozen=True)
class AllocationEvaluation:
    """What allocation brings at one average budget, cross-validated.

    Attributes:
      accuracy: on questions that it was not fitted to.
      spent: generations a question there.
      uniform: accuracy of as many generations for every question, between budgets by log2 N.
      gain: accuracy − uniform.
      informed: accuracy − that of the same numbers of samples, dealt to questions at random: what
        looking at the questions brings.
      stopped: [n] share of the questions that stop after each number of samples.
    """

    accuracy: Estimate
    spent: Estimate
    uniform: Estimate
    gain: Estimate
    informed: Estimate
    stopped: tuple[float, ...]


def fit_allocation(walks: Walks, budget: float, *, cells: tuple[int, int] = CELLS) -> Allocation:
    """Returns the table and price at which these questions spend `budget` generations on average.

    Where no state promises more, they spend less.

    Args:
      cells: of the winner's share and of its score; bounds are quantiles.

    Raises:
      UserError: a budget outside the grid.
    """
    least, most = walks.grid[0], walks.grid[-1]
    if not least <= budget <= most:
        raise UserError(f"allocation: budget {budget} must lie in {least}..{most}, the pools' size")
    states = walks.states.reshape(-1, len(walks.grid), 2)
    right = walks.right.reshape(-1, len(walks.grid))
    inner = [np.linspace(0, 1, count + 1)[1:-1] for count in cells]
    edges = [
        tuple(tuple(np.quantile(states[:, k, i], inner[i]).tolist()) for i in range(2))
        for k in range(len(walks.grid))
    ]
    found = np.stack([_cell(states[:, k], bounds) for k, bounds in enumerate(edges)], 1)
    of_each = len(found) / len(walks.questions)
    gains = _gains(*_model(found, right, math.prod(cells), PRIOR * of_each), walks.grid)
    price, stop = _price(_least(gains, found[:, :-1]), walks.grid, budget)
    return Allocation(walks.grid, tuple(edges[:-1]), tuple(map(tuple, gains.tolist())), price, stop)


def evaluate_allocation(
    walks: Walks,
    budgets: Sequence[float],
    *,
    cells: tuple[int, int] = CELLS,
    seed: int = 0,
    count: int = 1000,
) -> list[AllocationEvaluation]:
    """Returns the value of allocation at each average budget, with 95 % intervals.

    Each half of the questions is spent on by what was fitted to the other one. The intervals are of
    these two allocations: questions are drawn with replacement, and nothing is fitted anew. Fitted
    to draws, in which questions repeat, allocations are worse than those that are judged here, and
    the intervals would lie too low.

    Args:
      cells: see `fit_allocation`.
      seed, count: see `policy.draws`.

    Raises:
      UserError: a budget outside the grid, or fewer than two questions.
    """
    if len(walks.questions) < FOLDS:
        raise UserError("allocation: needs at least 2 questions, one to fit and one to judge")
    dealt = deal(walks.questions)
    groups = [np.isin(np.arange(len(dealt)), dealt[fold::FOLDS]) for fold in range(FOLDS)]
    drawn = np.array(list(draws(len(dealt), seed, count))) / len(dealt)  # [draws, Q] weights
    curves = drawn @ walks.right.mean((1, 2))
    found = []
    for budget in budgets:
        stops = np.empty_like(walks.right)
        for fold in range(FOLDS):
            fitted, judged = groups[fold], groups[1 - fold]
            allocation = fit_allocation(walks.only(fitted), budget, cells=cells)
            stops[judged] = allocation.stops(walks.states[judged])
        accuracy = drawn @ (stops * walks.right).sum(-1).mean((1, 2))
        spread = drawn @ stops.mean((1, 2))
        spent, blind = spread @ walks.grid, (spread * curves).sum(1)
        same = [at_budget(row, walks.grid, n) for row, n in zip(curves, spent, strict=True)]
        rows = np.stack([accuracy, spent, same, accuracy - same, accuracy - blind], 1)
        found.append(
            AllocationEvaluation(*estimates(rows), stopped=tuple(stops.mean((0, 1, 2)).tolist()))
        )
    return found


def _cell(states: NDArray[np.float64], edges: Sequence[Sequence[float]]) -> NDArray[np.int64]:
    """[...] The cell of each state [..., 2]; a value on a bound belongs to the cell above it."""
    share, score = (np.searchsorted(edges[i], states[..., i], side="right") for i in range(2))
    return share * (len(edges[1]) + 1) + score


def _model(
    cells: NDArray[np.int64], right: NDArray[np.float64], count: int, prior: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """[n, C] chances that a cell's winner is right; [n - 1, C, C] chances of the cell that follows.

    Args:
      cells, right: [W, n] of walks.
      count: C.
      prior: walks that are added to each cell. They stay in it, as bounds are quantiles: to send
        them anywhere would promise every hopeless cell a gain.
    """
    looks = cells.shape[1]
    flat = cells + count * np.arange(looks)
    pairs = flat[:, :-1] * count + cells[:, 1:]
    held = np.bincount(flat.ravel(), minlength=looks * count).reshape(looks, count)
    hits = np.bincount(flat.ravel(), right.ravel(), looks * count).reshape(looks, count)
    moved = np.bincount(pairs.ravel(), minlength=(looks - 1) * count**2).reshape(-1, count, count)
    chance = (hits + prior * right.mean()) / (held + prior)
    move = (moved + prior * np.eye(count)) / (held[:-1, :, None] + prior)
    return chance, move


def _gains(
    chance: NDArray[np.float64], move: NDArray[np.float64], grid: Sequence[int]
) -> NDArray[np.float64]:
    """[n - 1, C] right answers a generation that the best stopping rule brings from each cell on.

    Such a ratio is the price at which the best rule just breaks even. Started below it, the ratio
    that the best rule at a price earns is a higher price and at most the one sought (Dinkelbach).
    """
    gains = np.zeros((len(chance) - 1, chance.shape[1]))
    while True:
        better = np.maximum(gains, _ratios(gains, chance, move, grid))
        if (better - gains).max(initial=0.0) < _ROUNDING:
            return np.where(better > _ROUNDING, better, 0.0)
        gains = better


def _ratios(
    prices: NDArray[np.float64],
    chance: NDArray[np.float64],
    move: NDArray[np.float64],
    grid: Sequence[int],
) -> NDArray[np.float64]:
    """[n - 1, C] what going on earns a generation in each cell, with the best rule at its price."""
    count = chance.shape[1]
    ratios = np.empty_like(prices)
    right = np.tile(chance[-1], (prices.size, 1))  # [prices, C] by the rule of each price
    spent = np.full_like(right, grid[-1])
    for k in range(len(prices) - 1, -1, -1):
        right, spent = right[: (k + 1) * count] @ move[k].T, spent[: (k + 1) * count] @ move[k].T
        more, cost = right - chance[k], spent - grid[k]
        ratios[k] = np.diagonal(more[k * count :]) / np.diagonal(cost[k * count :])
        go = more > prices[: k + 1].reshape(-1, 1) * cost
        right, spent = np.where(go, right, chance[k]), np.where(go, spent, grid[k])
    return ratios


def _least(gains: NDArray[np.float64], cells: NDArray[np.int64]) -> NDArray[np.float64]:
    """[..., n - 1] the least gain on the way: a walk goes on while it exceeds the price."""
    return np.minimum.accumulate(gains[np.arange(len(gains)), cells], axis=-1)


def _price(least: NDArray[np.float64], grid: Sequence[int], budget: float) -> tuple[float, float]:
    """The price at which walks spend the budget, and the share that stops at the price itself."""
    falling, place = np.unique(-least, return_inverse=True)
    steps = np.broadcast_to(np.diff(grid) / len(least), least.shape)
    spent = grid[0] + np.cumsum(np.bincount(place.ravel(), steps.ravel()))
    i = int(np.searchsorted(spent, budget))
    if i == len(falling) or falling[i] == 0:
        return 0.0, 1.0  # nothing promises more
    before = spent[i - 1] if i else grid[0]
    return -float(falling[i]), float((spent[i] - budget) / (spent[i] - before))
