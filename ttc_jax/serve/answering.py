"""From an order to its answers: searches one after another, and the choice of an answer."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ttc_jax.compute.ledger import Ledger
from ttc_jax.llm.output import Completion, Piece
from ttc_jax.llm.reading import Unfolding, completion_of
from ttc_jax.policy import difficulty
from ttc_jax.sampling.log_probs import LogProbs
from ttc_jax.search.search import SearchResult
from ttc_jax.serve import voting
from ttc_jax.serve.asked import Asked
from ttc_jax.serve.errors import ApiError
from ttc_jax.serve.orders import Given, Order, Orders, Stage
from ttc_jax.serve.programs import PLAIN, Programs
from ttc_jax.serve.schema import ChatRequest, CompletionRequest
from ttc_jax.serve.service import POLICY, Service
from ttc_jax.serve.stopping import Rule, rule_of
from ttc_jax.serve.voting import Found
from ttc_jax.serve.worker import Worker

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Answer:
    """The answer to a prompt.

    Attributes:
      choices: completions that the client gets.
      ledger: what all of them cost, and those that it does not get.
      prompt_tokens: that the generator read.
      cut: whether a deadline came before the search was over.
      about: what `ttc` says of it.
    """

    choices: tuple[Completion, ...]
    ledger: Ledger
    prompt_tokens: int
    cut: bool
    about: dict[str, Any]


class Answering:
    """Answers requests with a worker's searches.

    Tokenizers, templates and graders work in one thread beside the event loop. In another one whole
    answers are read again for the log-probabilities of their tokens, where these are asked for.
    """

    def __init__(self, service: Service, programs: Programs, worker: Worker):
        self._service, self._programs, self._worker = service, programs, worker
        self._orders = Orders(service, programs)
        self._texts = ThreadPoolExecutor(1, thread_name_prefix="texts")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="log_probs")
        self._log_probs = LogProbs(service.models.generator, service.mesh)

    def close(self) -> None:
        """Ends the threads."""
        for threads in (self._texts, self._reader):
            threads.shutdown(wait=True, cancel_futures=True)

    async def order(self, asked: ChatRequest | CompletionRequest) -> Order:
        """Returns a request that has been checked; see `Orders.order`."""
        return await _in(self._texts, self._orders.order, asked, time.monotonic())

    async def answers(self, order: Order) -> list[Answer]:
        """Returns the answer to each prompt of a request.

        Raises:
          ApiError: the deadline came before a search began.
        """
        tasks = [asyncio.ensure_future(self._answer(order, i)) for i in range(len(order.given))]
        try:
            return [await task for task in tasks]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def stream(self, order: Order) -> AsyncIterator[Piece | Answer]:
        """Yields pieces of the completions of the one prompt, and then the answer.

        Of a search nothing is certain before its end: then comes the whole text.
        """
        [given], [stage] = order.given, order.first
        unfolding = Unfolding(
            self._service.models.tokenizer,
            given.tokens,
            order.stop,
            order.spending.choices,
            stage.search.plan.thinking,
        )
        if order.spending.strategy == PLAIN:
            asked = self._ask(order, stage, drafts=True)
            try:
                async for drafts in asked.drafts():
                    for piece in await _in(self._texts, lambda x: [*unfolding.pieces(x)], drafts):
                        yield piece
                answer = await self._drawn(order, given, await asked.result())
            finally:
                asked.left = True  # if the client leaves before
        else:
            answer = await self._answer(order, 0)
        for piece in unfolding.rest(answer.choices):
            yield piece
        yield answer

    async def _answer(self, order: Order, i: int) -> Answer:
        """Returns the answer to a prompt."""
        given, stage, strategy = order.given[i], order.first[i], order.spending.strategy
        if strategy == PLAIN:
            return await self._drawn(order, given, await self._ask(order, stage).result())
        found = [await self._found(order, given, stage)]
        about: dict[str, Any] = {"strategy": strategy, "budget": order.spending.generations}
        silent = 0
        if strategy == POLICY:
            more, silent = await self._follow(order, given, found)
            about |= more
        elif (rule := rule_of(self._service, order, stage)) is not None:
            about |= await self._while_more(order, given, found, rule)
        return await self._elected(order, given, [one for one in found if one], silent, about)

    async def _follow(
        self, order: Order, given: Given, found: list[Found | None]
    ) -> tuple[dict[str, Any], int]:
        """Spends a budget as the policy does, from samples that tell how hard the question is.

        Returns:
          What is told of it, and how many of the first searches do not vote: that of the samples,
          unless the strategy draws as they are drawn.
        """
        fitted, [samples] = self._service.fitted, found
        assert fitted is not None
        if samples is None or samples.result.cut:
            return {"difficulty": None}, 0
        easiness = difficulty.predicted([samples.record], self._service.aggregation)
        [easy] = easiness.values()
        name, budget = fitted.strategy(easy, order.spending.generations)
        kind, reuses = self._programs.followed(name, budget, order.limits.tokens)
        if kind is not None:
            stage = await _in(self._texts, self._orders.stage, order, given, kind, 1)
            found.append(await self._found(order, given, stage))
        place = fitted.policy.bin_of(easy) + 1
        about = {"difficulty": easy, "bin": place, "strategy": name, "budget": budget}
        return about, 0 if reuses else 1

    async def _while_more(
        self, order: Order, given: Given, found: list[Found | None], rule: Rule
    ) -> dict[str, Any]:
        """Draws candidates a few at a time until a rule says that there are enough."""
        about = dict[str, Any]()
        while (last := found[-1]) is not None and not last.result.cut:
            more, about = await _in(self._texts, rule, [one for one in found if one])
            if not more:
                break
            kind = order.first[0].kind._replace(generations=more)
            stage = await _in(self._texts, self._orders.stage, order, given, kind, len(found))
            found.append(await self._found(order, given, stage))
        return about

    async def _found(self, order: Order, given: Given, stage: Stage) -> Found | None:
        """Returns what a search finds; None where the deadline came before it began."""
        result = await self._ask(order, stage).result()
        if result is None:
            return None
        names = stage.kind.strategy or order.spending.strategy
        arguments = self._service, stage.search, names, given.tokens, given.question, result
        return await _in(self._texts, voting.found_of, *arguments)

    async def _elected(
        self, order: Order, given: Given, found: list[Found], silent: int, about: dict[str, Any]
    ) -> Answer:
        """Returns the answer that the candidates elect.

        Args:
          silent: searches, the first ones, that do not vote if there are others.
        """
        if not found:
            raise _too_late()
        voters = found[silent:] or found
        vote = await _in(self._texts, voting.elected, voters, self._service)
        result = voters[vote.search].result
        choice = await self._completion(order, given, result, vote.row)
        about = {
            **about,
            "answer": vote.answer,
            "alternatives": voting.told(vote.alternatives),
            "trace": voting.trace(voters),
        }
        ledger = sum((one.result.ledger for one in found), Ledger())
        cut = any(one.result.cut for one in found)
        return Answer((choice,), ledger, len(found) * len(given.tokens), cut, about)

    async def _drawn(self, order: Order, given: Given, result: SearchResult | None) -> Answer:
        """Returns all completions, of which none is chosen."""
        if result is None:
            raise _too_late()
        choices = [
            await self._completion(order, given, result, i) for i in range(len(result.lengths))
        ]
        return Answer(tuple(choices), result.ledger, len(given.tokens), result.cut, {})

    async def _completion(
        self, order: Order, given: Given, found: SearchResult, i: int
    ) -> Completion:
        tokenizer, most = self._service.models.tokenizer, order.limits.tokens
        completion = await _in(self._texts, completion_of, found, i, tokenizer, order.stop, most)
        if order.log_probs is None:
            return completion
        [told] = await _in(
            self._reader,
            self._log_probs.with_top,
            given.tokens,
            [completion.token_ids],
            order.log_probs,
        )
        return dataclasses.replace(
            completion,
            log_probs=tuple(told.log_probs),
            top_log_probs=tuple(told.top),
        )

    def _ask(self, order: Order, stage: Stage, *, drafts: bool = False) -> Asked:
        asked = Asked(stage.search, stage.request, order.deadline, drafts)
        self._worker.ask(asked)
        return asked


def _too_late() -> ApiError:
    return ApiError(
        504, "the deadline came before the search began; try again", "deadline_s", "deadline"
    )


async def _in(threads: ThreadPoolExecutor, work: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(threads, work, *arguments)
