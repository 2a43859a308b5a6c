"""The setup of a run: the models, prompts and limits with which any strategy can be searched."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import NamedTuple

from ttc_jax.errors import UserError
from ttc_jax.experiments.recorder import Recorder
from ttc_jax.experiments.selector import Selector
from ttc_jax.experiments.spending import no_marks, shape
from ttc_jax.models.delimiters import Delimiter
from ttc_jax.models.tokenizers import Tokenizer
from ttc_jax.models.transformer import Transformer
from ttc_jax.policy_file import Entry
from ttc_jax.sampling.draw import SamplingParams
from ttc_jax.sampling.thinking import ThinkingFormat
from ttc_jax.search.execution import Execution
from ttc_jax.search.plan import Plan
from ttc_jax.search.search import Search
from ttc_jax.search.strategies import make_strategy
from ttc_jax.tasks.prompts import PromptFormat
from ttc_jax.tasks.task import Task
from ttc_jax.verifiers.adapter import PRMAdapter
from ttc_jax.verifiers.adapters import adapter_of
from ttc_jax.verifiers.judge import JudgeModel
from ttc_jax.verifiers.verifier import Verifier

_log = logging.getLogger(__name__)


class Models(NamedTuple):
    """A generator with its tokenizer, and what scores and judges its answers, if anything does."""

    generator: Transformer
    tokenizer: Tokenizer
    verifier: Verifier | None = None
    judge: JudgeModel | None = None  # which chooses from the candidates


@dataclasses.dataclass(frozen=True)
class Setup:
    """The models, prompts and limits that searches of one run share, whatever their strategy.

    Attributes:
      models: gives the models of a strategy, which may name its own. It is called for every search,
        so it should load each model once.
      task: whose rules read and grade answers.
      prompt: how a question becomes a prompt.
      step_delimiter: text that ends a step.
      max_new_tokens, max_step_tokens, rounds, sampling: as those of `Plan`.
      rows: candidates decoded together, over all questions of a batch.
      execution: mesh and the like; its `batch` follows from `rows`.
      seed: of all draws.
      score_threshold: as that of `Plan`, for strategies that select between steps; others, which a
        policy may choose, do without.
      thinking: marks and budgets of a model that thinks; a strategy may have its own maximum.
    """

    models: Callable[[Entry], Models]
    task: Task
    prompt: PromptFormat = PromptFormat()
    step_delimiter: str = "\n"
    max_new_tokens: int = 512
    max_step_tokens: int = 128
    rounds: int = 40
    sampling: SamplingParams = SamplingParams()
    rows: int = 64
    execution: Execution = Execution()
    seed: int = 0
    score_threshold: float | None = None
    thinking: ThinkingFormat | None = None

    def recorder(self, name: str, entry: Entry, generations: int, seed: int) -> Recorder:
        """Returns the search of a strategy that spends so many generations on each question.

        Args:
          name: what its records call it.

        Raises:
          UserError: the strategy cannot spend them exactly, or as `Search`.
        """
        strategy = make_strategy(entry.strategy, **entry.options)
        found = shape(strategy, generations, entry.lookahead, entry.ratio)
        if found is None:
            larger = range(generations + 1, 4 * generations + 64)
            fits = (n for n in larger if shape(strategy, n, entry.lookahead, entry.ratio))
            way = f"; it can spend {next(fits, 'none near it')}"
            raise UserError(f"budget {generations}: {name} cannot spend it exactly{way}")
        candidates, revisions = found
        plan = Plan(
            strategy,
            candidates,
            self.max_new_tokens,
            self.max_step_tokens,
            self.rounds,
            entry.lookahead,
            self.sampling,
            revisions,
            score_threshold=self.score_threshold if strategy.stops_at_steps else None,
        )
        return make_recorder(
            self.models(entry),
            self.task,
            plan,
            prompt=self.prompt,
            step_delimiter=self.step_delimiter,
            execution=dataclasses.replace(
                self.execution, batch=fitting(self.rows, candidates, self.execution.shards)
            ),
            seed=seed,
            name=name,
            thinking=with_maximum(self.thinking, entry),
        )


def make_recorder(
    models: Models,
    task: Task,
    plan: Plan,
    *,
    prompt: PromptFormat = PromptFormat(),
    step_delimiter: str = "\n",
    execution: Execution = Execution(),
    seed: int = 0,
    name: str = "",
    thinking: ThinkingFormat | None = None,
) -> Recorder:
    """Returns a search over questions as text, whose answers are graded.

    Args:
      plan: `between` is filled with what the prompt format puts between answers, and `thinking`
        with the tokens of `thinking`, if that is given.
      name: what records call the search; "": the name of its strategy.

    Raises:
      UserError: as `Search`, or a prompt format that the tokenizer cannot write.
    """
    generator, tokenizer, verifier, judge = models
    mesh, selector = execution.mesh, None
    adapter = adapter_of(
        verifier, tokenizer, step_delimiter, generator=generator, batch=plan.candidates, mesh=mesh
    )
    if judge is not None:
        batch = max(execution.batch, judge.form.samples)
        asked = judge.beside(generator, tokenizer, batch=batch, mesh=mesh)
        selector = Selector(asked, task, tokenizer)
    if isinstance(adapter, PRMAdapter):
        way = "over the host: its tokenizer is another" if adapter.bridged else "in XLA"
        _log.info("the verifier reads what the generator writes %s", way)
    plan = dataclasses.replace(
        plan,
        between=tuple(prompt.between(tokenizer)),
        thinking=thinking.tokens(tokenizer) if thinking else plan.thinking,
    )
    search = Search(
        generator,
        verifier,
        plan,
        end_tokens=prompt.ends(tokenizer),
        delimiter=Delimiter.of(tokenizer, step_delimiter),
        execution=execution,
        seed=seed,
        prefix=prompt.front(tokenizer),
        adapter=adapter,
    )
    return Recorder(task, tokenizer, prompt, search, strategy=name, seed=seed, selector=selector)


def with_maximum(thinking: ThinkingFormat | None, entry: Entry) -> ThinkingFormat | None:
    """Returns the marks and budgets of a strategy, which may have a maximum of its own.

    Raises:
      UserError: it has one, and the model does not think.
    """
    if entry.thinking < 0:
        return thinking
    if thinking is None:
        raise no_marks(entry)
    return dataclasses.replace(thinking, maximum=entry.thinking)


def fitting(rows: int, candidates: int, shards: int) -> int:
    """Returns how many questions of so many candidates fit into rows, and one a shard at least.

    Every shard gets as many.
    """
    return shards * max(1, rows // (candidates * shards))
