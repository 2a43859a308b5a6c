"""What became of a question: the answer that its candidates elect, with the others and the cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ttc_jax.compute.ledger import Ledger
from ttc_jax.results.selection import LOWEST_SCORE, NO_ANSWER, answer_ids, answer_score, shares
from ttc_jax.results.store import Candidate


@dataclasses.dataclass(frozen=True)
class Alternative:
    """An answer that candidates gave.

    Attributes:
      weight: its part of the sum of all answer scores, 0 to 1; of all votes, under majority.
      votes: candidates that gave it.
    """

    answer: str
    weight: float
    votes: int


@dataclasses.dataclass(frozen=True)
class Solution:
    """What became of a question.

    Attributes:
      id: as given, or a hash of the question.
      question: its text.
      difficulty: as the policy tells it, the higher the easier; None without a policy.
      bin: of the policy, 1 the easiest; None without one.
      strategy: its name in the policy, or in the config without one.
      budget: generations that the policy chose the strategy for.
      answer: None where no candidate holds one.
      correct: whether it is the question's gold answer; None where the question has none.
      reasoning: text of the candidate of the highest score with that answer.
      alternatives: all answers, the one above first, then by weight.
      candidates: that voted: "count", and of these "cut_off" and "without_answer".
      ledger: what all of it cost, difficulty included.
      seconds: share of the wall time.
      cut: whether a deadline came before the search was over: then the answer is of what was
        written by then, if anything was.
    """

    id: str
    question: str
    difficulty: float | None
    bin: int | None
    strategy: str
    budget: int
    answer: str | None
    correct: bool | None
    reasoning: str
    alternatives: tuple[Alternative, ...]
    candidates: Mapping[str, int]
    ledger: Ledger
    seconds: float
    cut: bool = False


def elect(
    candidates: Sequence[Candidate],
    rule: str,
    aggregation: str = "last",
    sequential: int = 1,
    chosen: Candidate | None = None,
) -> tuple[Candidate, tuple[Alternative, ...]]:
    """Returns the candidate of the highest score with the answer that wins, and all answers.

    Of answers that tie the one of the earlier candidate wins. Where no candidate has an answer, the
    candidate is the one of the highest score.

    Args:
      candidates: at least one.
      rule: of `RULES`.
      aggregation, sequential: see `answer_score`, `hierarchical`.
      chosen: by a judge, in place of the vote; it need not be one of the candidates.
    """
    ids = answer_ids([candidate.answer for candidate in candidates])
    scores = np.array([answer_score(x.step_scores, aggregation) for x in candidates])
    winner = ids[(shares(rule, ids, scores, sequential) > 0).argmax()]
    held = np.flatnonzero(ids == winner)
    best = candidates[held[scores[held].argmax()]]
    best = chosen or best
    counted = rule == "majority"
    weights = np.where(counted, 1.0, np.where(scores == LOWEST_SCORE, 0.0, scores))
    total = weights[ids != NO_ANSWER].sum() or 1.0
    alternatives = []
    for number in sorted(set(ids[ids != NO_ANSWER].tolist())):
        of = ids == number
        text = candidates[int(of.argmax())].answer
        alternatives.append(Alternative(str(text), float(weights[of].sum() / total), int(of.sum())))
    if best.answer is not None and best.answer not in (one.answer for one in alternatives):
        alternatives.append(Alternative(best.answer, 0.0, 0))
    alternatives.sort(key=lambda one: (one.answer != best.answer, -one.weight))
    return best, tuple(alternatives)
