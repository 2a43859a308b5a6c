"""Verifiers that read texts: a reward in plain Python, called on the host between rounds."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.models.tokenizers import Tokenizer
from ttc_jax.plugins import calling
from ttc_jax.sampling.decode import DecodeState
from ttc_jax.verifiers.steps import StepFormat
from ttc_jax.verifiers.verifier import Verifier, VerifierSpec

Scores = Sequence[float] | np.ndarray
Reward = Callable[[str, Sequence[str]], Scores]


class TextVerifier(Verifier):
    """Scores the texts of answers, in Python of any kind: rules, a test run, another service.

    Where a search selects between steps, `score_texts` is asked after each of them and reads what
    is written so far; where answers are written in one go, it reads whole ones.
    """

    @abc.abstractmethod
    def score_texts(self, question: str, solutions: Sequence[str]) -> Scores:
        """Returns a score of each solution to a question, 0 to 1; higher is better.

        It is called once for a question whose candidates have all paused, with those of them that
        are not finished, in their order, whatever else is searched. A score should depend on the
        question and its solution alone.
        """

    def read_texts(self, question: str, solutions: Sequence[str]) -> tuple[Scores, Ledger]:
        """Returns the same, and what it cost: nothing, but of a verifier that says otherwise."""
        return self.score_texts(question, solutions), Ledger()

    @property
    def name(self) -> str:
        """The name that errors give it."""
        return type(self).__name__

    @property
    def spec(self) -> VerifierSpec:
        """Whether it reads texts: it reads nothing else."""
        return VerifierSpec(reads_texts=True)

    def init(
        self, prompts: Int[Array, "B P"], lengths: Int[Array, " B"], candidates: int, capacity: int
    ) -> Float[Array, "B N"]:
        """Returns room for the scores, which the host writes between rounds."""
        del prompts, capacity
        return jnp.zeros((lengths.shape[0], candidates), jnp.float32)

    def score_steps(
        self, tokens: Int[Array, "B N T"], count: Int[Array, "B N"], state: Any, decode: DecodeState
    ) -> tuple[Float[Array, "B N T"], Any]:
        """Returns the scores that the host has written."""
        del count, decode
        return jnp.broadcast_to(state[..., None], tokens.shape), state


class TextFunction(TextVerifier):
    """A function of a question and its solutions, as a verifier.

    Args:
      function: see `TextVerifier.score_texts`.
    """

    def __init__(self, function: Reward):
        self.function = function

    @property
    def name(self) -> str:
        """The function's name."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    def score_texts(self, question: str, solutions: Sequence[str]) -> Scores:
        """Returns what the function returns."""
        return self.function(question, solutions)


class TextAdapter:
    """Shows a `TextVerifier` the answers of a generator as texts.

    Args:
      tokenizer: the generator's.
      stop: texts that end an answer, and are not part of it.
    """

    bridged = True
    step_format = StepFormat()

    def __init__(self, verifier: TextVerifier, tokenizer: Tokenizer, stop: Sequence[str] = ()):
        self._verifier, self._tokenizer, self._stop = verifier, tokenizer, stop

    def prompt(self, question: str) -> list[int]:
        """Returns the question as a search carries it: its code points."""
        return [ord(character) for character in question]

    def score(
        self,
        shown: Sequence[int],
        answers: Sequence[Sequence[int]],
        thoughts: Sequence[int] | None = None,
    ) -> tuple[Float[np.ndarray, " N"], Ledger]:
        """Returns a score of each answer, float32, and what they cost.

        Args:
          shown: what `prompt` gave for the question.
          answers: token ids.
          thoughts: how many of an answer's first tokens are thought, which stop texts do not end;
            None: none.

        Raises:
          UserError: the verifier raises, or gives what is not one number from 0 to 1 an answer.
        """
        first = thoughts or [0] * len(answers)
        texts = [
            text_of(answer[:at], self._tokenizer)
            + text_of(answer[at:], self._tokenizer, self._stop)
            for answer, at in zip(answers, first, strict=True)
        ]
        return read_texts(self._verifier, "".join(map(chr, shown)), texts)


def read_texts(
    verifier: TextVerifier, question: str, texts: Sequence[str]
) -> tuple[Float[np.ndarray, " N"], Ledger]:
    """Returns a verifier's score of each solution to a question, float32, and what they cost.

    Raises:
      UserError: the verifier raises, or gives what is not one number from 0 to 1 a solution.
    """
    what = f"verifier {verifier.name}"
    with calling(what):
        found, cost = verifier.read_texts(question, texts)
        scores = [float(score) for score in found]
    if len(scores) != len(texts):
        raise UserError(
            f"{what} returned {len(scores)} scores for {len(texts)} solutions; it must return "
            "one for each"
        )
    for score in scores:
        if not 0 <= score <= 1:  # NaN neither
            way = "" if math.isnan(score) else ", so scale it"
            shown = repr(score).removesuffix(".0")  # all digits: it may lie just above 1
            raise UserError(f"{what} returned the score {shown}; it must lie in 0 to 1{way}")
    return np.array(scores, np.float32), cost


def text_of(tokens: Sequence[int], tokenizer: Tokenizer, stop: Sequence[str] = ()) -> str:
    """Returns the text of an answer, up to the first stop text."""
    text = tokenizer.decode(tokens, inside=True)
    return text[: stopped_at(text, stop)]


def stopped_at(text: str, stop: Sequence[str]) -> int | None:
    """Returns where the first stop text begins; None where there is none."""
    return min((at for one in stop if (at := text.find(one)) >= 0), default=None)
