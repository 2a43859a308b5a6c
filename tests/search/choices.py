"""The strategies said in plain Python: of lists, row by row."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from tests.search.own_strategy import Patient
from ttc_jax.search.strategies.beam import Beam
from ttc_jax.search.strategies.deepconf import DeepConf
from ttc_jax.search.strategies.diverse_beam import DiverseBeam
from ttc_jax.search.strategies.dvts import DVTS
from ttc_jax.search.strategies.particles import ParticleFilter
from ttc_jax.search.strategies.rebase import Rebase
from ttc_jax.search.strategies.smc import SMC
from ttc_jax.search.strategies.strategy import Strategy

CLOSE_DRAW = 2e-6  # a uniform so near to a boundary may fall to either side
CLOSE_SCORE = 1e-5  # scores so near to each other may be told in either order


class UnclearError(Exception):
    """Rounding decides: the kernel may rightly differ."""


@dataclasses.dataclass
class Seen:
    """What a strategy sees of N rows; a list over rows, where nothing else is said."""

    scores: Sequence[float]
    active: Sequence[bool]
    history: Sequence[Sequence[float]]  # of each row's text
    log_prob: Sequence[float]
    lengths: Sequence[int]
    entropy: Sequence[float]
    hidden: Sequence[np.ndarray | None]
    round: int  # one number


# Strategies, as one would tell them. Each gives every row's parent; inactive rows are their own.


def beam(scores: Sequence[float], active: Sequence[bool], width: int) -> list[int]:
    """Parents from the best down, each for M rows; sorting keeps the order of ties."""
    rows = [n for n, on in enumerate(active) if on]
    best = sorted(rows, key=lambda n: -scores[n])
    M = width or round(len(scores) ** 0.5)
    parents = list(range(len(scores)))
    for i, n in enumerate(rows):
        parents[n] = best[i // M]
    return parents


def dvts(scores: Sequence[float], active: Sequence[bool], width: int) -> list[int]:
    """In each tree of M rows, everyone follows the best."""
    M = width or round(len(scores) ** 0.5)
    parents = list(range(len(scores)))
    for first in range(0, len(scores), M):
        tree = [n for n in range(first, first + M) if active[n]]
        for n in tree:
            parents[n] = max(tree, key=lambda m: scores[m])
    return parents


def rebase(scores: Sequence[float], active: Sequence[bool], temperature: float) -> list[int]:
    """Whole shares of the budget in proportion to exp(score / temperature): largest remainder."""
    rows = [n for n, on in enumerate(active) if on]
    weights = np.exp([(scores[n] - max(scores)) / temperature for n in rows])
    fair = [round(x, 9) for x in (len(rows) * weights / weights.sum()).tolist()]
    counts = [int(x) for x in fair]
    by_remainder = sorted(range(len(rows)), key=lambda i: counts[i] - fair[i])
    for i in by_remainder[: len(rows) - sum(counts)]:
        counts[i] += 1
    heirs = [n for n, count in zip(rows, counts, strict=True) for _ in range(count)]
    parents = list(range(len(scores)))
    for n, parent in zip(rows, heirs, strict=True):
        parents[n] = parent
    return parents


def particles(
    scores: Sequence[float], active: Sequence[bool], temperature: float, uniform: np.ndarray
) -> list[int]:
    """Every row draws its parent with odds ** (1 / temperature)."""
    rows = [n for n, on in enumerate(active) if on]
    chance = np.clip([scores[n] for n in rows], 1e-6, 1 - 1e-6)
    weights = (chance / (1 - chance)) ** (1 / temperature)
    cumulative = np.cumsum(weights / weights.sum())
    parents = list(range(len(scores)))
    for n in rows:
        if np.abs(cumulative[:-1] - uniform[n]).min(initial=1) < CLOSE_DRAW:
            raise UnclearError
        parents[n] = rows[int(np.searchsorted(cumulative, uniform[n], side="right"))]
    return parents


def smc(
    strategy: SMC, seen: Seen, weights: list[float], key: jax.Array
) -> tuple[list[int], list[float]]:
    """Rows are redrawn once the weights, in logarithms, are uneven: at equal distances."""
    rows = [n for n, on in enumerate(seen.active) if on]
    chance = np.clip(seen.scores, 1e-6, 1 - 1e-6)
    logs = np.array(weights) + np.log(chance / (1 - chance)) / strategy.temperature
    shares = np.exp(logs[rows] - logs[rows].max())
    shares /= shares.sum()
    size, least = 1 / (shares**2).sum(), strategy.threshold * len(rows)
    if 0 < abs(size - least) < 1e-4:
        raise UnclearError
    parents = list(range(len(weights)))
    if size >= least:
        return parents, logs.tolist()
    uniform, cumulative = float(jax.random.uniform(key)), np.cumsum(shares)
    for i, n in enumerate(rows):
        at = (i + uniform) / len(rows)
        if np.abs(cumulative[:-1] - at).min(initial=1) < CLOSE_DRAW:
            raise UnclearError
        parents[n] = rows[int(np.searchsorted(cumulative, at, side="right"))]
    return parents, [0.0] * len(weights)


def diverse_beam(strategy: DiverseBeam, seen: Seen) -> list[int]:
    """Parents in the order in which they are kept, each for M rows."""
    rows = [n for n, on in enumerate(seen.active) if on]
    M = strategy.width or round(len(seen.scores) ** 0.5)
    hidden = np.array(seen.hidden, np.float64)
    away = hidden - hidden[rows].mean(0)
    lengths = np.linalg.norm(away, axis=1)
    kept: list[int] = []
    while len(kept) * M < len(rows):
        worth = {}
        for n in rows:
            if n in kept:
                continue
            near = [
                away[n] @ away[m] / (lengths[n] * lengths[m]) if lengths[n] * lengths[m] else 0.0
                for m in kept
            ]
            worth[n] = seen.scores[n] - strategy.penalty * max(near, default=-1.0)
        best = max(worth, key=lambda n: worth[n])
        if any(0 < worth[best] - x < CLOSE_SCORE for x in worth.values()):
            raise UnclearError
        kept.append(best)
    parents = list(range(len(seen.scores)))
    for i, n in enumerate(rows):
        parents[n] = kept[i // M]
    return parents


def deepconf(strategy: DeepConf, seen: Seen, state: dict) -> tuple[list[int], dict]:
    """Every row is its own parent, or stopped: -1."""
    N, past = len(seen.scores), [*state["past"], (list(seen.log_prob), list(seen.lengths))]
    log_prob, lengths = past[max(len(past) - 1 - strategy.window, 0)]
    confidence = [
        (now - before) / max(end - start, 1)
        for now, before, end, start in zip(
            seen.log_prob, log_prob, seen.lengths, lengths, strict=True
        )
    ]
    lowest = [min(a, b) for a, b in zip(state["lowest"], confidence, strict=True)]
    threshold = state["threshold"]
    if seen.round == strategy.warmup - 1:
        threshold = sorted(lowest)[math.floor((1 - strategy.keep) * (N - 1) + 1e-6)]
    if any(0 < abs(x - threshold) < CLOSE_SCORE for x in lowest):
        raise UnclearError
    on = [n for n in range(N) if seen.active[n]]
    best = max(on, key=lambda n: confidence[n])
    if any(0 < confidence[best] - confidence[n] < CLOSE_SCORE for n in on):
        raise UnclearError
    parents = [-1 if lowest[n] < threshold and n != best else n for n in range(N)]
    return parents, {"lowest": lowest, "threshold": threshold, "past": past}


def patient(strategy: Patient, seen: Seen, state: list) -> tuple[list[int], list]:
    """Of each row the best score of its text, and the rounds since."""
    found = []
    for score, (best, waited) in zip(seen.scores, state, strict=True):
        found.append((max(score, best), 0 if score > best else waited + 1))
    sure = {
        n: sum(seen.history[n]) / max(len(seen.history[n]), 1) - seen.entropy[n] / seen.lengths[n]
        for n in range(len(seen.scores))
        if seen.active[n]
    }
    surest = max(sure, key=lambda n: sure[n])
    if any(0 < sure[surest] - x < CLOSE_SCORE for x in sure.values()):
        raise UnclearError
    parents = [
        surest if waited > strategy.patience and seen.active[n] else n
        for n, (_, waited) in enumerate(found)
    ]
    return parents, found


def begun(strategy: Strategy, candidates: int) -> Any:
    """The state before the first round."""
    if isinstance(strategy, SMC):
        return [0.0] * candidates
    if isinstance(strategy, DeepConf):
        nothing = [0.0] * candidates
        return {"lowest": nothing, "threshold": -math.inf, "past": [(nothing, nothing)]}
    return [(-math.inf, 0)] * candidates if isinstance(strategy, Patient) else ()


def parents_of(strategy: Strategy, seen: Seen, state: Any, key: jax.Array) -> tuple[list[int], Any]:
    """As the strategy of that kind chooses, and its state."""
    scores, active = seen.scores, seen.active
    if isinstance(strategy, SMC):
        return smc(strategy, seen, state, key)
    if isinstance(strategy, DeepConf):
        return deepconf(strategy, seen, state)
    if isinstance(strategy, Patient):
        return patient(strategy, seen, state)
    if isinstance(strategy, DiverseBeam):
        return diverse_beam(strategy, seen), state
    if isinstance(strategy, Beam):
        return beam(scores, active, strategy.width), state
    if isinstance(strategy, DVTS):
        return dvts(scores, active, strategy.width), state
    if isinstance(strategy, Rebase):
        return rebase(scores, active, strategy.temperature), state
    assert isinstance(strategy, ParticleFilter)
    uniform = np.asarray(jax.random.uniform(key, (len(scores),)), np.float64)
    return particles(scores, active, strategy.temperature, uniform), state


def choose(strategy: Strategy, seen: Seen, state: Any, key: jax.Array) -> tuple[list[int], Any]:
    """`parents_of`, where they stay the same when a score changes in its last digits.

    Equal scores change together: how real ties are broken is never unclear.
    """
    parents, after = parents_of(strategy, seen, state, key)
    for grade, shift in itertools.product(set(seen.scores), (-CLOSE_SCORE, CLOSE_SCORE)):
        moved = [score + shift * (score == grade) for score in seen.scores]
        other = dataclasses.replace(seen, scores=moved)
        if parents_of(strategy, other, state, key)[0] != parents:
            raise UnclearError
    return parents, after
