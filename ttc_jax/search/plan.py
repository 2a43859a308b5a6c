"""The plan: what a user chooses of a search, and checks of what cannot work."""

from __future__ import annotations

import dataclasses

from ttc_jax.errors import UserError
from ttc_jax.models.transformer import Transformer
from ttc_jax.sampling.draw import SamplingParams
from ttc_jax.sampling.thinking import Thinking
from ttc_jax.search.strategies import name_of
from ttc_jax.search.strategies.check import check_strategy
from ttc_jax.search.strategies.strategy import Strategy
from ttc_jax.tasks.prompts import EARLIER
from ttc_jax.verifiers.verifier import Verifier, VerifierSpec


@dataclasses.dataclass(frozen=True)
class Plan:
    """The strategy, the budget and the limits of a search, as a user chooses them. Hashable.

    Attributes:
      candidates: N.
      max_new_tokens: T, longest answer.
      max_step_tokens: a step that reaches it ends there.
      rounds: R, selections at most; then what is not finished is cut off.
      lookahead: k, greedy steps rolled out before a step is scored.
      sampling: how tokens are drawn.
      revisions: s, answers that follow each other, each with the latest `EARLIER` before it in its
        context; 1: no answer is revised.
      between: tokens behind an earlier answer, in place of its end token.
      score_threshold: a finished candidate with such a score at least ends the search of its
        question's answer: the other rows are cut off where they stand. None: no score does. It is
        looked at in selection steps, which all rows of a question take together, and no others: so
        what is cut off does not depend on what else is searched.
      thinking: marks and budgets of a model that thinks before it answers; None: of one that does
        not.
      own_limits: whether each question brings its sampling parameters and its longest answer, of T
        tokens at most (`Limits`), so that questions of many users share a program.
    """

    strategy: Strategy
    candidates: int
    max_new_tokens: int
    max_step_tokens: int
    rounds: int = 40
    lookahead: int = 0
    sampling: SamplingParams = dataclasses.field(default_factory=SamplingParams)
    revisions: int = 1
    between: tuple[int, ...] = ()
    score_threshold: float | None = None
    thinking: Thinking | None = None
    own_limits: bool = False

    @property
    def step(self) -> int:
        """Tokens that a row may write before it pauses."""
        if not self.strategy.stops_at_steps or self.thought_is_step:
            return self.max_new_tokens
        return min(self.max_step_tokens, self.max_new_tokens)

    @property
    def thought_is_step(self) -> bool:
        """Whether the first step is all of the thought, however long, and the answer's first."""
        thinks = self.thinking is not None and not self.thinking.steps
        return thinks and self.strategy.stops_at_steps

    @property
    def rounds_per_answer(self) -> int:
        """Rounds of an answer: R, or 1 where answers are written in one go."""
        return self.rounds if self.strategy.stops_at_steps else 1

    @property
    def sequential(self) -> int:
        """Answers of a chain, where each row is one; 1 where a revision is a search."""
        return 1 if self.strategy.stops_at_steps else self.revisions

    @property
    def all_rounds(self) -> int:
        """Rounds of all answers that follow each other."""
        return self.rounds_per_answer * self.revisions

    @property
    def earlier(self) -> int:
        """Answers that a context holds at most."""
        return min(self.revisions - 1, EARLIER)

    @property
    def context(self) -> int:
        """Tokens of a context at most."""
        return self.earlier * (self.max_new_tokens + len(self.between))


def check_plan(plan: Plan, generator: Transformer, verifier: Verifier | None) -> None:
    """Refuses what cannot work. Raises as `Search`."""
    for name, value in (
        ("sampling.n", plan.candidates),
        ("sampling.max_new_tokens", plan.max_new_tokens),
        ("search.max_step_tokens", plan.max_step_tokens),
        ("search.rounds", plan.rounds),
        ("search.revisions", plan.revisions),
    ):
        if value < 1:
            raise UserError(f"{name} is {value}; it must be at least 1")
    if plan.lookahead < 0:
        raise UserError(f"search.lookahead is {plan.lookahead}; it must be 0 (none) or more")
    check_threshold(plan.strategy, plan.score_threshold)
    check_strategy(plan.strategy, plan.candidates, plan.lookahead, scored=verifier is not None)
    spec = verifier.spec if verifier is not None else VerifierSpec()
    if spec.hidden_width not in (0, generator.config.width):
        raise UserError(
            f"verifier.path: the probe reads hidden states of width {spec.hidden_width}, the "
            f"generator's is {generator.config.width}; choose a probe of this generator"
        )
    vocabulary = generator.config.vocab_size
    if spec.format is not None:
        if plan.revisions > 1:
            raise UserError(
                f"search.revisions is {plan.revisions}: a PRM that was trained elsewhere reads no "
                "earlier answers; set it to 1, or choose a verifier that ttc train wrote"
            )
    elif spec.vocab_size not in (0, vocabulary):
        raise UserError(
            f"verifier.path: its vocabulary has {spec.vocab_size} tokens, the generator's "
            f"{vocabulary}; choose a verifier with the generator's tokenizer"
        )


def check_threshold(strategy: Strategy, score_threshold: float | None) -> None:
    """Refuses a score threshold where all candidates are written before one is scored."""
    if score_threshold is not None and not strategy.stops_at_steps:
        raise UserError(
            f"score_threshold is {score_threshold}: {name_of(strategy)} writes all candidates "
            "before it scores one, so that none could be saved; choose a strategy that selects "
            "between steps, such as beam"
        )
