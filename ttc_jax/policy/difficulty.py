"""How hard questions are for a generator (paper §3.2).

All numbers here are the higher the easier a question is. *Oracle* difficulty is the share of
samples that are right; *predicted* difficulty the mean score that a verifier gives them, for which
nobody needs to know the answer. A PRM also scores the question alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ttc_jax.errors import UserError
from ttc_jax.results.curves import pass_at_1, tied
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


@dataclasses.dataclass(frozen=True)
class Binning:
    """How questions are put into difficulty bins.

    Attributes:
      easiness: question -> a number that is the higher the easier it is, such as its pass@1.
      count: bins of equal size, where there are no edges.
      edges: fixed bounds of the bins, descending; a value on a bound belongs to the easier side.

    Raises:
      UserError: bounds that do not fall.
    """

    easiness: Mapping[str, float]
    count: int = BINS
    edges: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if list(self.edges) != sorted(set(self.edges), reverse=True):
            raise UserError(f"difficulty.edges={self.edges}: bounds must fall, as in {EDGES}")

    def of(
        self, questions: Sequence[str], drawn: NDArray[np.int64] | None = None
    ) -> NDArray[np.int64]:
        """[Q] The bin of each question, 0 the easiest; see `among`."""
        drawn = np.ones(len(questions), np.int64) if drawn is None else drawn
        return self.among(questions)(drawn)

    def among(self, questions: Sequence[str]) -> Callable[[NDArray[np.int64]], NDArray[np.int64]]:
        """Returns how often each question counts [Q] -> the bin of each [Q], 0 the easiest.

        Questions of equal easiness are told apart by their ids, so that bins stay equal in size.
        All copies of a question are in the bin of the middle one.

        Raises:
          UserError: a question of unknown easiness.
        """
        if missing := [question for question in questions if question not in self.easiness]:
            raise UserError(f"policy: {missing[0]!r} is in no difficulty bin; estimate it first")
        values = np.array([self.easiness[question] for question in questions])
        if self.edges:
            fixed = (values[:, None] < self.edges).sum(1)
            return lambda _: fixed
        order = np.lexsort((np.array(questions), -values))

        def quantiles(drawn: NDArray[np.int64]) -> NDArray[np.int64]:
            copies = drawn[order]
            middle = np.cumsum(copies) - copies + np.maximum(copies - 1, 0) // 2
            bins = np.empty(len(order), np.int64)
            bins[order] = np.minimum(middle * self.count // drawn.sum(), self.count - 1)
            return bins

        return quantiles

    def tied(self, questions: Sequence[str]) -> float:
        """The share of questions whose bin their id decides: see `results.curves.tied`."""
        bins = dict(zip(questions, self.of(questions).tolist(), strict=True))
        return len(tied(self.easiness, bins)) / len(bins)


def quantile_bins(easiness: Mapping[str, float], bins: int = BINS) -> dict[str, int]:
    """Questions in groups of equal size, 0 the easiest: see `Binning`."""
    questions = list(easiness)
    return dict(zip(questions, Binning(easiness, bins).of(questions).tolist(), strict=True))


def _candidates(records: Iterable[Record]) -> dict[str, list[Candidate]]:
    found: dict[str, list[Candidate]] = {}
    for record in sorted(records, key=lambda record: record.key):
        found.setdefault(record.question, []).extend(record.candidates)
    return found
