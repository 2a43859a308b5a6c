r"""Thinking: the marks of a thought before the answer, and its minimum and maximum of tokens.

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
from numbers import Integral
from typing import Any

import numpy as np

from ttc_jax.errors import UserError
from ttc_jax.models.tokenizers import Tokenizer
from ttc_jax.models.vocabulary import check_tokens

UNLIMITED = np.iinfo(np.int32).max


class Phase(enum.IntEnum):
    """Where a row is."""

    BEFORE = 0  # it has not begun to think
    INSIDE = 1
    BEHIND = 2  # it writes its answer; marks mean nothing from here on


@dataclasses.dataclass(frozen=True)
class Thinking:
    """How a model marks its thought, and how long that may be. Hashable.

    Programs depend on the marks and the texts. The minimum and the maximum are data of each row:
    other ones compile nothing anew.

    Attributes:
      close: token that ends a thought.
      open: token that begins one; None: every answer begins inside its thought.
      closing: tokens that are forced once a thought has `maximum` tokens; `close` is one of them.
      continuation: tokens that are forced in the place of `close`, or of one of `ends`, before a
        thought has `minimum` tokens. They count as its tokens.
      ends: tokens that end a thought, and the row with it: those of the model's own that end a
        sequence. Others that end an answer, such as those of a stop text, mean nothing before the
        answer has begun.
      minimum: tokens of a thought at least; those of its marks and of `closing` do not count.
      maximum: at most; None: as many as find room.
      steps: whether a verifier scores the steps of the thought too, not just the answer's.
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
    steps: bool = False
    blanks: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()

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

    def check(self, ends: Sequence[int], vocab_size: int, max_new_tokens: int) -> None:
        """Refuses texts that end a row, unknown tokens, and budgets that leave no answer.

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
            if found := sorted({*tokens} & {*self.ends}):
                raise UserError(
                    f"{name}: the token {found[0]} ends a sequence; choose another text"
                )
        check_tokens(self.ends, vocab_size, "thinking.ends")
        self._check_budgets(ends, max_new_tokens)

    def with_budgets_of(
        self, other: Thinking | None, ends: Sequence[int], max_new_tokens: int
    ) -> Thinking:
        """Returns this with the minimum and the maximum of another one; None: as it is.

        Args:
          ends: tokens that end an answer.

        Raises:
          UserError: the other one has other marks or texts, for which programs are not compiled, or
            its budgets leave no answer.
        """
        if other is None:
            return self
        changed = dataclasses.replace(self, minimum=other.minimum, maximum=other.maximum)
        if changed != other:
            raise UserError("thinking: only minimum and maximum may change from call to call")
        other._check_budgets(ends, max_new_tokens)
        return other

    def _check_budgets(self, ends: Sequence[int], max_new_tokens: int) -> None:
        """Refuses a minimum or a maximum behind which no answer can come."""
        marks = 1 + (self.open is not None)
        for name, budget, around in (
            ("minimum", self.minimum or None, marks),
            ("maximum", self.maximum, marks - 1 + len(self.closing)),
        ):
            if budget is not None and budget + around >= max_new_tokens:
                raise UserError(
                    f"thinking.{name} is {budget}: with {around} tokens of marks it leaves no "
                    f"room for an answer; raise sampling.max_new_tokens, {max_new_tokens}"
                )
        behind = self.closing[self.closing.index(self.close) + 1 :]
        if self.maximum is not None and (found := sorted({*behind} & {*ends})):
            raise UserError(
                f"thinking.closing: its token {found[0]}, behind the mark, ends an answer; choose "
                "another closing, or another text that ends answers"
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
        """Returns what `thoughts.begin` takes of a question: phase, minimum and maximum."""
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
        return 0 if self.is_before(tokens, prompt) else len(answer)

    def is_before(self, tokens: Sequence[int], prompt: Sequence[int]) -> bool:
        """Returns whether a row has begun no thought, and may yet: see `thought_of`."""
        begun = self.open in tokens or self.close in tokens
        return self.phase_behind(prompt) == Phase.BEFORE and not begun


@dataclasses.dataclass(frozen=True)
class ThinkingFormat:
    r"""How a model marks its thought, as text, and how long that may be.

        ThinkingFormat(closing="\n</think>\n\n", minimum=100, maximum=1000)

    Attributes:
      open: mark that begins a thought, one token of the model; "": every answer begins inside its
        thought. A chat template may write it at the prompt's end.
      close: mark that ends a thought, one token.
      closing: text that is forced once a thought has `maximum` tokens, with the mark `close` in it;
        "": the mark alone.
      continuation: text that is forced where a thought would close, or a row end within it, before
        it has `minimum` tokens.
      minimum, maximum, steps: as those of `Thinking`.

    Raises:
      UserError: a field that is of another kind, or a number that is none of tokens.
    """

    open: str = "<think>"
    close: str = "</think>"
    closing: str = ""
    continuation: str = "Wait"
    minimum: int = 0
    maximum: int | None = None
    steps: bool = False

    def __post_init__(self) -> None:
        for name in ("open", "close", "closing", "continuation"):
            if not isinstance(getattr(self, name), str):
                raise self._fault(name, "text")
        if not isinstance(self.steps, bool):
            raise self._fault("steps", "True or False")
        for name in ("minimum", "maximum"):
            value: Any = getattr(self, name)
            if name == "maximum" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, Integral):
                raise self._fault(name, "a whole number")
            tokens = int(value)  # of NumPy's numbers too
            if not 0 <= tokens <= UNLIMITED:
                raise self._fault(name, "0 or more" if tokens < 0 else f"at most {UNLIMITED}")
            object.__setattr__(self, name, tokens)

    def _fault(self, name: str, wanted: str) -> UserError:
        return UserError(f"thinking.{name} is {getattr(self, name)!r:.80}; it must be {wanted}")

    def without_budgets(self) -> ThinkingFormat:
        """Returns the marks and texts that programs are compiled for; budgets are data."""
        return dataclasses.replace(self, minimum=0, maximum=None)

    def budgets_of(self, compiled: Thinking) -> Thinking:
        """Returns what a program is compiled for, with the budgets of this format."""
        return dataclasses.replace(compiled, minimum=self.minimum, maximum=self.maximum)

    def tokens(self, tokenizer: Tokenizer) -> Thinking:
        """Returns the marks and texts in a tokenizer's tokens.

        Raises:
          UserError: a mark that is not one token, or as `Thinking`.
        """
        texts = tokenizer.texts()
        closing, continuation = (
            tuple(tokenizer.encode(text, inside=True)) if text else ()
            for text in (self.closing, self.continuation)
        )
        return Thinking(
            close=_mark(tokenizer, "close", self.close),
            open=_mark(tokenizer, "open", self.open) if self.open else None,
            closing=closing,
            continuation=continuation,
            minimum=self.minimum,
            maximum=self.maximum,
            steps=self.steps,
            blanks=tuple(i for i, text in enumerate(texts) if text and not text.strip()),
            ends=tokenizer.eos_ids,
        )


def _mark(tokenizer: Tokenizer, name: str, text: str) -> int:
    tokens = tokenizer.encode(text, inside=True) if text else []
    if len(tokens) != 1:
        raise UserError(
            f"thinking.{name}={text}: must be one token of the model, and is {len(tokens)}"
        )
    return tokens[0]
