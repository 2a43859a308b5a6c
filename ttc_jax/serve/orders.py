"""The orders: requests that have been checked, with their prompts in tokens."""

from __future__ import annotations

import dataclasses
import secrets
from typing import NamedTuple

from ttc_jax.errors import UserError
from ttc_jax.llm.completer import number_of
from ttc_jax.models.vocabulary import check_tokens
from ttc_jax.sampling.draw import SamplingParams
from ttc_jax.search.request import Limits, Request
from ttc_jax.search.search import Search
from ttc_jax.serve.errors import ApiError, as_api_error
from ttc_jax.serve.names import Spending, spending_of
from ttc_jax.serve.programs import Kind, Programs
from ttc_jax.serve.schema import ChatRequest, CompletionRequest
from ttc_jax.serve.service import Service


@dataclasses.dataclass(frozen=True)
class Given:
    """A prompt of a request, as the models read it.

    Attributes:
      question: its text, for a verifier that reads texts and for the task.
      earlier: how often the same prompt stands before it in the request.
    """

    tokens: list[int]
    question: str
    earlier: int = 0


class Stage(NamedTuple):
    """A search for a prompt, of which an answer may take several, one after the other."""

    kind: Kind
    search: Search
    request: Request


@dataclasses.dataclass(frozen=True)
class Order:
    """A request that has been checked.

    Attributes:
      confidence: at which the vote is settled; None: all of the budget is spent.
      deadline: on the clock of `time.monotonic`.
      log_probs: how many of the likeliest tokens are told beside each drawn one; None: not even
        the drawn one's log-probability is.
      first: what is asked of each prompt first.
    """

    given: tuple[Given, ...]
    spending: Spending
    limits: Limits
    stop: tuple[str, ...]
    seed: int
    confidence: float | None
    deadline: float
    log_probs: int | None
    first: tuple[Stage, ...]


class Orders:
    """Checks requests, and writes their prompts in tokens."""

    def __init__(self, service: Service, programs: Programs):
        self._service, self._programs = service, programs

    def order(self, asked: ChatRequest | CompletionRequest, now: float) -> Order:
        """Returns a request that has been checked.

        Args:
          now: when it came, on the clock of `time.monotonic`.

        Raises:
          ApiError: it cannot be answered; names the field.
        """
        spending, bounds = spending_of(asked, self._service), self._service.bounds
        seed = secrets.randbits(32) if asked.seed is None else asked.seed
        given, param = self._given(asked), _prompt_of(asked)
        limits = self._limits(asked, max(len(one.tokens) for one in given), param)
        order = Order(
            given=tuple(given),
            spending=spending,
            limits=limits,
            stop=asked.stops,
            seed=seed,
            confidence=asked.confidence,
            deadline=now + min(asked.deadline_s or bounds.seconds, bounds.seconds),
            log_probs=asked.log_probs,
            first=(),
        )
        with as_api_error(param):
            kind = self._programs.first(spending, limits.tokens, asked.confidence is not None)
            stages = tuple(self.stage(order, one, kind, 0) for one in given)
        return dataclasses.replace(order, first=stages)

    def stage(self, order: Order, given: Given, kind: Kind, number: int) -> Stage:
        """Returns a search for a prompt.

        Args:
          number: of the stage; each has draws of its own.

        Raises:
          UserError: as `Search.request`.
        """
        search = self._programs.search(kind, order.stop)
        shown = search.adapter.prompt(given.question) if search.adapter is not None else None
        thinking, budgets = search.plan.thinking, self._service.thinking
        if thinking is not None and budgets is not None:
            thinking = budgets.budgets_of(thinking)
        key = number_of(given.tokens, order.seed, given.earlier + (number << 20))
        request = search.request(given.tokens, key, shown, thinking=thinking, limits=order.limits)
        return Stage(kind, search, request)

    def _limits(self, asked: ChatRequest | CompletionRequest, prompt: int, param: str) -> Limits:
        """Returns the sampling parameters and the limit of tokens of a request.

        Args:
          prompt: tokens of the longest one.
          param: the field that it is in.
        """
        service, bounds = self._service, self._service.bounds
        most, context = bounds.answer_tokens[-1], service.models.generator.config.context
        if prompt > bounds.prompt_tokens:
            raise ApiError(
                400,
                f"the prompt has {prompt} tokens; this server reads up to {bounds.prompt_tokens}",
                param,
                "context_length_exceeded",
            )
        tokens = min(service.max_tokens, max(context - prompt, 1))
        if asked.limit is not None:
            tokens = asked.limit
        if tokens > most:
            raise ApiError(
                400,
                f"max_tokens: {tokens} is more than the {most} that this server writes",
                "max_tokens",
            )
        if prompt + tokens > context:
            raise ApiError(
                400,
                f"a prompt of {prompt} tokens and an answer of up to {tokens} do not fit the "
                f"model's context of {context}; shorten the prompt, or lower max_tokens",
                param,
                "context_length_exceeded",
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

    def _given(self, asked: ChatRequest | CompletionRequest) -> list[Given]:
        """Returns the prompts of a request in tokens."""
        tokenizer, V = self._service.models.tokenizer, self._service.models.generator.config
        if isinstance(asked, ChatRequest):
            with as_api_error("messages"):
                tokens, question = self._chat([message.turn() for message in asked.messages])
            return [_checked(Given(tokens, question), "messages")]
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
            found.append(_checked(Given(tokens, question, seen.count(tokens)), "prompt"))
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


def _checked(given: Given, param: str) -> Given:
    if not given.tokens:
        raise ApiError(400, f"{param}: is empty", param)
    return given


def _prompt_of(asked: ChatRequest | CompletionRequest) -> str:
    return "messages" if isinstance(asked, ChatRequest) else "prompt"
