"""How well a verifier finds first wrong steps, as ProcessBench measures it.

The verifier says that the first step with a score below a threshold is the first wrong one; that
none is, where no score is below it. It is right about a solution where that is the label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ttc_jax import hashing
from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.results.curves import DIGITS, Estimate, bootstrap_of
from ttc_jax.results.summary import versions
from ttc_jax.tasks.labelled import NONE

MEASURES: Final = ("accuracy_wrong", "accuracy_right", "f1")
_POINTS: Final = 101  # thresholds of the curve


class Judged(NamedTuple):
    """A labelled solution, and the scores of its steps."""

    question: str  # solutions of one question are resampled, and held out, together
    subset: str
    label: int
    scores: tuple[float, ...]


def first_below(scores: Sequence[float], threshold: float) -> int:
    """Returns the place of the first score below a threshold; -1 where there is none."""
    return next((place for place, score in enumerate(scores) if score < threshold), NONE)


def choose_threshold(solutions: Sequence[Judged]) -> tuple[float, float]:
    """Returns the threshold with the highest F1, the mean over subsets, and that F1.

    Of thresholds between the same two scores it is the one in the middle, and of equals the lowest.

    Raises:
      UserError: no subset has both wrong and right solutions.
    """
    scores = np.unique([score for solution in solutions for score in solution.scores])
    thresholds = np.concatenate([scores[:1], (scores[:-1] + scores[1:]) / 2, scores[-1:] + 1])
    by_subset = _by_subset(solutions)
    table = np.stack([_measures(_counts(some, thresholds))[..., 2] for some in by_subset.values()])
    table = table[~np.isnan(table[:, 0])]
    if not len(table):
        raise UserError(
            "no subset of the held-out questions has both solutions with a wrong step and without: "
            "hold out more (data.held_out), or give the threshold (judge.threshold)"
        )
    best = int(table.mean(0).argmax())
    return float(thresholds[best]), float(table.mean(0)[best])


def summarise_judged(
    solutions: Sequence[Judged],
    config: Mapping[str, Any],
    ledger: Ledger,
    *,
    held_out: float,
    threshold: float = 0.0,
    seed: int = 0,
) -> dict[str, Any]:
    """Returns the contents of summary.json of a judged verifier.

    Args:
      config: the job's configuration, ready for JSON.
      ledger: what scoring cost.
      held_out: share of the questions that the threshold is chosen on, and no figure tells of.
      threshold: what is taken in place of that, with all questions; 0: none.
      seed: of the bootstrap over questions.

    Returns:
      "threshold": {"value", "chosen_on": {"questions", "solutions", "f1"} where it was chosen};
      "subsets": name -> {"solutions", "wrong", "right" (their labels), and estimates of
      "accuracy_wrong", "accuracy_right" and "f1", null where there are no such solutions};
      "average": the means of the three over subsets that have them; "labels": subset -> {"wrong",
      "right"} of all solutions, held-out ones too; "curve": by threshold, averages of the three;
      "questions", "ledger", "config", "versions".

    Raises:
      UserError: as `choose_threshold`; a share that leaves no question to either part.
    """
    apart = [held_out > 0 and hashing.falls_within(x.question, held_out) for x in solutions]
    chosen: dict[str, Any] = {}
    rest = list(solutions)
    if not threshold:
        kept = [x for x, is_apart in zip(solutions, apart, strict=True) if is_apart]
        rest = [x for x, is_apart in zip(solutions, apart, strict=True) if not is_apart]
        if not kept or not rest:
            raise UserError(
                f"data.held_out={held_out:g} leaves {len(kept)} solutions to choose the threshold "
                f"on and {len(rest)} to judge with; change it, or give judge.threshold"
            )
        threshold, f1 = choose_threshold(kept)
        questions = len({x.question for x in kept})
        on = {"questions": questions, "solutions": len(kept), "f1": round(f1, DIGITS)}
        chosen = {"chosen_on": on}
    by_subset = _by_subset(rest)
    return {
        "threshold": {"value": threshold, **chosen},
        **_estimates(by_subset, threshold, seed),
        "labels": {name: _labels(some) for name, some in _by_subset(solutions).items()},
        "curve": _curve(by_subset),
        "questions": len({x.question for x in rest}),
        "ledger": ledger.to_dict(),
        "config": dict(config),
        "versions": versions(),
    }


def _by_subset(solutions: Sequence[Judged]) -> dict[str, list[Judged]]:
    names = sorted({solution.subset for solution in solutions})
    return {name: [x for x in solutions if x.subset == name] for name in names}


def _labels(solutions: Sequence[Judged]) -> dict[str, int]:
    wrong = sum(x.label != NONE for x in solutions)
    return {"solutions": len(solutions), "wrong": wrong, "right": len(solutions) - wrong}


def _counts(solutions: Sequence[Judged], thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """[thresholds, 4] Wrong solutions, those found at their label, right ones, those let pass.

    A wrong one is found where the threshold lies above the score of its label, and not above any
    before it: so each solution counts between two bounds, and bounds are counted by sorting.
    """
    low, high, least = [], [], []
    for solution in solutions:
        if solution.label == NONE:
            least.append(min(solution.scores))
            continue
        here = solution.scores[solution.label]
        low.append(here)
        high.append(max(here, min(solution.scores[: solution.label], default=np.inf)))

    def below(bounds: list[float]) -> NDArray[np.float64]:
        return np.searchsorted(np.sort(bounds), thresholds, side="left").astype(np.float64)

    found = below(low) - below(high)
    passed = len(least) - below(least)
    every = np.ones_like(thresholds)
    return np.stack([len(low) * every, found, len(least) * every, passed], -1)


def _measures(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """[*n, 4] counts -> [*n, 3] `MEASURES`; NaN where there are no solutions of a kind."""
    wrong, found, right, passed = np.moveaxis(counts, -1, 0)
    on_wrong = found / np.where(wrong > 0, wrong, np.nan)
    on_right = passed / np.where(right > 0, right, np.nan)
    both = on_wrong + on_right
    f1 = 2 * on_wrong * on_right / np.where(both == 0, 1.0, both)
    return np.stack([on_wrong, on_right, f1], -1)


def _estimates(
    by_subset: Mapping[str, Sequence[Judged]], threshold: float, seed: int
) -> dict[str, Any]:
    """Each subset's labels and measures, and the averages of these."""
    questions = sorted({x.question for some in by_subset.values() for x in some})
    place = {question: i for i, question in enumerate(questions)}
    counts = np.zeros((len(questions), len(by_subset), 4))
    at = np.array([threshold])
    for column, some in enumerate(by_subset.values()):
        for solution in some:
            counts[place[solution.question], column] += _counts([solution], at)[0]
    many = len(by_subset)

    def measures(totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """[*n, subsets · 4] -> [*n, (subsets + 1) · 3]: of each subset, and their averages."""
        each = _measures(totals.reshape(*totals.shape[:-1], many, 4))
        there = ~np.isnan(each)
        total = np.where(there, each, 0.0).sum(-2, keepdims=True)
        number = there.sum(-2, keepdims=True)
        average = total / np.where(number > 0, number, np.nan)
        return np.concatenate([each, average], -2).reshape(*totals.shape[:-1], -1)

    found = bootstrap_of(counts.reshape(len(questions), -1), measures, seed)
    rows = [found[i : i + len(MEASURES)] for i in range(0, len(found), len(MEASURES))]
    *each, average = (dict(zip(MEASURES, map(_plain, row), strict=True)) for row in rows)
    subsets = {
        name: {**_labels(some), **row}
        for (name, some), row in zip(by_subset.items(), each, strict=True)
    }
    return {"subsets": subsets, "average": average}


def _plain(estimate: Estimate | None) -> dict[str, float] | None:
    return None if estimate is None else estimate.rounded()


def _curve(by_subset: Mapping[str, Sequence[Judged]]) -> list[dict[str, float]]:
    """Averages over subsets at thresholds from the lowest score to the highest.

    Thresholds are quantiles of the scores: so a curve has its points where scores are.
    """
    scores = [score for some in by_subset.values() for x in some for score in x.scores]
    thresholds = np.unique(np.quantile(scores, np.linspace(0, 1, _POINTS)))
    each = np.stack([_measures(_counts(some, thresholds)) for some in by_subset.values()])
    there = ~np.isnan(each)
    number = np.maximum(there.sum(0), 1)
    means = np.where(there, each, 0.0).sum(0) / number
    return [
        {"threshold": at, **dict(zip(MEASURES, np.round(row, DIGITS).tolist(), strict=True))}
        for at, row in zip(thresholds.tolist(), means, strict=True)
    ]
