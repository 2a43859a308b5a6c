"""The part of a text that tokens to come cannot change."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from ttc_jax.models.tokenizers import Tokenizer
from ttc_jax.verifiers.texts import stopped_at, text_of

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")  # how SentencePiece names a token of one byte
_UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what a tokenizer writes for a part of a character


class SettledText:
    """Tells what of a text may be shown while it is still being written.

    Args:
      stop: texts that end it, and are not part of it.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str]):
        self._tokenizer, self._stop, self._bytes = tokenizer, stop, _bytes_of(tokenizer)

    def of(self, tokens: Sequence[int], *, ended: bool) -> str:
        """Returns what stands fast of the text of some tokens: all of it, once it has ended.

        Else the end of it waits where it is a part of a character or may begin a stop text.
        """
        if ended:
            return text_of(tokens, self._tokenizer, self._stop)
        count = len(tokens)
        while count and tokens[count - 1] in self._bytes:
            count -= 1
        text = self._tokenizer.decode(tokens[:count], inside=True).rstrip(_UNFINISHED)
        end = len(text) - max((_begun(text, stop) for stop in self._stop), default=0)
        found = stopped_at(text, self._stop)
        return text[: end if found is None else min(end, found)]


@functools.lru_cache(maxsize=8)
def _bytes_of(tokenizer: Tokenizer) -> frozenset[int]:
    """Returns the tokens that are one byte."""
    names = tokenizer.vocabulary().items()
    return frozenset(token for name, token in names if _BYTE.fullmatch(name))


def _begun(text: str, stop: str) -> int:
    """Returns how many characters at the end of a text begin a stop text."""
    counts = range(min(len(text), len(stop) - 1), 0, -1)
    return next((count for count in counts if text.endswith(stop[:count])), 0)
