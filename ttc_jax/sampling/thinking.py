r"""Thinking: a thought before the answer, of a minimum and a maximum of tokens, inside XLA.

A row that has thought as long as it may is made to close its thought, and one that would close it
too early, or end within it, is made to think on (budget forcing, Muennighoff et al., 2025):

    … so x is 4</think>    before the minimum:   … so x is 4 Wait, is it …      (`continuation`)
    … and if we try y      at the maximum:       … and if we try\n</think>\n\n  (`closing`)

Forced tokens are tokens like others: they are fed, stand in the cache and in the row's text, take a
decode step each and are counted so, and `log_prob` holds what the model itself gives for them. The
random number that belongs to their position goes unused, so that what follows depends on the text
and its place alone.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from ttc_jax.errors import UserError
from ttc_jax.models.tokenizers import Tokenizer
from ttc_jax.models.vocabulary import check_tokens

UNLIMITED = np.iinfo(np.int32).max
NONE = -1  # no text is being forced


class Phase(enum.IntEnum):
    """Where a row is."""

    BEFORE = 0  # it has not begun to think
    INSIDE = 1
    BEHIND = 2  # it writes its answer; marks mean nothing from here on


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Thought:
    """The thoughts of rows, as far as they have come."""

    phase: Int[Array, "*B"]  # a `Phase`
    count: Int[Array, "*B"]  # tokens written inside, forced ones included
    forced: Int[Array, "*B"]  # place of the next token in the forced texts, or `NONE`
    behind: Int[Array, "*B"]  # tokens up to the answer, once the row writes it
    minimum: Int[Array, "*B"]
    maximum: Int[Array, "*B"]


@dataclasses.dataclass(frozen=True)
class Thinking:
    """How a model marks its thought, and how long that may be. Hashable.

    Programs depend on the marks and the texts. The minimum and the maximum are data of each row:
    other ones compile nothing anew.

    Attributes:
      close: token that ends a thought.
      open: token that begins one; None: every answer begins inside its thought.
      closing: tokens that are forced once a thought has `maximum` tokens; `close` is one of them.
      continuation: tokens that are forced in the place of `close`, or of an end token, before a
        thought has `minimum` tokens. They count as its tokens.
      minimum: tokens of a thought at least; those of its marks and of `closing` do not count.
      maximum: at most; None: as many as find room.
      blanks: tokens that may stand between a mark and the end of a prompt.

    Raises:
      UserError: a minimum above the maximum, or texts that cannot do what they are for.
    """

    close: int
    open: int | None = None
    closing: tuple[int, ...] = ()
    continuation: tuple[int, ...] = ()
    minimum: int = 0
    maximum: int | None = None
    blanks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.closing:
            object.__setattr__(self, "closing", (self.close,))
        if self.minimum < 0 or (self.maximum or 0) < 0:
            raise UserError("thinking: minimum and maximum must be 0 or more tokens")
        if self.maximum is not None and self.minimum > self.maximum:
            raise UserError(
                f"thinking.minimum is {self.minimum}; it must not be above thinking.maximum, "
                f"{self.maximum}"
            )
        if self.open == self.close:
            raise UserError("thinking.open and thinking.close are one token; they must differ")
        if self.closing.count(self.close) != 1:
            raise UserError("thinking.closing must hold the mark thinking.close, once")
        if self.minimum and not self.continuation:
            raise UserError(
                f"thinking.minimum is {self.minimum}: thinking.continuation must say what is "
                "written where a thought would close too early, such as Wait"
            )
        if self.close in self.continuation:
            raise UserError("thinking.continuation must not hold the mark thinking.close")

    @classmethod
    def of(
        cls,
        tokenizer: Tokenizer,
        *,
        open: str = "<think>",  # noqa: A002, as configs call it
        close: str = "</think>",
        closing: str = "",
        continuation: str = "Wait",
        minimum: int = 0,
        maximum: int | None = None,
    ) -> Thinking:
        """Returns the marks and texts in a tokenizer's tokens.

        Args:
          open: "": every answer begins inside its thought.
          closing: "": the mark `close` alone.

        Raises:
          UserError: a mark that is not one token, or as the class.
        """
        texts = tokenizer.texts()
        return cls(
            close=_mark(tokenizer, "close", close),
            open=_mark(tokenizer, "open", open) if open else None,
            closing=tuple(tokenizer.encode(closing, inside=True)) if closing else (),
            continuation=tuple(tokenizer.encode(continuation, inside=True)) if continuation else (),
            minimum=minimum,
            maximum=maximum,
            blanks=tuple(i for i, text in enumerate(texts) if text and not text.strip()),
        )

    def check(self, ends: Sequence[int], vocab_size: int, max_new_tokens: int) -> None:
        """Refuses texts that end an answer, unknown tokens, and a maximum that leaves no answer.

        Args:
          ends: tokens that end an answer.
        """
        marks = (self.close, *(() if self.open is None else (self.open,)))
        for name, tokens in (
            ("the marks", marks),
            ("thinking.closing", self.closing),
            ("thinking.continuation", self.continuation),
        ):
            check_tokens(tokens, vocab_size, name)
            if found := sorted({*tokens} & {*ends}):
                raise UserError(
                    f"{name}: the token {found[0]} ends an answer; choose another text, or another "
                    "prompt.stop"
                )
        self._check_room(max_new_tokens)

    def with_budgets_of(self, other: Thinking | None, max_new_tokens: int) -> Thinking:
        """Returns this with the minimum and the maximum of another one; None: as it is.

        Raises:
          UserError: the other one has other marks or texts, for which programs are not compiled, or
            its maximum leaves no answer.
        """
        if other is None:
            return self
        changed = dataclasses.replace(self, minimum=other.minimum, maximum=other.maximum)
        if changed != other:
            raise UserError("thinking: only minimum and maximum may change from call to call")
        other._check_room(max_new_tokens)
        return other

    def _check_room(self, max_new_tokens: int) -> None:
        around = len(self.closing) + (self.open is not None)
        if self.maximum is not None and self.maximum + around >= max_new_tokens:
            raise UserError(
                f"thinking.maximum is {self.maximum}: with {around} tokens of marks it leaves no "
                f"room for an answer; raise sampling.max_new_tokens, {max_new_tokens}"
            )

    def phase_behind(self, prompt: Sequence[int]) -> Phase:
        """Returns where a row is that begins behind a prompt, some of which end with a mark."""
        for token in reversed(prompt):
            if token == self.close:
                return Phase.BEHIND
            if token == self.open:
                return Phase.INSIDE
            if token not in self.blanks:
                break
        return Phase.INSIDE if self.open is None else Phase.BEFORE

    def given(self, prompt: Sequence[int]) -> tuple[int, int, int]:
        """Returns what `begin` takes of a question: phase, minimum and maximum."""
        most = UNLIMITED if self.maximum is None else self.maximum
        return int(self.phase_behind(prompt)), self.minimum, most

    def thought_of(self, tokens: Sequence[int], prompt: Sequence[int]) -> int:
        """Returns how many of an answer's first tokens are thought, its marks included.

        All of them, where it is never closed; none, where it never began.

        Args:
          tokens: of the whole answer.
          prompt: what stands before it.
        """
        phase, answer = self.phase_behind(prompt), list(tokens)
        if phase == Phase.BEHIND:
            return 0
        if self.close in answer:
            return answer.index(self.close) + 1
        return len(answer) if phase == Phase.INSIDE or self.open in answer else 0

    def begin(self, given: Int[Array, "B 3"], candidates: int) -> Thought:
        """Returns the thoughts of N rows a question that begin; see `given`."""
        rows = (given.shape[0], candidates)
        zero = jnp.zeros(rows, jnp.int32)
        phase, minimum, maximum = (jnp.broadcast_to(given[:, i : i + 1], rows) for i in range(3))
        return Thought(phase, zero, zero + NONE, zero, minimum, maximum)

    def force(
        self, thought: Thought | tuple[()], drawn: Int[Array, "*B"], ends: Bool[Array, " V"]
    ) -> tuple[Int[Array, "*B"], Int[Array, "*B"]]:
        """Returns the tokens that rows write, and their places in the forced texts, or `NONE`.

        Args:
          drawn: the tokens that they would write.
          ends: tokens that end an answer.
        """
        assert isinstance(thought, Thought), "rows that think are begun so"
        inside, place = thought.phase == Phase.INSIDE, thought.forced
        closes = (place >= 0) & (place < len(self.closing))
        place = jnp.where(inside & (thought.count >= thought.maximum) & ~closes, 0, place)
        if self.continuation:
            stops = (
                inside & (thought.count < thought.minimum) & ((drawn == self.close) | ends[drawn])
            )
            place = jnp.where(stops & (place == NONE), len(self.closing), place)
        texts = jnp.array((*self.closing, *self.continuation), jnp.int32)
        return jnp.where(place == NONE, drawn, texts[jnp.maximum(place, 0)]), place

    def advance(
        self,
        thought: Thought | tuple[()],
        active: Bool[Array, "*B"],
        tokens: Int[Array, "*B"],
        places: Int[Array, "*B"],
        length: Int[Array, "*B"],
    ) -> Thought:
        """Returns the thoughts once active rows have written what `force` gave.

        Args:
          length: tokens that rows hold with these.
        """
        assert isinstance(thought, Thought), "rows that think are begun so"
        after = places + 1
        ends_text = (after == len(self.closing)) | (
            after == len(self.closing) + len(self.continuation)
        )
        after = jnp.where((places == NONE) | ends_text, NONE, after)
        closed = active & (tokens == self.close) & (thought.phase != Phase.BEHIND)
        phase = thought.phase
        if self.open is not None:
            opened = active & (tokens == self.open) & (phase == Phase.BEFORE)
            phase = jnp.where(opened, Phase.INSIDE, phase)
        inside = thought.phase == Phase.INSIDE
        return dataclasses.replace(
            thought,
            phase=jnp.where(closed, Phase.BEHIND, phase),
            count=thought.count + (active & inside).astype(jnp.int32),
            forced=jnp.where(active, after, thought.forced),
            behind=jnp.where(closed, length, thought.behind),
        )


def _mark(tokenizer: Tokenizer, name: str, text: str) -> int:
    tokens = tokenizer.encode(text, inside=True) if text else []
    if len(tokens) != 1:
        raise UserError(
            f"thinking.{name}={text}: must be one token of the model, and is {len(tokens)}"
        )
    return tokens[0]
