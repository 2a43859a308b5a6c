"""How a PRM that was trained elsewhere is shown a question, and what a generator writes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ttc_jax.errors import UserError
from ttc_jax.models.tokenizers import Tokenizer
from ttc_jax.verifiers.formats import QUESTION, SPECIAL
from ttc_jax.verifiers.steps import NOTHING, StepFormat
from ttc_jax.verifiers.verifier import Verifier


class Presentation:
    """A PRM's format in the tokens of a generator and of the PRM.

    Where their tokens of text mean the same, the PRM is shown the generator's own, in XLA:
    delimiters and special tokens are swapped for what is left of them, marks are put in between.
    Where not, the search comes back between rounds, and the host writes the steps anew in the PRM's
    tokens: it is a bridge.

    Args:
      verifier: a PRM with a format.
      tokenizer: the generator's.
      delimiter: text that ends a step.
      bridged: whether to go over the host; None: where tokenizers differ.

    Raises:
      UserError: the PRM's tokenizer lacks a special token of its format.
    """

    def __init__(
        self, verifier: Verifier, tokenizer: Tokenizer, delimiter: str, bridged: bool | None = None
    ):
        assert verifier.format is not None and verifier.tokenizer is not None  # noqa: PT018
        self._format, self._own = verifier.format, verifier.tokenizer
        self._tokenizer, self._delimiter = tokenizer, delimiter
        self._delimits = tokenizer.containing(delimiter)
        self._opening = _opening(self._own) if self._format.chat else []
        self._text = {*tokenizer.vocabulary().values()} - {*tokenizer.eos_ids}
        self.bridged = not agree(tokenizer, self._own) if bridged is None else bridged
        mark, between = self._encode("mark"), self._encode("between")
        swaps = () if self.bridged else tuple(sorted(self._swaps().items()))
        self.step_format = StepFormat((*mark, *between), -len(between), swaps)

    def prompt(self, question: str) -> list[int]:
        """What the PRM reads before an answer."""
        text = self._format.prompt.replace(QUESTION, question)
        if self.bridged:  # blanks at its end are written with the first step
            return self._begin(text.rstrip(" "))
        # SentencePiece writes them with the first step too: its first token begins with a blank.
        word, both = self._own.encode("a"), self._begin(text + "a")
        return both[: -len(word)] if both[-len(word) :] == word else self._begin(text)

    def _begin(self, text: str) -> list[int]:
        """The beginning of all that the PRM reads."""
        if not self._format.chat:
            return self._own.encode(text, add_bos=True)
        return [*self._opening, *self._own.encode(text, inside=True)]

    def show(
        self, tokens: Sequence[int], ends: Sequence[bool], *, first: bool
    ) -> tuple[list[int], list[int]]:
        """Over the bridge: further tokens of an answer in those of the PRM.

        Args:
          tokens: T tokens of the generator.
          ends: [T] where steps end.
          first: whether the answer begins with them.

        Returns:
          The PRM's tokens, and for each token of the generator where the score stands if a step
          ends there.
        """
        shown: list[int] = []
        read: list[int] = []
        run: list[int] = []
        text = ""

        def decoded() -> str:
            found = self._tokenizer.decode(run, inside=True)
            run.clear()
            return found

        def write() -> None:
            nonlocal text, first
            text += decoded()
            if text and first:  # the blank between question and step is the prompt's
                blanks = self._format.prompt[len(self._format.prompt.rstrip(" ")) :]
                text, first = blanks + (text.lstrip(" ") if blanks else text), False
            if text:
                shown.extend(self._own.encode(text, inside=True))
            text = ""

        for token, end in zip(tokens, ends, strict=True):
            if self._delimits[token]:
                text += decoded() + self._rest(token)
            elif token in self._text:
                run.append(token)
            if end:
                write()
                shown.extend(self.step_format.markers)
            read.append(len(shown) - 1 + self.step_format.offset)
        write()
        return shown, read

    def _encode(self, field: str) -> list[int]:
        """A text of the format in the PRM's tokens."""
        for name in ("prompt", field):
            for token in SPECIAL.findall(getattr(self._format, name)):
                if len(self._own.encode(token)) != 1:
                    raise UserError(
                        f"verifier.path: the format's {name} holds {token}, which is no token of "
                        "the PRM's tokenizer; they do not belong together"
                    )
        text = getattr(self._format, field)
        return self._own.encode(text, inside=True) if text else []

    def _rest(self, token: int) -> str:
        """What is left of a token without the delimiter: the text before it."""
        return self._tokenizer.texts()[token].partition(self._delimiter)[0].rstrip()

    def _swaps(self) -> dict[int, int]:
        """What becomes of delimiters and special tokens: see `StepFormat.swaps`."""
        everything = range(self._tokenizer.vocab_size)
        swaps = {token: NOTHING for token in everything if token not in self._text}
        for token in np.flatnonzero(self._delimits).tolist():
            rest = self._rest(token)
            left = self._own.encode(rest, inside=True) if rest else [NOTHING]
            if len(left) == 1:  # else it stays as it is, as a few do that end lines of code
                swaps[token] = left[0]
        return swaps


def _opening(tokenizer: Tokenizer) -> list[int]:
    """A conversation up to what the user says: what two that say different things begin with."""
    try:
        one, other = (tokenizer.chat([{"role": "user", "content": said}]) for said in "a1")
    except UserError as error:
        raise UserError(f"verifier.path: the format of the PRM wants a chat; {error}") from error
    differ = (i for i, pair in enumerate(zip(one, other, strict=False)) if len({*pair}) > 1)
    return one[: next(differ, len(one))]


def agree(generator: Tokenizer, verifier: Tokenizer) -> bool:
    """Whether every token of the generator's text means the same to the verifier.

    Special tokens, and how many rows an embedding has, do not matter.
    """
    known = verifier.vocabulary()
    return all(known.get(name) == token for name, token in generator.vocabulary().items())
