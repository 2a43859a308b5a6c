"""The search over many questions: the engine's programs, run by the scheduler."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence

import jax

from ttc_jax.errors import UserError
from ttc_jax.models.delimiters import Delimiter
from ttc_jax.models.transformer import Transformer
from ttc_jax.models.vocabulary import check_tokens
from ttc_jax.sampling.thinking import Thinking
from ttc_jax.search.cost import CostModel
from ttc_jax.search.deadline import Deadline
from ttc_jax.search.engine import Drafts, Engine
from ttc_jax.search.execution import Execution
from ttc_jax.search.histories import check_shared
from ttc_jax.search.plan import Plan, check_plan
from ttc_jax.search.request import Limits, Request
from ttc_jax.search.result import Failed, SearchResult
from ttc_jax.search.scheduler import Scheduler
from ttc_jax.search.slots import Done, Work, Written
from ttc_jax.search.state import SearchState
from ttc_jax.search.strategies import name_of
from ttc_jax.verifiers.adapters import Adapter
from ttc_jax.verifiers.verifier import Verifier

__all__ = ["Failed", "Search", "SearchResult", "Work"]


class Search:
    """Answers questions with one strategy at one budget.

    A question's result is the same to the bit in any company: in whatever order and slot, alone or
    among others, with refill or without, and when a run goes on after a kill. For all rows of a
    program are computed alike, and programs depend on the models, `plan`, `execution` and the
    question's own bucket of prompt lengths, never on how many questions are there. Another batch,
    mesh or number of lanes, another kind of processor or number of threads, and another version of
    JAX may choose other products of matrices and so round otherwise. Then log-probabilities and
    scores differ in their last bits, and tokens where that tips a draw or a selection.

    Args:
      generator, verifier: the models; no verifier, no scores, and then no strategy that needs them.
      plan: strategy, N and limits.
      end_tokens: ids that end an answer.
      delimiter: ends steps.
      execution: B, mesh and the like.
      seed: of all draws.
      prefix: tokens that prompts share, such as worked examples: the generator reads them once
        for all questions, where they are as many as a bucket has. Questions whose prompts begin
        otherwise are read whole. A question is still charged for all of its prompt.
      adapter: of a verifier with a format of its own, or one of texts (`adapter_of`), which is then
        shown `run`'s `shown`.

    Raises:
      UserError: a budget that the strategy cannot work with, a strategy without the verifier it
        needs, a verifier of another vocabulary, or a mesh that does not divide the models, B or the
        lanes. Nothing has been compiled by then.
    """

    def __init__(
        self,
        generator: Transformer,
        verifier: Verifier | None,
        plan: Plan,
        *,
        end_tokens: Sequence[int],
        delimiter: Delimiter,
        execution: Execution = Execution(),
        seed: int = 0,
        prefix: Sequence[int] = (),
        adapter: Adapter | None = None,
    ):
        check_plan(plan, generator, verifier)
        execution.check()
        self.engine = Engine(
            generator,
            verifier,
            plan,
            end_tokens=end_tokens,
            delimiter=delimiter,
            execution=execution,
            prefix=prefix,
            adapter=adapter,
        )
        self.plan, self.execution, self.seed = plan, execution, seed
        self.adapter, self.delimiter = adapter, delimiter
        self.generator, self.verifier, self.work = generator.config, verifier, Work()
        self._cost = CostModel(generator.config, verifier, plan)

    @property
    def compilations(self) -> int:
        """How often the search was compiled: once for each bucket of prompt lengths."""
        return self.engine.compilations

    def ending_with(self, end_tokens: Sequence[int], adapter: Adapter | None = None) -> Search:
        """Returns a search with the same programs, for answers that end with other tokens."""
        other = copy.copy(self)
        other.engine, other.adapter = self.engine.ending_with(end_tokens, adapter), adapter
        return other

    def check(
        self, prompt: Sequence[int], shown: Sequence[int] | None = None, most: int | None = None
    ) -> None:
        """Refuses a prompt that is empty, of unknown tokens or too long; see `run`.

        Args:
          most: tokens of an answer, where the plan leaves that to the question.
        """
        most = self.plan.max_new_tokens if most is None else most
        if not prompt:
            raise UserError("a prompt is empty: prompt.template must give at least one token")
        check_tokens(prompt, self.generator.vocab_size, "a prompt")
        if shown is not None and self.engine.reads_prompt:
            assert self.verifier is not None
            check_tokens(shown, self.verifier.spec.vocab_size, "what the verifier is shown")
        longest = len(prompt) + self.plan.context + most
        answers = f"an answer of up to {most}"
        if self.plan.context:
            answers += f" with up to {self.plan.earlier} earlier ones before it"
        if longest > self.generator.context:
            alone = len(prompt) >= self.generator.context
            raise UserError(
                f"a prompt of {len(prompt)} tokens and {answers} do not fit the generator's "
                f"context of {self.generator.context} tokens; "
                + ("shorten the prompt" if alone else "lower sampling.max_new_tokens")
            )
        if self.verifier is None or not self.verifier.spec.max_context:
            return
        shown = prompt if shown is None else shown
        more = self.engine.layout.most_shown - self.plan.max_new_tokens
        longest = len(shown) + self.plan.context + most + more
        if longest > self.verifier.spec.max_context:
            what = "tokens more over the bridge" if self.engine.layout.bridged else "step markers"
            raise UserError(
                f"a prompt of {len(shown)} tokens, {answers} and {more} {what} do not "
                f"fit the verifier's context of {self.verifier.spec.max_context} tokens; lower "
                "sampling.max_new_tokens" + (" or search.rounds" if more else "")
            )

    def run(
        self,
        prompts: Sequence[Sequence[int]],
        question_ids: Sequence[int],
        shown: Sequence[Sequence[int]] | None = None,
        *,
        thinking: Thinking | None = None,
        seed: int | None = None,
        deadline: float | Deadline = math.inf,
    ) -> Iterator[tuple[int, SearchResult]]:
        """Searches for answers to all prompts.

        Args:
          prompts: token ids, of different lengths; those of one bucket are searched together.
          question_ids: uint32, which the draws of each question are keyed by.
          shown: what the verifier reads of each question (the adapter's `prompt`), where it is not
            what the generator reads.
          thinking: other budgets than the plan's own, with its marks and texts.
          seed: another one than the search's own; it compiles nothing anew.
          deadline: on the clock of `time.monotonic`, or a `Deadline`. Then questions that are
            searched end as they would at their limit of tokens, with `SearchResult.cut`, and those
            that have not begun are left out. It is looked at a few times a second while tokens are
            decoded.

        Yields:
          A prompt's index and its result, in the order in which they are done.

        Raises:
          UserError: as `check`, before the first is begun; or `Failed`.
        """
        for index, found in self.stream(
            prompts, question_ids, shown, thinking=thinking, seed=seed, deadline=deadline
        ):
            if isinstance(found, SearchResult):
                yield index, found

    def stream(
        self,
        prompts: Sequence[Sequence[int]],
        question_ids: Sequence[int],
        shown: Sequence[Sequence[int]] | None = None,
        *,
        thinking: Thinking | None = None,
        seed: int | None = None,
        deadline: float | Deadline = math.inf,
        drafts: bool = False,
    ) -> Iterator[tuple[int, SearchResult | Drafts]]:
        """Searches as `run`.

        Args:
          drafts: whether to yield, a few times a second, what a question's rows have written so
            far, until its result. In a search that selects, rows may still be replaced.
        """
        given = [None] * len(prompts) if shown is None else shown
        requests = [
            self.request(prompt, question_id, shown, thinking=thinking, seed=seed)
            for prompt, shown, question_id in zip(prompts, given, question_ids, strict=True)
        ]
        scheduler = Scheduler(self.engine, self.execution, self.work, deadline, drafts)
        for event in scheduler.run(requests):
            if isinstance(event, Written):
                yield event.index, event.drafts
            else:
                yield event.index, self.result(event, requests[event.index])

    def request(
        self,
        prompt: Sequence[int],
        question_id: int,
        shown: Sequence[int] | None = None,
        *,
        thinking: Thinking | None = None,
        seed: int | None = None,
        limits: Limits | None = None,
    ) -> Request:
        """Returns a question as the engine is asked it; see `run`.

        Args:
          limits: its own, which a plan with `own_limits` asks for.

        Raises:
          UserError: as `check`.
        """
        if self.verifier is not None and self.verifier.spec.format and self.adapter is None:
            raise UserError("verifier.path: a PRM with a format of its own needs a PRMAdapter")
        if self.engine.layout.reads_texts and self.adapter is None:
            raise UserError("verifier.path: a verifier of texts needs a TextAdapter")
        if (self.adapter is None) != (shown is None):
            raise ValueError("a Search with an adapter, and only that, is given what is shown")
        if self.plan.own_limits != (limits is not None):
            raise ValueError("a plan with own_limits, and only that, is given limits")
        most = self.plan.max_new_tokens if limits is None else limits.tokens
        if not 1 <= most <= self.plan.max_new_tokens:
            raise UserError(
                f"an answer of up to {most} tokens; it must be 1 to {self.plan.max_new_tokens}"
            )
        thought = (0, 0, 0)
        if (own := self.plan.thinking) is not None:
            thought = own.with_budgets_of(thinking, self.engine.ends, most).given(prompt)
        self.check(prompt, shown, most)
        shown = prompt if shown is None else shown
        seed = self.seed if seed is None else seed
        return Request(prompt, shown, question_id, seed, thought, limits, [])

    def lower(self, width: int) -> dict[str, jax.stages.Lowered]:
        """Returns the programs for prompts padded to `width` tokens (see `bucket`), to be compiled.

        "admit" reads one prompt a shard, "insert" puts these questions into slots, and "segment"
        searches until a slot is free. Nothing is computed: models may be outlines
        (`parameters.outline`), and the devices of the mesh need not be there.
        """
        return self.engine.lower(width)

    def state(self, width: int) -> SearchState:
        """Returns the B slots for prompts of `width` tokens, as shapes with their shardings."""
        return self.engine.state(width)

    def result(self, done: Done, request: Request) -> SearchResult:
        """Returns what was found for a question, with its cost.

        Raises:
          UserError: a strategy of one's own selected rows that there are not.
        """
        found, cut = done.found, done.cut
        plan, rounds = self.plan, int(found.rounds)
        trace = jax.tree.map(lambda x: x[:rounds], found.trace)
        if not ((trace.parents >= 0) & (trace.parents < plan.candidates)).all():
            raise UserError(
                f"search.strategy: {type(plan.strategy).__name__}.select returned rows beyond "
                f"0 to {plan.candidates - 1}"
            )
        check_shared(self.engine.layout.histories, trace, name_of(plan.strategy))
        answers = vars(found.answers)
        if plan.strategy.stops_at_steps:
            answers = {name: x.swapaxes(0, 1) for name, x in answers.items()}
        flat = {name: x.reshape(-1, *x.shape[2:]) for name, x in answers.items()}
        # Elsewhere PRMs are not taught to score questions.
        ledger = self._cost.ledger(trace, len(request.prompt), len(request.shown), cut=cut)
        scores_questions = self.engine.reads_prompt and self.adapter is None
        result = SearchResult(
            **flat,
            trace=trace,
            ledger=sum(request.costs or (), ledger),
            question_score=float(found.question_score) if scores_questions else None,
            sequential=plan.sequential,
            revisions=plan.revisions,
            cut=cut,
        )
        if plan.thinking is None:
            return result
        thoughts = [
            plan.thinking.thought_of(
                result.tokens[n, :length].tolist(),
                plan.between if result.is_revised(n) else request.prompt,
            )
            for n, length in enumerate(result.lengths.tolist())
        ]
        return result._replace(thoughts=tuple(thoughts))
