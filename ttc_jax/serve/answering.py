"""From a request to its answers: prompts, programs, the search, and the choice of an answer."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.experiments.recorder import Prompted, Recorder
from ttc_jax.experiments.solution import elect
from ttc_jax.llm.completer import number_of
from ttc_jax.llm.output import Completion, Piece
from ttc_jax.llm.reading import Unfolding, completion_of
from ttc_jax.models.vocabulary import check_tokens
from ttc_jax.results.store import Candidate
from ttc_jax.sampling.draw import SamplingParams
from ttc_jax.sampling.log_probs import LogProbs
from ttc_jax.search.request import Limits, Request
from ttc_jax.search.search import Search, SearchResult
from ttc_jax.serve.asked import Asked
from ttc_jax.serve.errors import ApiError, as_api_error
from ttc_jax.serve.names import Spending, spending_of
from ttc_jax.serve.programs import PLAIN, Programs
from ttc_jax.serve.schema import ChatRequest, CompletionRequest
from ttc_jax.serve.service import Service
from ttc_jax.serve.worker import Worker
from ttc_jax.tasks.prompts import PromptFormat
from ttc_jax.tasks.task import Question

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Given:
    """A prompt of a request, as the models read it.

    Attributes:
      question: its text, for a verifier that reads texts and for the task.
      number: what its draws are keyed by.
    """

    tokens: list[int]
    question: str
    number: int


@dataclasses.dataclass(frozen=True)
class Order:
    """A request that has been checked.

    Attributes:
      requests: of the prompts, as the engine is asked them.
      deadline: on the clock of `time.monotonic`.
    """

    given: tuple[Given, ...]
    requests: tuple[Request, ...]
    spending: Spending
    limits: Limits
    stop: tuple[str, ...]
    seed: int
    deadline: float
    log_probs: bool
    search: Search


@dataclasses.dataclass(frozen=True)
class Answer:
    """What became of a prompt.

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
        self._texts = ThreadPoolExecutor(1, thread_name_prefix="texts")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="log_probs")
        self._log_probs = LogProbs(service.models.generator, service.mesh)

    def close(self) -> None:
        """Ends the threads."""
        for threads in (self._texts, self._reader):
            threads.shutdown(wait=True, cancel_futures=True)

    async def order(self, asked: ChatRequest | CompletionRequest) -> Order:
        """Returns a request that has been checked.

        Raises:
          ApiError: it cannot be answered; names the field.
        """
        return await _in(self._texts, self._order, asked, time.monotonic())

    async def answers(self, order: Order) -> list[Answer]:
        """Returns the answer to each prompt of a request."""
        asked = [self._ask(order, i, drafts=False) for i in range(len(order.given))]
        try:
            found = [await one.result() for one in asked]
        finally:
            for one in asked:
                one.left = True  # if this is cancelled while the first is waited for
        return [
            await self._answer(order, given, one)
            for given, one in zip(order.given, found, strict=True)
        ]

    async def stream(self, order: Order) -> AsyncIterator[Piece | Answer]:
        """Yields pieces of the completions of the one prompt, and then the answer.

        Of a search nothing is certain before its end: then comes the whole text.
        """
        [given], tokenizer = order.given, self._service.models.tokenizer
        asked = self._ask(order, 0, drafts=order.spending.strategy == PLAIN)
        unfolding = Unfolding(
            tokenizer,
            given.tokens,
            order.stop,
            order.spending.choices,
            order.search.plan.thinking,
        )
        try:
            async for drafts in asked.drafts():
                for piece in await _in(self._texts, lambda x: [*unfolding.pieces(x)], drafts):
                    yield piece
            found = await asked.result()
        finally:
            asked.left = True  # if the client leaves before
        answer = await self._answer(order, given, found)
        for piece in unfolding.rest(answer.choices):
            yield piece
        yield answer

    def _ask(self, order: Order, i: int, *, drafts: bool) -> Asked:
        one = Asked(order.search, order.requests[i], order.deadline, drafts)
        self._worker.ask(one)
        return one

    def _request(self, search: Search, given: Given, limits: Limits) -> Request:
        """Returns a prompt as the engine is asked it."""
        shown = search.adapter.prompt(given.question) if search.adapter is not None else None
        thinking, budgets = search.plan.thinking, self._service.thinking
        if thinking is not None and budgets is not None:
            thinking = dataclasses.replace(
                thinking, minimum=budgets.minimum, maximum=budgets.maximum
            )
        return search.request(given.tokens, given.number, shown, thinking=thinking, limits=limits)

    def _order(self, asked: ChatRequest | CompletionRequest, now: float) -> Order:
        service, bounds = self._service, self._service.bounds
        spending = spending_of(asked, service)
        limits = self._limits(asked)
        seed = secrets.randbits(32) if asked.seed is None else asked.seed
        given = self._given(asked, seed)
        for one in given:
            if len(one.tokens) > bounds.prompt_tokens:
                raise ApiError(
                    400,
                    f"the prompt has {len(one.tokens)} tokens; this server reads up to "
                    f"{bounds.prompt_tokens}",
                    _prompt_of(asked),
                    "context_length_exceeded",
                )
        kind = self._programs.kind(spending.strategy, spending.generations, limits.tokens)
        search = self._programs.search(kind, asked.stops)
        with as_api_error(_prompt_of(asked)):
            requests = tuple(self._request(search, one, limits) for one in given)
        return Order(
            given=tuple(given),
            requests=requests,
            spending=spending,
            limits=limits,
            stop=asked.stops,
            seed=seed,
            deadline=now + min(asked.deadline_s or bounds.seconds, bounds.seconds),
            log_probs=asked.wants_log_probs,
            search=search,
        )

    def _limits(self, asked: ChatRequest | CompletionRequest) -> Limits:
        """Returns the sampling parameters and the limit of tokens of a request."""
        service = self._service
        most = service.bounds.answer_tokens[-1]
        tokens = service.max_tokens if asked.limit is None else asked.limit
        if tokens > most:
            raise ApiError(
                400,
                f"max_tokens: {tokens} is more than the {most} that this server writes",
                "max_tokens",
            )
        own, top_k = service.sampling, asked.top_k
        return Limits(
            tokens,
            SamplingParams(
                own.temperature if asked.temperature is None else asked.temperature,
                own.top_k if top_k is None else max(top_k, 0),  # -1: off, as elsewhere
                own.top_p if asked.top_p is None else asked.top_p,
            ),
        )

    def _given(self, asked: ChatRequest | CompletionRequest, seed: int) -> list[Given]:
        """Returns the prompts of a request in tokens."""
        tokenizer, V = self._service.models.tokenizer, self._service.models.generator.config
        if isinstance(asked, ChatRequest):
            with as_api_error("messages"):
                tokens, question = self._chat([message.turn() for message in asked.messages])
            return [Given(tokens, question, number_of(tokens, seed))]
        if len(asked.prompts) > self._service.bounds.prompts:
            raise ApiError(400, f"prompt: at most {self._service.bounds.prompts} prompts", "prompt")
        found, seen = list[Given](), list[list[int]]()
        for prompt in asked.prompts:
            with as_api_error("prompt"):
                if isinstance(prompt, str):
                    tokens, question = tokenizer.encode(prompt, add_bos=True), prompt
                else:
                    check_tokens(prompt, V.vocab_size, "a prompt")
                    tokens, question = prompt, tokenizer.decode(prompt)
            found.append(Given(tokens, question, number_of(tokens, seed, seen.count(tokens))))
            seen.append(tokens)
        return found

    def _chat(self, turns: list[dict[str, str]]) -> tuple[list[int], str]:
        """Returns the prompt of a conversation, and the question: the last turn of its user."""
        tokenizer, own = self._service.models.tokenizer, self._service.prompt
        users = [turn for turn in turns if turn["role"] == "user"]
        question = (users or turns)[-1]["content"]
        if users:
            users[-1]["content"] = own.template.replace("{question}", question)
        if own.chat:
            if own.system and turns[0]["role"] != "system":
                turns.insert(0, {"role": "system", "content": own.system})
            arguments = own.arguments
            return tokenizer.chat(
                turns, **({"arguments": arguments} if arguments else {})
            ), question
        if len(turns) > 1 or not users:
            raise UserError(
                "this model knows no conversations; send one message of the user, or a prompt to "
                "/v1/completions"
            )
        return own.encode(question, tokenizer), question

    async def _answer(self, order: Order, given: Given, found: SearchResult | None) -> Answer:
        """Returns the answer to a prompt, from what its search found."""
        if found is None:
            raise ApiError(
                504,
                "the deadline came before the search began; try again",
                "deadline_s",
                "deadline",
            )
        chosen, about = range(len(found.lengths)), dict[str, Any]()
        if order.spending.strategy != PLAIN:
            best, about = await _in(self._texts, self._elected, order, given, found)
            chosen = [best]
        tokenizer, most = self._service.models.tokenizer, order.limits.tokens
        choices = []
        for i in chosen:
            log_probs = None
            if order.log_probs:
                tokens = found.tokens[i, : found.lengths[i]].tolist()
                [log_probs] = await _in(self._reader, self._log_probs.of, given.tokens, [tokens])
            arguments = found, i, tokenizer, order.stop, most, log_probs
            choices.append(await _in(self._texts, completion_of, *arguments))
        return Answer(tuple(choices), found.ledger, len(given.tokens), found.cut, about)

    def _elected(
        self, order: Order, given: Given, found: SearchResult
    ) -> tuple[int, dict[str, Any]]:
        """Returns the candidate whose answer is elected, and what is told of the others."""
        service = self._service
        recorder = Recorder(
            service.task,
            service.models.tokenizer,
            PromptFormat(),
            order.search,
            strategy=order.spending.strategy,
        )
        question = Question("question", given.question, "")
        record = recorder.record(Prompted(question, given.tokens), found)
        best, alternatives = elect(record.candidates, service.rule, service.aggregation)
        about = {
            "strategy": order.spending.strategy,
            "budget": order.spending.generations,
            "answer": best.answer,
            "alternatives": [dataclasses.asdict(one) for one in alternatives],
            "trace": [_trace(one) for one in record.candidates],
        }
        return next(i for i, one in enumerate(record.candidates) if one is best), about


async def _in(threads: ThreadPoolExecutor, work: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(threads, work, *arguments)


def _trace(candidate: Candidate) -> dict[str, Any]:
    """Returns what is told of a candidate."""
    return {
        "text": candidate.text,
        "answer": candidate.answer,
        "finished": candidate.finished,
        "log_prob": candidate.log_prob,
        "step_scores": candidate.step_scores,
    }


def _prompt_of(asked: ChatRequest | CompletionRequest) -> str:
    return "messages" if isinstance(asked, ChatRequest) else "prompt"
