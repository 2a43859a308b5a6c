"""What a search has found and what it cost: records, one a question, strategy, budget and seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from ttc_jax.compute.ledger import Ledger

DIFFICULTY: Final = "difficulty"  # samples that say how hard questions are, and are not scored
POOL: Final = "best_of_n"  # the strategy whose pass@1 says how hard questions are
Key = tuple[str, str, int, int]


@dataclass(frozen=True, slots=True)  # of which a million may be held
class Candidate:
    """One sampled answer of a question and what became of it."""

    tokens: tuple[int, ...]  # [T] generated tokens, the end token included
    text: str
    finished: bool  # False: cut off by the length limit
    log_prob: float  # nats: sum of the drawn tokens' log-probabilities under the base model
    step_scores: tuple[float, ...]  # [steps] the verifier's score of each; () without a verifier
    answer: str | None  # canonical final answer: equal answers vote together
    correct: bool
    step_values: tuple[float, ...] = ()  # [steps] share of rollouts from each that end correctly
    unboxed: bool = False  # the answer was read from a text without a box (see `Verdict`)
    thought: int = 0  # first tokens that are its thought, marks included; the answer is behind them
    token_count: int = 0  # tokens generated where their ids are not known; 0: not counted either

    @property
    def generated(self) -> int:
        """Tokens that were generated; 0 where they were not counted."""
        return len(self.tokens) or self.token_count


@dataclass(frozen=True)
class Node:
    """One step of a search tree.

    One that has no children, and ends no candidate, was pruned: its row went on from another.
    """

    parent: int  # index of the node before it; -1: an answer begins here
    round: int  # of the search; the steps of an answer that is written in one go share theirs
    text: str
    score: float | None  # the verifier's; None: not scored
    candidate: int | None  # index of the one that ends here


@dataclass(frozen=True)
class Choice:
    """The final answer of a judge that has read the candidates together."""

    chosen: Candidate  # one of them, or the judge's own
    texts: tuple[str, ...] = ()  # what it wrote, one for each order; (): it was not asked
    unread: int = 0  # texts without a verdict that can be read; of all of them: the vote's answer


@dataclass(frozen=True)
class Record:
    """What one strategy made of one question with one budget and seed."""

    question: str  # Question.id
    strategy: str
    budget: int  # generations that were paid for: N, or N (k + 1) with lookahead
    seed: int
    candidates: tuple[Candidate, ...]  # [N], chain by chain where answers are revised
    ledger: Ledger
    level: str = ""  # the data set's own difficulty label
    seconds: float = 0.0  # share of the wall time; never in summary.json, which must repeat
    question_score: float | None = None  # the verifier's, of the question alone
    sequential: int = 1  # s: each chain holds so many answers, and an answer sees those before it
    tree: tuple[Node, ...] = ()  # parents before children; () where it was not kept
    choice: Choice | None = None  # None: no judge chose

    @property
    def key(self) -> Key:
        """(question, strategy, budget, seed): equal keys are the same work."""
        return self.question, self.strategy, self.budget, self.seed

    @property
    def settled(self) -> Record:
        """The same with a judge's choice as its only candidate, so that every rule selects it."""
        if self.choice is None:
            return self
        return replace(self, candidates=(self.choice.chosen,), sequential=1)
