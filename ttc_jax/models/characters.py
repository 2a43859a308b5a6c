"""A tokenizer of characters and given pieces, for the embedded task and its models."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ttc_jax.errors import UserError
from ttc_jax.models.vocabulary import mask_of

CHARACTERS = "characters.json"


class CharTokenizer:
    """Characters and given multi-character pieces; the longest piece wins.

    Ids are `<pad>` 0, `<eos>` 1, then the pieces in the order given.

    Args:
      pieces: one or more characters each.
      vocab_size: V of the model; None: as many as there are tokens.
    """

    pad_id = 0

    def __init__(self, pieces: Iterable[str], vocab_size: int | None = None):
        self.pieces = tuple(dict.fromkeys(pieces))
        if not self.pieces or "" in self.pieces:
            raise UserError("a character tokenizer needs pieces of at least one character each")
        self._special = ("<pad>", "<eos>")
        self.vocab_size = vocab_size or 2 + len(self.pieces)
        self.eos_ids: tuple[int, ...] = (1,)
        self.bos_id: int | None = None
        self._ids = {piece: 2 + i for i, piece in enumerate(self.pieces)}
        longest_first = sorted(self.pieces, key=len, reverse=True)
        self._piece = re.compile("|".join(map(re.escape, longest_first)))

    def encode(self, text: str, add_bos: bool = False, inside: bool = False) -> list[int]:
        """Token ids, the same everywhere.

        Raises:
          UserError: a character that is in no piece.
        """
        del add_bos, inside
        ids, at = [], 0
        while at < len(text):
            if (found := self._piece.match(text, at)) is None:
                raise UserError(
                    f"the tokenizer does not know the character {text[at]!r}; "
                    f"it knows {''.join(sorted(p for p in self.pieces if len(p) == 1))!r}"
                )
            ids.append(self._ids[found[0]])
            at = found.end()
        return ids

    def decode(self, tokens: Sequence[int], inside: bool = False, special: bool = False) -> str:
        """The text; see `Tokenizer.decode`."""
        del inside
        texts = (*(self._special if special else ("", "")), *self.pieces)
        return "".join(texts[token] for token in tokens if 0 <= token < len(texts))

    def chat(
        self, messages: Sequence[dict[str, str]], arguments: Mapping[str, Any] | None = None
    ) -> list[int]:
        """Always a UserError: there is no chat template."""
        raise UserError(
            "the character tokenizer has no chat template: set prompt.chat=False, and give texts"
        )

    @functools.cache  # noqa: B019, a handful of tokenizers live as long as the process
    def containing(self, text: str) -> np.ndarray:
        """[V] bool: tokens whose text contains `text`, read-only."""
        return mask_of(self.texts(), text)

    def texts(self) -> Sequence[str]:
        """[V] the text of each token."""
        return ("", "", *self.pieces, *[""] * (self.vocab_size - 2 - len(self.pieces)))

    def vocabulary(self) -> Mapping[str, int]:
        """Ids of the pieces."""
        return self._ids

    def to_json(self) -> dict[str, Any]:
        """Plain data, read back by `from_json`."""
        return {"pieces": list(self.pieces)}

    @classmethod
    def from_json(cls, data: dict[str, Any], vocab_size: int | None = None) -> CharTokenizer:
        """The tokenizer that `to_json` wrote.

        Raises:
          UserError: data of another kind.
        """
        pieces = data.get("pieces")
        if not isinstance(pieces, list) or not all(isinstance(piece, str) for piece in pieces):
            raise UserError("'pieces' must be a list of texts")
        return cls(pieces, vocab_size)

    def save(self, folder: Path) -> None:
        """Writes what `load_tokenizer` reads."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.to_json(), ensure_ascii=False)
        (folder / CHARACTERS).write_text(text + "\n", encoding="utf-8")
