"""The layout: what follows from a plan, a verifier and the execution."""

from __future__ import annotations

import dataclasses

from ttc_jax.search.execution import Execution
from ttc_jax.search.histories import histories_of
from ttc_jax.search.plan import Plan
from ttc_jax.verifiers.adapters import Adapter
from ttc_jax.verifiers.steps import StepFormat
from ttc_jax.verifiers.verifier import VerifierSpec


@dataclasses.dataclass(frozen=True)
class Layout:
    """A plan and what the engine derives for it; static in a compiled search. Hashable.

    Attributes:
      lanes: W of one shard, no more than it has rows; 0: all rows.
      confidence_stats: whether entropy and self-certainty are summed while decoding.
      step_format: what the verifier is shown of a step.
      bridged: whether the host has its say between rounds (`search.bridge`).
      reads_texts: whether it scores texts there; else it writes steps in the verifier's tokens.
      histories: Q, of a `SharedCache`; 0: every row keeps all of its own.
    """

    plan: Plan
    lanes: int = 0
    confidence_stats: bool = False
    step_format: StepFormat = dataclasses.field(default_factory=StepFormat)
    bridged: bool = False
    reads_texts: bool = False
    histories: int = 0

    @classmethod
    def of(
        cls, plan: Plan, spec: VerifierSpec, adapter: Adapter | None, execution: Execution
    ) -> Layout:
        """Returns the layout of all slots, over the shards that they are split into."""
        rows = execution.batch * plan.candidates
        return cls(
            plan,
            lanes=min(execution.lanes, rows) // execution.shards,
            confidence_stats=spec.confidence_stats or plan.strategy.reads_entropy,
            step_format=(adapter or spec).step_format,
            bridged=adapter is not None and adapter.bridged,
            reads_texts=spec.reads_texts,
            histories=histories_of(plan, execution.cache),
        )

    @property
    def steps_a_round(self) -> int:
        """Step ends that a row can have in one round."""
        # One token can hold all of a step, its delimiter included.
        return 1 if self.plan.strategy.stops_at_steps else self.plan.max_new_tokens

    @property
    def most_shown(self) -> int:
        """Tokens of an answer as the verifier is shown it, markers included, at most."""
        plan = self.plan
        steps = min(plan.rounds_per_answer * self.steps_a_round, plan.max_new_tokens) + (
            plan.lookahead > 0
        )
        return self.step_format.longest(self.growth * plan.max_new_tokens, steps)

    @property
    def chunks(self) -> tuple[int, ...]:
        """Tokens that the verifier is shown of a round at most: of the step, and of lookahead."""
        plan = self.plan
        tokens = (plan.step + 1, *([plan.lookahead * plan.step] if plan.lookahead else []))
        if self.retokenizes:
            # A step may grow more than an answer does; and the last place is never taken.
            longest = self.step_format.longest
            return tuple(longest(2 * self.growth * n, self.steps_a_round) + 1 for n in tokens)
        return tuple(self.step_format.longest(n, self.steps_a_round) for n in tokens)

    @property
    def growth(self) -> int:
        """Tokens of the verifier that there is room for, for each token of an answer."""
        return 2 if self.retokenizes else 1

    @property
    def retokenizes(self) -> bool:
        """Whether the host writes steps in the verifier's tokens between rounds."""
        return self.bridged and not self.reads_texts
