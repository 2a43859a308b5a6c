"""The adapter of a PRM that was trained elsewhere: its prompts, and its format of steps."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from ttc_jax.errors import UserError
from ttc_jax.models.delimiters import Delimiter
from ttc_jax.models.tokenizers import Tokenizer
from ttc_jax.verifiers.formats import QUESTION, SPECIAL
from ttc_jax.verifiers.steps import NOTHING, StepFormat
from ttc_jax.verifiers.verifier import Verifier


class PRMAdapter:
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
        spec = verifier.spec
        assert spec.format is not None and spec.tokenizer is not None  # noqa: PT018
        self._format, self._own = spec.format, spec.tokenizer
        self._tokenizer, self._delimiter = tokenizer, delimiter
        self._opening = _opening(self._own) if self._format.chat else []
        self._text = {*tokenizer.vocabulary().values()} - {*tokenizer.eos_ids}
        self.bridged = not agree(tokenizer, self._own) if bridged is None else bridged
        mark, between = self._encode("mark"), self._encode("between")
        swaps, cuts = ((), ()) if self.bridged else (self._swaps(), self._cuts())
        self.step_format = StepFormat((*mark, *between), -len(between), swaps, cuts)

    @functools.cached_property
    def _delimits(self) -> np.ndarray:
        """Which of the generator's tokens hold the delimiter."""
        return self._tokenizer.containing(self._delimiter)

    def prompt(self, question: str) -> list[int]:
        """Returns what the PRM reads before an answer."""
        text = self._format.prompt.replace(QUESTION, question)
        if self.bridged:  # blanks at its end are written with the first step
            return self._begin(text.rstrip(" "))
        # SentencePiece writes them with the first step too: its first token begins with a blank.
        word, both = self._own.encode("a"), self._begin(text + "a")
        return both[: -len(word)] if both[-len(word) :] == word else self._begin(text)

    def _begin(self, text: str) -> list[int]:
        """Returns the tokens of a text that begins all that the PRM reads."""
        if not self._format.chat:
            return self._own.encode(text, add_bos=True)
        return [*self._opening, *self._own.encode(text, inside=True)]

    def show(
        self,
        tokens: Sequence[int],
        ends: Sequence[bool],
        *,
        first: bool,
        taken: Sequence[int] | None = None,
    ) -> tuple[list[int], list[int]]:
        """Retokenizes further tokens of an answer for the PRM, over the bridge.

        Args:
          tokens: T tokens of the generator.
          ends: [T] where steps end.
          first: whether the answer begins with them.
          taken: [T] what delimiters over several tokens take from each (`Delimiter.taken`); None:
            as these tokens alone say.

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
            shown.extend(self._written(text, first=first))
            text, first = "", first and not text

        if taken is None:
            row = np.array(tokens, np.int32)
            delimiter = Delimiter.of(self._tokenizer, self._delimiter)
            taken = delimiter.taken(row, np.array(len(row))).tolist()
        for token, end, count in zip(tokens, ends, taken or (), strict=True):
            next_step = ""
            if count < 0:
                text, next_step = text + decoded(), self._rest(token, count)
            elif count or self._delimits[token]:
                text += decoded() + self._rest(token, count)
            elif token in self._text:
                run.append(token)
            if end:
                write()
                shown.extend(self.step_format.markers)
            read.append(len(shown) - 1 + self.step_format.offset)
            text += next_step
        write()
        return shown, read

    def step(self, text: str, *, first: bool) -> tuple[list[int], int]:
        """Returns the PRM's tokens of a step that is given as text, marks included.

        Args:
          first: whether the answer begins with it.

        Returns:
          The tokens, and where among them the step's score stands.
        """
        shown = [*self._written(text, first=first), *self.step_format.markers]
        return shown, len(shown) - 1 + self.step_format.offset

    def _written(self, text: str, *, first: bool) -> list[int]:
        if text and first:  # the blank between question and step is the prompt's
            blanks = self._format.prompt[len(self._format.prompt.rstrip(" ")) :]
            text = blanks + (text.lstrip(" ") if blanks else text)
        return self._own.encode(text, inside=True) if text else []

    def _encode(self, field: str) -> list[int]:
        """Returns a text of the format in the PRM's tokens."""
        for name in ("prompt", field):
            for token in SPECIAL.findall(getattr(self._format, name)):
                if len(self._own.encode(token)) != 1:
                    raise UserError(
                        f"verifier.path: the format's {name} holds {token}, which is no token of "
                        "the PRM's tokenizer; they do not belong together"
                    )
        text = getattr(self._format, field)
        return self._own.encode(text, inside=True) if text else []

    def _rest(self, token: int, taken: int = 0) -> str:
        """Returns what is left of a token without the delimiter: the text before it.

        Args:
          taken: see `Delimiter.taken`; of a token that completes a delimiter, it is the text
            behind that.
        """
        text = self._tokenizer.texts()[token]
        if taken < 0:
            return text[-taken:] if text[-taken:].strip() else ""
        text = text[:-taken] if taken else text.partition(self._delimiter)[0]
        return text.rstrip()

    def _shown(self, rest: str) -> list[int]:
        """Returns the one token that the PRM is shown of the rest of a token, if there is one.

        Else the token stays as it is, as a few do that end lines of code.
        """
        left = self._own.encode(rest, inside=True) if rest else [NOTHING]
        return left if len(left) == 1 else []

    def _swaps(self) -> tuple[tuple[int, int], ...]:
        """Returns `StepFormat.swaps`: what becomes of delimiters and special tokens."""
        everything = range(self._tokenizer.vocab_size)
        swaps = {token: NOTHING for token in everything if token not in self._text}
        for token in np.flatnonzero(self._delimits).tolist():
            for shown in self._shown(self._rest(token)):
                swaps[token] = shown
        return tuple(sorted(swaps.items()))

    def _cuts(self) -> tuple[tuple[int, int, int], ...]:
        """Returns `StepFormat.cuts`: what becomes of tokens that hold a part of the delimiter."""
        whole, texts = self._delimiter, self._tokenizer.texts()
        cuts: list[tuple[int, int, int]] = []
        for token in sorted(self._text):
            text = texts[token]
            if not text or whole in text:
                continue
            parts = range(1, len(whole))
            counts = {n for n in parts if text.endswith(whole[:n])}
            counts |= {-n for n in parts if text.startswith(whole[-n:])}
            counts |= {len(text)} if text in whole else set()  # in the middle of one
            for count in sorted(counts):
                cuts += [(token, count, shown) for shown in self._shown(self._rest(token, count))]
        return tuple(cuts)


def _opening(tokenizer: Tokenizer) -> list[int]:
    """Returns a conversation up to what the user says: what two different ones begin with."""
    try:
        one, other = (tokenizer.chat([{"role": "user", "content": said}]) for said in "a1")
    except UserError as error:
        raise UserError(f"verifier.path: the format of the PRM wants a chat; {error}") from error
    differ = (i for i, pair in enumerate(zip(one, other, strict=False)) if len({*pair}) > 1)
    return one[: next(differ, len(one))]


def agree(generator: Tokenizer, verifier: Tokenizer) -> bool:
    """Returns whether every token of the generator's text means the same to the verifier.

    Special tokens, and how many rows an embedding has, do not matter.
    """
    known = verifier.vocabulary()
    return all(known.get(name) == token for name, token in generator.vocabulary().items())
