"""How good a verifier's scores are: their ranking, and whether they are the chances they claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array
from numpy.typing import ArrayLike, NDArray

from ttc_jax.training.batches import NONE, Batches

BINS = 10  # of scores, of equal width
_DIGITS = 6


class Scored(NamedTuple):
    """An answer's scores, and what they should have been."""

    question: str
    scores: NDArray[np.float64]  # [steps] chances; an ORM's: one
    values: NDArray[np.float64]  # [steps]
    of_question: tuple[float, float] | None = None  # score and value before the answer


def score(verifier: nnx.Module, validation: Batches, questions: Sequence[str]) -> list[Scored]:
    """The chances that a verifier gives where values are asked for, in the examples' order.

    Args:
      verifier: gives a score, as a logit, at every token: a PRM, an ORM or `probe.Probed`.
      questions: whose answer each of the examples is.
    """
    graph, parameters = nnx.split(verifier)

    @jax.jit
    def chances(parameters: Any, tokens: Array, prompt_lengths: Array) -> Array:
        return jax.nn.sigmoid(nnx.merge(graph, parameters)(tokens, prompt_lengths))

    found: dict[int, Scored] = {}
    for batch in validation.all():
        scores = np.asarray(chances(parameters, batch["tokens"], batch["prompt_lengths"]))
        for row in np.flatnonzero(batch["examples"] != NONE):
            at, example = np.flatnonzero(batch["weights"][row]), int(batch["examples"][row])
            chance, value = (x[row, at].astype(np.float64) for x in (scores, batch["targets"]))
            first = int(at[0] < batch["prompt_lengths"][row])
            of_question = (float(chance[0]), float(value[0])) if first else None
            found[example] = Scored(questions[example], chance[first:], value[first:], of_question)
    return [answer for _, answer in sorted(found.items())]


def quality(answers: Sequence[Scored]) -> dict[str, Any]:
    """Figures of a verifier on answers that it was not taught.

    Returns:
      "answers", "steps": how many.
      "auroc": areas under the ROC curve, 0.5 for chance; one that finds no pair to rank is absent.
        "steps": of steps that succeed at least half of the time against the others.
        "rollouts": of rollouts that ended correctly against the others, by the score of the step
          that they began at. Were each score the step's true chance, it would still be below 1.
        "within_question": the mean over questions of correct answers against wrong ones, by their
          last scores.
        "questions": of answers that are correct against the others, by what the question alone
          scores.
        "first_error": of steps before an answer's first worthless one (value 0) against that one.
      "calibration_error": mean distance of score and value over the bins, weighted by their steps.
      "calibration": of each bin, "low" and "high" bound, "steps", mean "score" and mean "value".
    """
    scores = np.concatenate([answer.scores for answer in answers])
    values = np.concatenate([answer.values for answer in answers])
    bins = calibration(scores, values)
    error = sum(row["steps"] * abs(row["score"] - row["value"]) for row in bins) / len(scores)
    areas = {
        "steps": auroc(scores, values >= 0.5),
        "rollouts": auroc(scores, values),
        "within_question": _within_question(answers),
        "first_error": _first_error(answers),
        "questions": _questions(answers),
    }
    return {
        "answers": len(answers),
        "steps": len(scores),
        "auroc": {name: round(area, _DIGITS) for name, area in areas.items() if area is not None},
        "calibration_error": round(error, _DIGITS),
        "calibration": bins,
    }


def figures_of(quality: Mapping[str, Any]) -> dict[str, float]:
    """The single numbers of `quality`, under names for model.json."""
    areas = {f"validation_auroc_{name}": area for name, area in quality["auroc"].items()}
    return areas | {"validation_calibration_error": quality["calibration_error"]}


def auroc(scores: ArrayLike, values: ArrayLike) -> float | None:
    """How often something good has a higher score than something bad, a tie counting half.

    Args:
      scores: [n].
      values: [n] the share of each that is good, in [0, 1]; the rest of it is bad.

    Returns:
      None without both good and bad.
    """
    values = np.asarray(values, np.float64)
    _, rank = np.unique(scores, return_inverse=True)
    good, bad = np.bincount(rank, values), np.bincount(rank, 1 - values)
    pairs = good.sum() * bad.sum()
    below = np.cumsum(bad) - bad
    return float((good * (below + bad / 2)).sum() / pairs) if pairs else None


def calibration(scores: NDArray[np.float64], values: NDArray[np.float64]) -> list[dict[str, float]]:
    """Mean score and mean value in each bin of scores that holds any."""
    place = np.minimum((scores * BINS).astype(int), BINS - 1)
    return [
        {
            "low": b / BINS,
            "high": (b + 1) / BINS,
            "steps": int((place == b).sum()),
            "score": round(float(scores[place == b].mean()), _DIGITS),
            "value": round(float(values[place == b].mean()), _DIGITS),
        }
        for b in np.unique(place).tolist()
    ]


def _within_question(answers: Sequence[Scored]) -> float | None:
    by_question: dict[str, list[tuple[float, float]]] = {}
    for question, scores, values, _ in answers:
        by_question.setdefault(question, []).append((scores[-1], values[-1] >= 0.5))
    areas = [auroc(*zip(*rows, strict=True)) for rows in by_question.values()]
    areas = [area for area in areas if area is not None]
    return float(np.mean(areas)) if areas else None


def _questions(answers: Sequence[Scored]) -> float | None:
    found = [answer.of_question for answer in answers if answer.of_question]
    return auroc([score for score, _ in found], [value for _, value in found]) if found else None


def _first_error(answers: Sequence[Scored]) -> float | None:
    scores, good = [], []
    for answer in answers:
        worthless = np.flatnonzero(answer.values == 0)
        if len(worthless) and (first := worthless[0]):
            scores += answer.scores[: first + 1].tolist()
            good += [1.0] * first + [0.0]
    return auroc(scores, good)
