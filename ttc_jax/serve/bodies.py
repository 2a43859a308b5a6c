"""The answers as OpenAI's clients read them: whole ones, and the chunks of a stream."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from ttc_jax.compute.ledger import Ledger
from ttc_jax.llm.output import Completion
from ttc_jax.models.tokenizers import Tokenizer
from ttc_jax.serve.answering import Answer
from ttc_jax.serve.errors import ApiError
from ttc_jax.serve.orders import Order
from ttc_jax.serve.schema import ChatRequest, CompletionRequest

DONE = b"data: [DONE]\n\n"


class Bodies:
    """Writes the answers to one request.

    Args:
      name: of the model, where the client gave none.
    """

    def __init__(
        self,
        asked: ChatRequest | CompletionRequest,
        order: Order,
        tokenizer: Tokenizer,
        name: str,
    ):
        self._asked, self._order, self._tokenizer = asked, order, tokenizer
        self._chat = isinstance(asked, ChatRequest)
        self._head = {
            "id": f"{'chatcmpl' if self._chat else 'cmpl'}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": asked.model or name,
        }

    def whole(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """Returns the answer to all prompts."""
        completions = [choice for answer in answers for choice in answer.choices]
        return {
            **self._head,
            "object": "chat.completion" if self._chat else "text_completion",
            "choices": [self._choice(i, one) for i, one in enumerate(completions)],
            "usage": usage(answers),
            "ttc": self._about(answers),
        }

    def begin(self, index: int) -> bytes:
        """Returns the first chunk of a choice."""
        return self._chunk([self._delta(index, {"role": "assistant", "content": ""}, "")])

    def piece(self, index: int, text: str) -> bytes:
        """Returns a chunk with more of a choice's text."""
        return self._chunk([self._delta(index, {"content": text}, text)])

    def end(self, answer: Answer) -> Iterator[bytes]:
        """Yields the last chunk of each choice, and what the answer cost.

        That is with the last choice: clients read no chunk without choices that they have not asked
        for, as they do the one of `stream_options.include_usage`.
        """
        last = len(answer.choices) - 1
        for index, completion in enumerate(answer.choices):
            delta: dict[str, Any] = {}
            if self._chat and completion.reasoning:
                delta["reasoning_content"] = completion.reasoning
            choice = self._delta(index, delta, "")
            choice["finish_reason"] = finish_reason(completion)
            choice["logprobs"] = self._log_probs(completion)
            yield self._chunk([choice], {"ttc": self._about([answer])} if index == last else {})
        options = self._asked.stream_options
        if options is not None and options.include_usage:
            yield self._chunk([], {"usage": usage([answer])})

    def _choice(self, index: int, completion: Completion) -> dict[str, Any]:
        found: dict[str, Any] = {"index": index, "finish_reason": finish_reason(completion)}
        found["logprobs"] = self._log_probs(completion)
        if not self._chat:
            return found | {"text": completion.text}
        message: dict[str, Any] = {
            "role": "assistant",
            "content": completion.text,
            "refusal": None,
        }
        if completion.reasoning:
            message["reasoning_content"] = completion.reasoning
        return found | {"message": message}

    def _delta(self, index: int, delta: Mapping[str, Any], text: str) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": index, "finish_reason": None, "logprobs": None}
        return choice | ({"delta": {**delta}} if self._chat else {"text": text})

    def _chunk(self, choices: Sequence[Any], more: Mapping[str, Any] | None = None) -> bytes:
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        body = {**self._head, "object": kind, "choices": choices, **(more or {})}
        return b"data: " + json.dumps(body, allow_nan=False).encode() + b"\n\n"

    def _about(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """Returns what `ttc` holds: how the budget was spent, and what is asked for besides."""
        ledger = sum((answer.ledger for answer in answers), Ledger())
        found: dict[str, Any] = {
            "seed": self._order.seed,
            "cut": any(answer.cut for answer in answers),
            "generations": ledger.generations,
            "generator_flops": ledger.generator_flops,
            "verifier_flops": ledger.verifier_flops,
        }
        wanted = {*self._asked.returned}
        if "ledger" in wanted:
            found["ledger"] = ledger.to_dict()
        hidden = {"alternatives", "trace"} - wanted
        about = [
            {name: value for name, value in answer.about.items() if name not in hidden}
            for answer in answers
        ]
        if any(about):
            found |= about[0] if len(about) == 1 else {"answers": about}
        return found

    def _log_probs(self, completion: Completion) -> dict[str, Any] | None:
        """Returns the log-probabilities of a completion's tokens, where they are asked for."""
        if completion.log_probs is None:
            return None
        texts = self._tokenizer.texts()
        tokens = [texts[token] for token in completion.token_ids]
        top = completion.top_log_probs or ((),) * len(tokens)
        if not self._chat:
            drawn = zip(tokens, completion.log_probs, top, strict=True)
            # Of tokens with the same text, such as special ones, the likeliest; and the drawn one.
            likeliest = [
                {texts[i]: x for i, x in reversed(others)} | {text: log_prob}
                for text, log_prob, others in drawn
            ]
            offsets = [0]
            for text in tokens[:-1]:
                offsets.append(offsets[-1] + len(text))
            return {
                "tokens": tokens,
                "token_logprobs": list(completion.log_probs),
                "top_logprobs": likeliest if completion.top_log_probs else None,
                "text_offset": offsets[: len(tokens)],
            }
        content = [
            {
                **_token(text, log_prob),
                "top_logprobs": [_token(texts[i], x) for i, x in others],
            }
            for text, log_prob, others in zip(tokens, completion.log_probs, top, strict=True)
        ]
        return {"content": content, "refusal": None}


def _token(text: str, log_prob: float) -> dict[str, Any]:
    """Returns what chats are told of a token."""
    encoded = list(text.encode("utf-8", "surrogatepass"))
    return {"token": text, "logprob": log_prob, "bytes": encoded}


def finish_reason(completion: Completion) -> Literal["stop", "length"]:
    """Returns why a completion ended, in the words of OpenAI's API, which knows no deadlines."""
    return "stop" if completion.finish_reason == "stop" else "length"


def usage(answers: Sequence[Answer]) -> dict[str, Any]:
    """Returns the tokens that were spent, those of candidates that the client does not get too."""
    ledger = sum((answer.ledger for answer in answers), Ledger())
    prompt = sum(answer.prompt_tokens for answer in answers)
    drawn = ledger.decode_tokens + ledger.lookahead_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": drawn,
        "total_tokens": prompt + drawn,
    }


def models(names: Sequence[str], created: int) -> dict[str, Any]:
    """Returns the list of models."""
    about = {"object": "model", "created": created, "owned_by": "ttc_jax"}
    return {"object": "list", "data": [{"id": name, **about} for name in names]}


def error(error: ApiError) -> bytes:
    """Returns the event of a stream that could not go on."""
    return b"data: " + json.dumps(error.body()).encode() + b"\n\n"
