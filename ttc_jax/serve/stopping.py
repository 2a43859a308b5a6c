"""When candidates are enough: rules that look at those of a question while more are drawn."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from ttc_jax.policy.allocation import Allocation
from ttc_jax.policy.walks import look
from ttc_jax.results.selection import answer_ids, answer_score
from ttc_jax.serve import voting
from ttc_jax.serve.orders import Order, Stage
from ttc_jax.serve.service import ALLOCATION, Service
from ttc_jax.serve.voting import Found


class Verdict(NamedTuple):
    """What a rule says of the candidates that there are.

    Attributes:
      more: candidates to draw next; 0: there are enough.
      about: what a client is told.
    """

    more: int
    about: dict[str, Any]


class Rule(Protocol):
    """Says whether a question gets more candidates."""

    def __call__(self, found: Sequence[Found]) -> Verdict:
        """Returns the verdict on what all of a question's searches have found."""
        ...


@dataclasses.dataclass(frozen=True)
class UntilSettled:
    """Stops once the vote is settled, or the budget is spent.

    Attributes:
      confidence: at which the vote is settled, see `voting.certainty`.
      step: candidates that are drawn at a time.
      budget: candidates at most.
    """

    service: Service
    confidence: float
    step: int
    budget: int

    def __call__(self, found: Sequence[Found]) -> Verdict:
        """See `Rule`."""
        sure = voting.certainty(voting.elected(found, self.service).alternatives)
        goes_on = sure < self.confidence and drawn(found) + self.step <= self.budget
        return Verdict(self.step if goes_on else 0, {"confidence": sure})


@dataclasses.dataclass(frozen=True)
class WhileWorth:
    """Stops where more candidates are not worth their price (`policy.allocation`).

    Attributes:
      aggregation: step scores to answer score, see `answer_score`.
      draw: see `Allocation.decide`.
    """

    allocation: Allocation
    aggregation: str
    draw: float

    def __call__(self, found: Sequence[Found]) -> Verdict:
        """See `Rule`."""
        candidates = [candidate for one in found for candidate in one.record.candidates]
        answers = answer_ids([candidate.answer for candidate in candidates])
        scores = [answer_score(one.step_scores, self.aggregation) for one in candidates]
        share, score = look(answers, np.array(scores)).tolist()
        n, grid = drawn(found), self.allocation.grid
        stops = self.allocation.decide(n, (share, score), self.draw)
        more = 0 if stops else grid[grid.index(n) + 1] - n
        return Verdict(more, {"share": share, "score": score})


def rule_of(service: Service, order: Order, stage: Stage) -> Rule | None:
    """Returns when a prompt has enough candidates; None where its first search is all.

    Args:
      stage: its first search.
    """
    spending = order.spending
    if spending.strategy == ALLOCATION:
        assert service.allocation is not None
        return WhileWorth(
            service.allocation.at(spending.generations),
            service.allocation.aggregation,
            stage.request.question_id / 2**32,  # a hash, and so uniform
        )
    if order.confidence is None:
        return None
    return UntilSettled(service, order.confidence, stage.kind.generations, spending.generations)


def drawn(found: Sequence[Found]) -> int:
    """Returns how many candidates there are."""
    return sum(one.record.budget for one in found)
