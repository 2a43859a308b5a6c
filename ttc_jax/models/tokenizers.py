"""Text to tokens and back: a built-in character tokenizer, and those of public checkpoints."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ttc_jax.errors import UserError
from ttc_jax.models import checkpoints, gguf, gguf_tokenizer, hub

# Tokens that end a turn or a text, beyond the one a tokenizer names as its end of sequence.
ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<end_of_turn>",
    "<|end_of_text|>",
    "<|endoftext|>",
)
CHARACTERS = "characters.json"
TODAY = "26 Jul 2024"  # for templates that state the date (Llama 3.2): prompts stay the same


class Tokenizer(Protocol):
    """What the rest of the code asks of a tokenizer."""

    vocab_size: int  # V, of the model: it may know more ids than there are tokens
    eos_ids: tuple[int, ...]  # every token that ends a generation
    bos_id: int | None  # the token that every sequence of the model starts with, if any

    def encode(self, text: str, add_bos: bool = False, inside: bool = False) -> list[int]:
        """Token ids.

        Args:
          add_bos: puts the model's first token before them, if it has one.
          inside: as they stand behind other text: SentencePiece begins a text with a blank.
        """
        ...

    def decode(self, tokens: Sequence[int], inside: bool = False) -> str:
        """The text, without special tokens; `inside` as it stands behind other text."""
        ...

    def chat(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """A conversation ({"role", "content"} each) up to where the assistant answers.

        Raises:
          UserError: there is no chat template, or it does not take these messages.
        """
        ...

    def containing(self, text: str) -> np.ndarray:
        """[V] bool: tokens whose text contains `text`, read-only."""
        ...

    def texts(self) -> Sequence[str]:
        """[V] the text of each token, as it stands behind other text; "" of special tokens."""
        ...

    def vocabulary(self) -> Mapping[str, int]:
        """Ids of all tokens but special ones, by how the tokenizer writes them."""
        ...

    def save(self, folder: Path) -> None:
        """Writes what `load_tokenizer` reads."""
        ...


class CharTokenizer:
    """Characters and given multi-character pieces; the longest piece wins.

    Ids are `<pad>` 0, `<eos>` 1, then the pieces in the order given.
    """

    pad_id = 0

    def __init__(self, pieces: Iterable[str]):
        self.pieces = tuple(dict.fromkeys(pieces))
        self.vocab_size = 2 + len(self.pieces)
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

    def decode(self, tokens: Sequence[int], inside: bool = False) -> str:
        """The text, without special tokens."""
        del inside
        return "".join(self.pieces[token - 2] for token in tokens if 2 <= token < self.vocab_size)

    def chat(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """Always a UserError: there is no chat template."""
        raise UserError("the character tokenizer has no chat template; set prompt.chat=False")

    @functools.cache  # noqa: B019, a handful of tokenizers live as long as the process
    def containing(self, text: str) -> np.ndarray:
        """[V] bool: tokens whose text contains `text`, read-only."""
        return _containing(self, text)

    def texts(self) -> Sequence[str]:
        """[V] the text of each token."""
        return ("", "", *self.pieces)

    def vocabulary(self) -> Mapping[str, int]:
        """Ids of the pieces."""
        return self._ids

    def to_json(self) -> dict[str, Any]:
        """Plain data, read back by `from_json`."""
        return {"pieces": list(self.pieces)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> CharTokenizer:
        """The tokenizer that `to_json` wrote."""
        return cls(data["pieces"])

    def save(self, folder: Path) -> None:
        """Writes what `load_tokenizer` reads."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.to_json(), ensure_ascii=False)
        (folder / CHARACTERS).write_text(text + "\n", encoding="utf-8")


class HFTokenizer:
    """A fast tokenizer of transformers.

    Args:
      tokenizer: a `transformers.PreTrainedTokenizerFast`.
      eos_ids: that end a generation, beyond the tokenizer's own.
      vocab_size: V of the model; None: as many as there are tokens.
    """

    def __init__(self, tokenizer: Any, eos_ids: Iterable[int] = (), vocab_size: int | None = None):
        self._tokenizer = tokenizer
        self.vocab_size = len(tokenizer) if vocab_size is None else vocab_size
        added = tokenizer.get_added_vocab()
        ends = {*eos_ids, tokenizer.eos_token_id, *(added[end] for end in ENDS if end in added)}
        self.eos_ids = tuple(sorted(i for i in ends if i is not None and i < self.vocab_size))
        start = tokenizer("")["input_ids"][:1]
        self.bos_id: int | None = start[0] if start == [tokenizer.bos_token_id] else None

    def encode(self, text: str, add_bos: bool = False, inside: bool = False) -> list[int]:
        """Token ids; see `Tokenizer.encode`."""
        for before in "\na" if inside else "":  # text merges with one of them at most
            ids, both = self.encode(before), self.encode(before + text)
            if both[: len(ids)] == ids:
                return both[len(ids) :]
        bos = [self.bos_id] if add_bos and self.bos_id is not None else []
        return bos + self._tokenizer.encode(text, add_special_tokens=False)

    def decode(self, tokens: Sequence[int], inside: bool = False) -> str:
        """The text, without special tokens; see `Tokenizer.decode`."""
        before = self.encode("a")[-1:] if inside else []
        text = self._tokenizer.decode(
            [*before, *(int(token) for token in tokens)],
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        return text[len(self.decode(before)) :] if inside else text

    def chat(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """A conversation up to where the assistant answers; see `Tokenizer.chat`."""
        if not self._tokenizer.chat_template:
            raise UserError("the tokenizer has no chat template; set prompt.chat=False")
        try:
            return self._tokenizer.apply_chat_template(
                list(messages),
                add_generation_prompt=True,
                tokenize=True,
                return_dict=False,
                date_string=TODAY,
            )
        except Exception as error:  # the template comes with the checkpoint, and may raise anything
            raise UserError(
                f"the chat template does not take this conversation: {error}"
            ) from error

    @functools.cache  # noqa: B019, a handful of tokenizers live as long as the process
    def containing(self, text: str) -> np.ndarray:
        """[V] bool: tokens whose text contains `text`, read-only."""
        return _containing(self, text)

    @functools.cache  # noqa: B019, as above
    def texts(self) -> Sequence[str]:
        """[V] the text of each token; see `Tokenizer.texts`."""
        # It depends on its place (SentencePiece drops a leading blank), so it is taken behind
        # another token.
        before = self.encode("a")[-1:]
        skip = len(self.decode(before))
        texts = self._tokenizer.backend_tokenizer.decode_batch(
            [[*before, token] for token in range(len(self._tokenizer))], skip_special_tokens=True
        )
        return [text[skip:] for text in texts] + [""] * (self.vocab_size - len(texts))

    @functools.cache  # noqa: B019, as above
    def vocabulary(self) -> Mapping[str, int]:
        """Ids of all tokens but special ones; see `Tokenizer.vocabulary`."""
        added = self._tokenizer.added_tokens_decoder.items()
        special = {*self._tokenizer.all_special_ids, *(i for i, token in added if token.special)}
        return {name: i for name, i in self._tokenizer.get_vocab().items() if i not in special}

    def save(self, folder: Path) -> None:
        """Writes what `load_tokenizer` reads."""
        self._tokenizer.save_pretrained(folder)
        ends = json.dumps({"eos_token_id": list(self.eos_ids)})
        (folder / "generation_config.json").write_text(ends + "\n", encoding="utf-8")


def _containing(tokenizer: Tokenizer, text: str) -> np.ndarray:
    """See `Tokenizer.containing`."""
    mask = np.array([text in it for it in tokenizer.texts()], bool)
    mask.flags.writeable = False
    return mask


def load_tokenizer(path: str | Path, vocab_size: int | None = None) -> Tokenizer:
    """The tokenizer of a model folder, a `.gguf` file or a Hugging Face hub name.

    Args:
      path: as for `weights.load_generator`, or a folder with just a tokenizer.
      vocab_size: V of the model it will serve, `model.config.vocab_size`.

    Raises:
      UserError: no such path, no tokenizer there, or one with more tokens than the model knows.
    """
    found = hub.resolve(path)
    if checkpoints.is_model(found):
        found = found / checkpoints.TOKENIZER
        if (found / CHARACTERS).is_file():
            return CharTokenizer.from_json(hub.read_json(found / CHARACTERS))
    if found.suffix == ".gguf":
        metadata, _ = gguf.read_header(found)
        tokenizer = gguf_tokenizer.build(metadata, str(found))
        ends = gguf_tokenizer.end_ids(metadata, str(found))
    else:
        tokenizer, ends = _from_folder(found), _generation_ends(found)
    if vocab_size is not None and tokenizer.vocab_size > vocab_size:
        raise UserError(
            f"{path}: a tokenizer of {tokenizer.vocab_size} tokens for a model of {vocab_size}; "
            "they do not belong together"
        )
    return HFTokenizer(tokenizer, ends, vocab_size)


def _from_folder(folder: Path) -> Any:
    if not any(folder.glob("tokenizer*")):
        raise UserError(f"{folder}: no tokenizer; expected tokenizer.json")
    try:
        return hub.transformers().AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # whatever it raises, the files are at fault
        raise UserError(
            f"{folder}: its tokenizer cannot be read: {' '.join(str(error).split())}"
        ) from error


def _generation_ends(folder: Path) -> list[int]:
    file = folder / "generation_config.json"
    ends = hub.read_json(file).get("eos_token_id", []) if file.is_file() else []
    return [ends] if isinstance(ends, int) else ends
