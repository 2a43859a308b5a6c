"""The result of a search, and the error of a question that cannot be scored."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.search.state import SearchTrace


class SearchResult(NamedTuple):
    """A question's N candidates, on the host.

    Of answers that are revised there are N·s: chain by chain, where rows are chains; else revision
    by revision.
    """

    tokens: np.ndarray  # [N, T] int32, 0 behind the end
    lengths: np.ndarray  # [N] tokens drawn, the end token included
    log_prob: np.ndarray  # [N] nats
    finished: np.ndarray  # [N] bool; False: cut off by a limit, or stopped
    step_scores: np.ndarray  # [N, T] at the last token of each step ...
    scored: np.ndarray  # [N, T] bool ... where this holds
    trace: SearchTrace  # arrays [R, N], of the rounds that came
    ledger: Ledger
    question_score: float | None  # the verifier's, before any answer; None: it reads no questions
    sequential: int = 1  # s, where rows are chains
    revisions: int = 1  # answers that follow each other, in chains or not
    cut: bool = False  # whether a deadline ended the search before its time
    thoughts: tuple[int, ...] = ()  # [N] first tokens that are thought; () of a model without

    def is_revised(self, n: int) -> bool:
        """Returns whether candidate n revises an earlier answer."""
        if self.sequential > 1:
            return n % self.sequential > 0
        return n * self.revisions >= len(self.lengths)

    def thought_of(self, n: int) -> int:
        """Returns how many of candidate n's first tokens are thought, marks included."""
        return self.thoughts[n] if self.thoughts else 0

    def scores_of(self, n: int) -> tuple[float, ...]:
        """Returns the scores of candidate n's steps."""
        return tuple(self.step_scores[n][self.scored[n]].tolist())


class Failed(UserError):
    """The error of a question whose score was NaN.

    Attributes:
      index: of the prompt.
      reason: the message without it.
    """

    def __init__(self, index: int):
        self.index = index
        self.reason = "a step's score is NaN; check the weights of the generator and the verifier"
        super().__init__(f"prompt {index}: {self.reason}")
