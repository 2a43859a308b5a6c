"""How hard questions are for a generator (paper §3.2).

All numbers here are the higher the easier a question is. *Oracle* difficulty is the share of
samples that are right; *predicted* difficulty the mean score that a verifier gives them, for which
nobody needs to know the answer. A PRM also scores the question alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ttc_jax.errors import UserError
from ttc_jax.results.curves import pass_at_1
from ttc_jax.results.selection import answer_score
from ttc_jax.results.store import Candidate, Record

BINS = 5
EDGES = (0.5, 0.1)  # absolute bins of pass@1: easy above the first, hard below the last


def oracle(records: Iterable[Record]) -> dict[str, float]:
    """Each question's share of correct candidates, over all its records."""
    return pass_at_1(records)


def predicted(records: Iterable[Record], aggregation: str = "last") -> dict[str, float]:
    """Each question's mean answer score; answers without a step count as 0.

    Raises:
      UserError: samples that no verifier has scored.
    """
    found = {}
    for question, candidates in _candidates(records).items():
        if not any(candidate.step_scores for candidate in candidates):
            raise UserError(f"difficulty: samples of {question!r} have no scores; name a verifier")
        scores = [answer_score(candidate.step_scores, aggregation) for candidate in candidates]
        found[question] = float(np.mean(np.maximum(scores, 0.0)))
    return found


def of_questions(records: Iterable[Record]) -> dict[str, float]:
    """Each question's score before any answer, which costs no sample.

    Raises:
      UserError: searched without a verifier that reads the question.
    """
    found = {}
    for record in records:
        if record.question_score is None:
            raise UserError(
                f"difficulty: {record.question!r} was searched without a verifier that reads it"
            )
        found[record.question] = record.question_score
    return found


def quantile_bins(values: Mapping[str, float], bins: int = BINS) -> dict[str, int]:
    """Returns question -> bin, 0 the easiest; bins are of equal size.

    Args:
      values: a question's pass@1, or another number that is the higher the easier it is. Questions
        of equal value are told apart by their ids, so that bins stay equal in size.
      bins: number of groups.
    """
    order = sorted(values, key=lambda question: (-values[question], question))
    return {question: place * bins // len(order) for place, question in enumerate(order)}


def absolute_bins(values: Mapping[str, float], edges: Sequence[float] = EDGES) -> dict[str, int]:
    """Returns question -> bin by fixed bounds, 0 the easiest; a bound is in the easier bin.

    Raises:
      UserError: bounds that do not fall.
    """
    if list(edges) != sorted(set(edges), reverse=True):
        raise UserError(f"difficulty.edges={tuple(edges)}: bounds must fall, as in {EDGES}")
    return {question: sum(value < edge for edge in edges) for question, value in values.items()}


def _candidates(records: Iterable[Record]) -> dict[str, list[Candidate]]:
    found: dict[str, list[Candidate]] = {}
    for record in sorted(records, key=lambda record: record.key):
        found.setdefault(record.question, []).extend(record.candidates)
    return found
