"""The completer: from prompts to what the model writes behind them."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from jax.sharding import Mesh

from ttc_jax import hashing
from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.experiments.setup import Models, fitting
from ttc_jax.llm.output import Completion, Output, Piece
from ttc_jax.llm.prompts import Prompt, encode, question_text
from ttc_jax.llm.reading import Unfolding, completion_of
from ttc_jax.models.delimiters import Delimiter
from ttc_jax.models.limits import printable
from ttc_jax.sampling.draw import SamplingParams
from ttc_jax.sampling.log_probs import LogProbs
from ttc_jax.sampling.programs import shards
from ttc_jax.sampling.thinking import Thinking, ThinkingFormat
from ttc_jax.search.deadline import Deadline
from ttc_jax.search.execution import Execution
from ttc_jax.search.plan import Plan
from ttc_jax.search.search import Search, SearchResult
from ttc_jax.search.strategies import make_strategy
from ttc_jax.verifiers.adapters import adapter_of


@dataclasses.dataclass(frozen=True)
class Drawing:
    """The arguments that completions are drawn with; see `LLM.generate`."""

    n: int = 1
    max_tokens: int = 256
    sampling: SamplingParams = SamplingParams()
    stop: tuple[str, ...] = ()
    log_probs: bool = False
    thinking: ThinkingFormat | None = None
    seed: int = 0

    @classmethod
    def of(
        cls, *, sampling: SamplingParams | None, stop: str | Sequence[str] | None, **others: Any
    ) -> Drawing:
        """Returns the arguments of a call.

        Raises:
          UserError: a stop text that is none, or empty.
        """
        stops = (stop,) if isinstance(stop, str) else () if stop is None else stop
        if not isinstance(stops, Iterable) or not all(isinstance(text, str) for text in stops):
            shown = printable(repr(stop), 80)
            raise UserError(f"stop is {shown}; it must be a text or a list of texts")
        stops = tuple(map(str, stops))
        if "" in stops:
            raise UserError("stop holds an empty text, which every completion would end with")
        return cls(sampling=sampling or SamplingParams(), stop=stops, **others)


class Completer:
    """Draws completions of prompts.

    Args:
      delimiter: text that ends a step.
      rows: candidates that are decoded together.
    """

    def __init__(self, models: Models, *, delimiter: str, rows: int, mesh: Mesh | None):
        self._models, self._delimiter, self._rows, self._mesh = models, delimiter, rows, mesh
        self._searches = functools.lru_cache(maxsize=16)(self._make_search)

    def complete(
        self, prompts: Sequence[Prompt], drawing: Drawing, deadline: Deadline
    ) -> list[Output]:
        """Returns an output of each prompt; see `LLM.generate`."""
        encoded = [self._encode(prompt) for prompt in prompts]
        seen: Counter[tuple[int, ...]] = Counter()
        numbers = []
        for tokens in encoded:
            numbers.append(number_of(tokens, drawing.seed, seen[tuple(tokens)]))
            seen[tuple(tokens)] += 1
        search = self._search(drawing)
        shown = self._shown(search, prompts)
        found = dict(
            search.run(
                encoded, numbers, shown, thinking=_budgets(search, drawing), deadline=deadline
            )
        )
        return [self._output(encoded[i], found.get(i), drawing) for i in range(len(encoded))]

    def stream(self, prompt: Prompt, drawing: Drawing, deadline: Deadline) -> Iterator[Piece]:
        """Yields the texts of a prompt's completions as they settle, and then the output."""
        tokens, search, result = self._encode(prompt), self._search(drawing), None
        unfolding = Unfolding(
            self._models.tokenizer, tokens, drawing.stop, drawing.n, search.plan.thinking
        )
        events = search.stream(
            [tokens],
            [number_of(tokens, drawing.seed)],
            self._shown(search, [prompt]),
            thinking=_budgets(search, drawing),
            deadline=deadline,
            drafts=True,
        )
        for _, found in events:
            if isinstance(found, SearchResult):
                result = found
            else:
                yield from unfolding.pieces(found)
        output = self._output(tokens, result, drawing)
        yield from unfolding.rest(output.completions)
        yield Piece("", output=output)

    def _encode(self, prompt: Prompt) -> list[int]:
        return encode(prompt, self._models.tokenizer)

    def _shown(self, search: Search, prompts: Sequence[Prompt]) -> list[list[int]] | None:
        """Returns what the verifier is shown of the prompts, where that is not what they are."""
        if search.adapter is None:
            return None
        tokenizer = self._models.tokenizer
        return [search.adapter.prompt(question_text(prompt, tokenizer)) for prompt in prompts]

    def _search(self, drawing: Drawing) -> Search:
        marks = drawing.thinking
        if marks is not None:  # budgets are no part of what is compiled
            marks = marks.without_budgets()
        return self._searches(drawing.n, drawing.max_tokens, drawing.sampling, drawing.stop, marks)

    def _make_search(
        self,
        n: int,
        max_tokens: int,
        sampling: SamplingParams,
        stop: tuple[str, ...],
        marks: ThinkingFormat | None,
    ) -> Search:
        generator, tokenizer, verifier, _ = self._models
        ends = set(tokenizer.eos_ids)
        for text in stop:
            ends |= set(tokenizer.containing(text).nonzero()[0].tolist())
        plan = Plan(
            make_strategy("best_of_n"),
            n,
            max_tokens,
            max_tokens,
            sampling=sampling,
            thinking=marks and marks.tokens(tokenizer),
        )
        batch = fitting(self._rows, max(n, 1), shards(self._mesh))
        return Search(
            generator,
            verifier,
            plan,
            end_tokens=sorted(ends),
            delimiter=Delimiter.of(tokenizer, self._delimiter),
            execution=Execution(batch, mesh=self._mesh),
            adapter=adapter_of(
                verifier,
                tokenizer,
                self._delimiter,
                stop,
                generator=generator,
                batch=n,
                mesh=self._mesh,
            ),
        )

    def _output(self, prompt: list[int], found: SearchResult | None, drawing: Drawing) -> Output:
        """Returns the output of a prompt; None: the deadline came before it was begun."""
        if found is None:
            nothing = Completion("", (), 0.0, () if drawing.log_probs else None, "deadline", ())
            return Output(tuple(prompt), (nothing,) * drawing.n, Ledger())
        rows = [found.tokens[i, :length].tolist() for i, length in enumerate(found.lengths)]
        log_probs: list[Any] = [None] * len(rows)
        if drawing.log_probs:
            log_probs = self._log_probs.of(prompt, rows)
        tokenizer, most = self._models.tokenizer, drawing.max_tokens
        completions = tuple(
            completion_of(found, i, tokenizer, drawing.stop, most, log_probs[i])
            for i in range(len(rows))
        )
        return Output(tuple(prompt), completions, found.ledger)

    @functools.cached_property
    def _log_probs(self) -> LogProbs:
        return LogProbs(self._models.generator, self._mesh)


def _budgets(search: Search, drawing: Drawing) -> Thinking | None:
    """Returns the search's marks and texts with the budgets that are asked for."""
    own, asked = search.plan.thinking, drawing.thinking
    if own is None or asked is None:
        return None
    return asked.budgets_of(own)


def number_of(tokens: Sequence[int], seed: int, earlier: int = 0) -> int:
    """Returns the number that a prompt's draws are keyed by.

    Args:
      earlier: how often the same prompt stands before it in the call.
    """
    return hashing.number_of(" ".join(map(str, (seed, earlier, *tokens))))
