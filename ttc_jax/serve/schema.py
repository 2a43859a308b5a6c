"""The requests that clients send: OpenAI's, and what `extra_body` adds.

What is unknown is refused, and so is what is known and not done here where it would change the
answer: a client is never given something else than it asked for.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ttc_jax.sampling.log_probs import TOP

Text = Annotated[str, Field(max_length=1 << 22)]
Likeliest = Annotated[int, Field(ge=0, le=TOP)]
Stop = Annotated[str, Field(min_length=1, max_length=64)]


def _is_plain(value: Any) -> Any:
    """Accepts what goes without saying, and refuses all else."""
    if value is None or value is False or value in (0, "", "none", "auto", [], {}, ["text"]):
        return None
    raise ValueError("is not supported; leave it out")


Undone = Annotated[Any, AfterValidator(_is_plain)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class StreamOptions(_Strict):
    """What a stream holds beside the text."""

    include_usage: bool = False
    include_obfuscation: bool = False  # nothing is padded here


class ResponseFormat(_Strict):
    """The format of the answer: plain text alone."""

    type: Literal["text"]


class TextPart(_Strict):
    """A part of a message."""

    type: Literal["text"]
    text: Text


class Message(_Strict):
    """A turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[TextPart], Field(min_length=1, max_length=256)]
    name: str | None = None
    reasoning_content: Text | None = None  # of an earlier answer: the model does not read it

    def turn(self) -> dict[str, str]:
        """Returns it as chat templates read it."""
        role = "system" if self.role == "developer" else self.role
        content = self.content
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        return {"role": role, "content": text}


class _Asked(_Strict):
    """What both kinds of requests may hold."""

    model: Annotated[str, Field(max_length=256)] = ""
    n: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # How much to think, beyond what OpenAI's API knows.
    budget: Annotated[int, Field(ge=1)] | None = None
    budget_tokens: Annotated[int, Field(ge=1)] | None = None
    strategy: Annotated[str, Field(max_length=64)] | None = None
    confidence: Annotated[float, Field(gt=0.5, lt=1)] | None = None
    deadline_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    returned: Annotated[
        list[Literal["alternatives", "trace", "ledger"]], Field(alias="return", max_length=3)
    ] = []
    # What changes no answer.
    user: Any = None
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None
    parallel_tool_calls: Any = None
    # What would, and is not done.
    presence_penalty: Undone = None
    frequency_penalty: Undone = None
    logit_bias: Undone = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts that end an answer."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @field_validator("temperature")
    @classmethod
    def _not_nearly_cold(cls, value: float | None) -> float | None:
        if value is not None and 0 < value < 1e-3:
            raise ValueError("must be 0, which takes the likeliest token, or at least 0.001")
        return value

    @property
    def limit(self) -> int | None:
        """The tokens of an answer at most; None: as the server says."""
        return self.max_tokens

    @property
    def log_probs(self) -> int | None:
        """How many likeliest tokens are asked for beside each drawn one; None: not even that."""
        raise NotImplementedError


class ChatRequest(_Asked):
    """A request of /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=1024)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Likeliest | None = None
    response_format: ResponseFormat | None = None
    tools: Undone = None
    tool_choice: Undone = None
    functions: Undone = None
    function_call: Undone = None
    modalities: Undone = None
    audio: Undone = None
    prediction: Undone = None
    reasoning_effort: Undone = None
    verbosity: Undone = None
    web_search_options: Undone = None

    @field_validator("top_logprobs")
    @classmethod
    def _beside_drawn_ones(cls, value: int | None, found: ValidationInfo) -> int | None:
        if value and not found.data.get("logprobs"):
            raise ValueError("are told with logprobs; give logprobs=true as well")
        return value

    @property
    def limit(self) -> int | None:
        """The tokens of an answer at most; None: as the server says."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def log_probs(self) -> int | None:
        """See `_Asked`."""
        return (self.top_logprobs or 0) if self.logprobs else None


TokenIds = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)]
Texts = Annotated[list[Text], Field(min_length=1)]
Several = Annotated[list[TokenIds], Field(min_length=1)]


class CompletionRequest(_Asked):
    """A request of /v1/completions."""

    prompt: Text | TokenIds | Texts | Several
    logprobs: Likeliest | None = None
    best_of: Annotated[int, Field(ge=1)] | None = None
    echo: Undone = None
    suffix: Undone = None

    @model_validator(mode="after")
    def _draws_no_more_than_it_returns(self) -> Self:
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise ValueError("best_of: must equal n; to choose the best of several, give a budget")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, whether there is one or several."""
        prompt = self.prompt
        if isinstance(prompt, str) or isinstance(prompt[0], int):
            return [prompt]  # pyright: ignore[reportReturnType]
        return [*prompt]  # pyright: ignore[reportReturnType]

    @property
    def log_probs(self) -> int | None:
        """See `_Asked`."""
        return self.logprobs
