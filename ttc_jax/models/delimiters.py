"""The text that ends a step, found in tokens wherever their boundaries fall.

A step ends with the token that completes the delimiter, whether that token holds all of it or its
last characters. A delimiter right behind another one ends no step, since the step would have no
text: not one character, blanks included, lies between the two (they may share characters: three
line breaks are two blank lines). So the text alone says which delimiters end steps, however it is
cut into tokens; a token that completes several of them ends one step. A special token has no text,
but parts what it stands between: no delimiter reaches over it, and none is right behind another.

A finite automaton over tokens says so, in tables that are made once on the host. What it knows
after a token depends on no more than the last few tokens. So nothing is carried along a row: rows
that are forked, cut off or begun again need no care.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from ttc_jax.errors import UserError
from ttc_jax.models.indexing import take_along
from ttc_jax.models.tokenizers import Tokenizer

A = TypeVar("A", jax.Array, np.ndarray)
_OTHER = "\N{REPLACEMENT CHARACTER}"  # stands for text without the delimiter's characters
_TEXT = -1  # in the place of the characters since a delimiter: some lie behind it for good


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Delimiter:
    """A text that ends steps, as an automaton over the tokens of one tokenizer.

    Its arrays are NumPy's, or, inside a program, JAX's. The states in which the last token ended a
    step come behind the others.
    """

    kinds: Any  # [V] tokens of one kind change the state alike; 0: no text
    moves: Any  # [S, C] the state after a token of each kind
    begun: Any  # [S, C] how much of the delimiter that it completes stands in earlier tokens
    sizes: Any  # [C] characters of a token, no more than the delimiter has
    holds: Any  # [C] whether a token holds the delimiter by itself
    closed: Any  # [S] whether a delimiter is the last of the text
    length: int = dataclasses.field(metadata={"static": True})  # characters
    first_end: int = dataclasses.field(metadata={"static": True})

    @staticmethod
    @functools.cache  # a handful of tokenizers live as long as the process
    def of(tokenizer: Tokenizer, text: str) -> Delimiter:
        """The delimiter `text` in a tokenizer's tokens.

        Raises:
          UserError: it is empty, or no sequence of tokens writes it.
        """
        return Delimiter.in_texts(tokenizer.texts(), text)

    @staticmethod
    def in_texts(texts: Sequence[str], text: str) -> Delimiter:
        """The delimiter `text`, where token i writes `texts[i]`, "" for special ones; see `of`."""
        if not text:
            raise UserError("step_delimiter is empty; set it to the text that ends a step")
        unwritten = UserError(
            f"step_delimiter {text!r}: no token or sequence of tokens of the model writes it; "
            "choose another"
        )
        if _OTHER in text:  # a token that holds a part of a character's bytes reads like this
            raise unwritten
        parts, columns = _distinct(texts, text)
        after, fresh, begun, holds, closed = _read_parts(parts, text)
        # A state of tokens is one of characters, and whether the token ended a step.
        moves = np.repeat(after * 2 + fresh, 2, 0)
        reached = _reachable(moves)
        first_end = int((reached % 2 == 0).sum())
        if first_end == len(reached):
            raise unwritten
        number = np.zeros(len(moves), np.int32)
        number[reached] = np.arange(len(reached))
        moves, begun = number[moves[reached]], begun[reached // 2]
        sizes = np.array([min(size, len(text)) for _, size in parts])
        every = np.concatenate([moves, begun, sizes[None], holds[None]]).astype(np.int32)
        # The part without text comes first, and so does its kind.
        _, first, kinds = np.unique(every, axis=1, return_index=True, return_inverse=True)
        rank = np.argsort(np.argsort(first))
        every = every[:, np.sort(first)]
        return Delimiter(
            kinds=rank[kinds.reshape(-1)][columns].astype(np.int32),
            moves=every[: len(reached)],
            begun=every[len(reached) : -2],
            sizes=every[-2],
            holds=every[-1] > 0,
            closed=closed[reached // 2],
            length=len(text),
            first_end=first_end,
        )

    def found(self, tokens: A) -> tuple[A, A]:
        """Whether text up to each token ends with a delimiter; and where steps end: [*B, T] bool.

        Args:
          tokens: [*B, T] ids of whole answers so far; JAX's arrays, or NumPy's on the host.
        """
        state = self._states(self.kinds[tokens])[1]
        return self.closed[state], state >= self.first_end

    def ends_at(self, tokens: Int[Array, "B N T"], at: Int[Array, "B N"]) -> Bool[Array, "B N"]:
        """Whether the token at place `at` of each row ends a step, by what stands up to there."""
        index = at[..., None] + jnp.arange(1 - self._window, 1)[None, None]
        kinds = self.kinds[take_along(tokens, jnp.clip(index, 0, tokens.shape[2] - 1))]
        kinds = jnp.where(index < 0, 0, kinds)
        state = jnp.zeros_like(at)
        for i in range(self._window):
            state = self.moves[state, kinds[..., i]]
        return state >= self.first_end

    def taken(self, tokens: A, lengths: A) -> A:
        """What delimiters over several tokens take from each token, [*B, T] in characters.

        n > 0: the last n characters of a token belong to a delimiter that a later one completes;
        n < 0: its first -n characters complete one. Tokens that hold a delimiter by themselves have
        0 here, as have those that no delimiter takes anything from.

        Args:
          tokens: as `found` takes them.
          lengths: [*B] tokens that are real.
        """
        xp = tokens.__array_namespace__()
        at = xp.arange(tokens.shape[-1])[(None,) * (tokens.ndim - 1)]
        kinds = xp.where(at < lengths[..., None], self.kinds[tokens], 0)
        before, _ = self._states(kinds)
        left = self.begun[before, kinds]
        first, last = xp.where(left > 0, left - self.length, 0), xp.zeros_like(left)
        for _ in range(self.length - 1):
            left = xp.concat([left[..., 1:], xp.zeros_like(left[..., :1])], axis=-1)
            last = xp.maximum(last, xp.minimum(left, self.sizes[kinds]))
            left = xp.maximum(left - self.sizes[kinds], 0)
        return xp.where(self.holds[kinds], 0, xp.where(first < 0, first, last))

    @property
    def _window(self) -> int:
        """Tokens that a state depends on.

        A token that counts has a character at least. A delimiter takes up to `length` of them, and
        one that it stands right behind as many more.
        """
        return 2 * self.length

    def _states(self, kinds: A) -> tuple[A, A]:
        """The states before and after each token."""
        xp = kinds.__array_namespace__()
        T, padding = kinds.shape[-1], xp.zeros((*kinds.shape[:-1], self._window), kinds.dtype)
        padded = xp.concat([padding, kinds], axis=-1)
        before = after = xp.zeros_like(kinds)
        for i in range(1, self._window + 1):
            before, after = after, self.moves[after, padded[..., i : i + T]]
        return before, after


def _distinct(texts: Sequence[str], text: str) -> tuple[list[tuple[str, int]], np.ndarray]:
    """What matters of tokens' texts, each once with its size, and which of these each token has.

    The first is no text.
    """
    other = re.compile(f"[^{re.escape(''.join(sorted({*text})))}]+")
    parts: dict[tuple[str, int], int] = {("", 0): 0}
    columns = [
        parts.setdefault((other.sub(_OTHER, it), min(len(it), len(text))), len(parts))
        for it in texts
    ]
    return list(parts), np.array(columns)


def _read_parts(parts: Sequence[tuple[str, int]], text: str) -> tuple[np.ndarray, ...]:
    """What texts of tokens do from each state of characters.

    Returns:
      [S, P]: the state behind it; whether it completes a delimiter that does not stand right behind
      another; and how much of the first one that it completes stands before it. [P]: whether it
      holds a delimiter. [S]: whether a delimiter is the last of the text.
    """
    M = len(text)
    signs = [_OTHER, *sorted({*text})]
    number = {sign: i for i, sign in enumerate(signs)}
    step, complete, new, closed = _characters(text, signs)
    S, P = len(step), len(parts)
    longest = max(len(part) for part, _ in parts)
    letters = np.full((P, longest), -1)
    for row, (part, _) in zip(letters, parts, strict=True):
        row[: len(part)] = [number[sign] for sign in part]
    state = np.repeat(np.arange(S)[:, None], P, 1)
    completes, fresh = np.zeros((2, S, P), bool)
    begun = np.zeros((S, P), np.int32)
    for i, column in enumerate(letters.T):
        real, before = column >= 0, state
        done = complete[before, column] & real
        begun = np.where(done & ~completes, max(M - i - 1, 0), begun)
        completes |= done
        fresh |= new[before, column] & real
        state = np.where(real, step[before, column], before)
    state[:, 0] = 0
    return state, fresh, begun, completes[0], closed


def _characters(text: str, signs: Sequence[str]) -> tuple[np.ndarray, ...]:
    """The automaton over characters.

    A state is how many of the delimiter's characters the text ends with (as Knuth, Morris and Pratt
    count them), and how many characters stand behind the last delimiter; or `_TEXT`, once some of
    these can belong to no other delimiter.

    Returns:
      [S, signs]: the next state; whether a delimiter is completed; whether it is with text before
      it. [S]: whether a delimiter is the last of the text.
    """
    M = len(text)

    def longest(end: str) -> int:
        """How many of the delimiter's characters a text ends with, but not all."""
        return next(k for k in range(min(M - 1, len(end)), -1, -1) if end.endswith(text[:k]))

    states = {(0, _TEXT): 0}
    rows = []
    for known, behind in (queue := list(states)):
        row = []
        for sign in signs:
            whole = text[:known] + sign == text
            matched = longest(text[:known] + sign)
            since = 0 if whole else behind + 1 if behind != _TEXT else _TEXT
            after = (matched, since if since <= matched else _TEXT)
            if after not in states:
                states[after] = len(states)
                queue.append(after)
            row.append((states[after], whole, whole and behind == _TEXT))
        rows.append(row)
    step, complete, new = np.moveaxis(np.array(rows), -1, 0)
    return step, complete > 0, new > 0, np.array([behind == 0 for _, behind in states])


def _reachable(moves: np.ndarray) -> np.ndarray:
    """The states that a text leads to from state 0; those whose last token ended a step last."""
    found = np.zeros(1, np.int64)
    while len(more := np.union1d(found, moves[found])) > len(found):
        found = more
    return found[np.argsort(found % 2, kind="stable")]
