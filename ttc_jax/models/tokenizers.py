"""Text to tokens and back: what a tokenizer is, and those of public checkpoints."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ttc_jax.errors import UserError, naming
from ttc_jax.models import checkpoints, gguf, gguf_tokenizer, hub, templates, tokenizer_files
from ttc_jax.models.characters import CHARACTERS, CharTokenizer
from ttc_jax.models.vocabulary import mask_of
from ttc_jax.text import check_text

# Tokens that end a turn or a text, beyond the one a tokenizer names as its end of sequence.
ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<end_of_turn>",
    "<|end_of_text|>",
    "<|endoftext|>",
)
MOST_TOKENS = 1 << 24  # that a tokenizer may have: many times those of any public one
_log = logging.getLogger(__name__)


@runtime_checkable
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

        Raises:
          UserError: a text with a lone surrogate, or with a token that the model does not have.
        """
        ...

    def decode(self, tokens: Sequence[int], inside: bool = False, special: bool = False) -> str:
        """The text.

        Args:
          inside: as it stands behind other text.
          special: with special tokens, as the tokenizer writes them.
        """
        ...

    def chat(
        self, messages: Sequence[dict[str, str]], arguments: Mapping[str, Any] | None = None
    ) -> list[int]:
        """A conversation ({"role", "content"} each) up to where the assistant answers.

        Args:
          arguments: of the chat template, such as {"enable_thinking": False}.

        Raises:
          UserError: there is no chat template, or it does not take these messages or arguments.
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


class HFTokenizer:
    """A fast tokenizer of transformers.

    It may have added tokens that the model's embedding has no rows for, as some public checkpoints
    have and never use: a text that holds one of them is refused.

    Args:
      tokenizer: a `transformers.PreTrainedTokenizerFast`.
      eos_ids: that end a generation, beyond the tokenizer's own.
      vocab_size: V of the model; None: as many as there are tokens.

    Raises:
      UserError: ordinary tokens with ids of V or more.
    """

    def __init__(self, tokenizer: Any, eos_ids: Iterable[int] = (), vocab_size: int | None = None):
        self._tokenizer = tokenizer
        added, self._known = tokenizer.get_added_vocab(), _size(tokenizer)
        self.vocab_size = V = self._known if vocab_size is None else vocab_size
        if self._known > MOST_TOKENS:
            raise UserError(f"a tokenizer with the token {self._known - 1:,}: its file is damaged")
        if {token for token, i in tokenizer.get_vocab().items() if i >= V} - added.keys():
            raise UserError(
                f"a tokenizer of {self._known} tokens for a model of {V}; they do not belong "
                "together"
            )
        own = tokenizer.eos_token_id
        if own is not None and own >= V:
            _log.warning(
                "no answer can end with %s: the model has no such token", tokenizer.eos_token
            )
        ends = {*eos_ids, own, *(added[end] for end in ENDS if end in added)}
        self.eos_ids = tuple(sorted(i for i in ends if i is not None and i < V))
        start = self._guarded(lambda: tokenizer("")["input_ids"][:1])
        self.bos_id: int | None = start[0] if start == [tokenizer.bos_token_id] else None

    def encode(self, text: str, add_bos: bool = False, inside: bool = False) -> list[int]:
        """Token ids; see `Tokenizer.encode`."""
        for before in "\na" if inside else "":  # text merges with one of them at most
            ids, both = self.encode(before), self.encode(before + text)
            if both[: len(ids)] == ids:
                return both[len(ids) :]
        check_text(text, "the text for the model")
        bos = [self.bos_id] if add_bos and self.bos_id is not None else []
        ids = bos + self._guarded(lambda: self._tokenizer.encode(text, add_special_tokens=False))
        if unknown := [i for i in ids if i >= self.vocab_size]:
            token = self._tokenizer.convert_ids_to_tokens(unknown[0])
            raise UserError(
                f"the text for the model holds {token!r}, the tokenizer's token {unknown[0]}, and "
                f"the model's end at {self.vocab_size - 1}: take it out, or give the path of "
                "another tokenizer by generator.tokenizer"
            )
        return ids

    def _guarded(self, encode: Callable[[], list[int]]) -> list[int]:
        """The ids, or one line where the tokenizer's file has no token for a text."""
        try:
            return encode()
        except Exception as error:  # those of its Rust code have no kind of their own
            raise UserError(f"the tokenizer cannot write a text in its tokens: {error}") from error

    def decode(self, tokens: Sequence[int], inside: bool = False, special: bool = False) -> str:
        """The text; see `Tokenizer.decode`."""
        before = self.encode("a")[-1:] if inside else []
        text = self._tokenizer.decode(
            [*before, *(int(token) for token in tokens)],
            skip_special_tokens=not special,
            clean_up_tokenization_spaces=False,
        )
        return text[len(self.decode(before)) :] if inside else text

    def chat(
        self, messages: Sequence[dict[str, str]], arguments: Mapping[str, Any] | None = None
    ) -> list[int]:
        """A conversation up to where the assistant answers; see `Tokenizer.chat`."""
        if not self._tokenizer.chat_template:
            raise UserError(
                "the tokenizer has no chat template: set prompt.chat=False, and give texts"
            )
        try:
            template = self._tokenizer.get_chat_template()
        except ValueError as error:  # several, and none of them the default
            reason = " ".join(str(error).split())
            raise UserError(f"the tokenizer's chat template cannot be chosen: {reason}") from error
        if not isinstance(template, str):
            raise UserError(
                f"the tokenizer's chat template is {type(template).__name__} and must be text"
            )
        for message in messages:  # the way to the template would join halves of surrogate pairs
            check_text(message["content"], f"the turn of the {message['role']}")
        special = self._tokenizer.special_tokens_map
        return self.encode(templates.render(template, messages, special, arguments or {}))

    @functools.cache  # noqa: B019, a handful of tokenizers live as long as the process
    def containing(self, text: str) -> np.ndarray:
        """[V] bool: tokens whose text contains `text`, read-only."""
        return mask_of(self.texts(), text)

    @functools.cache  # noqa: B019, as above
    def texts(self) -> Sequence[str]:
        """[V] the text of each token; see `Tokenizer.texts`."""
        # It depends on its place (SentencePiece drops a leading blank), so it is taken behind
        # another token.
        before = self.encode("a")[-1:]
        skip = len(self.decode(before))
        known = min(self._known, self.vocab_size)
        texts = self._tokenizer.backend_tokenizer.decode_batch(
            [[*before, token] for token in range(known)], skip_special_tokens=True
        )
        return [text[skip:] for text in texts] + [""] * (self.vocab_size - known)

    @functools.cache  # noqa: B019, as above
    def vocabulary(self) -> Mapping[str, int]:
        """Ids of all tokens but special ones; see `Tokenizer.vocabulary`."""
        added = self._tokenizer.added_tokens_decoder.items()
        special = {*self._tokenizer.all_special_ids, *(i for i, token in added if token.special)}
        known = self._tokenizer.get_vocab().items()
        return {name: i for name, i in known if i not in special and i < self.vocab_size}

    def save(self, folder: Path) -> None:
        """Writes what `load_tokenizer` reads."""
        self._tokenizer.save_pretrained(folder)
        ends = json.dumps({"eos_token_id": list(self.eos_ids)})
        (folder / "generation_config.json").write_text(ends + "\n", encoding="utf-8")


def load_tokenizer(
    path: str | Path, vocab_size: int | None = None, *, model: str | Path = ""
) -> Tokenizer:
    """The tokenizer of a model folder, a `.gguf` file or a Hugging Face hub name.

    Args:
      path: as for `weights.load_generator`, or a folder with just a tokenizer.
      vocab_size: V of the model it will serve, `model.config.vocab_size`.
      model: that model, where its tokenizer comes from elsewhere: its folder names tokens that end
        an answer too.

    Raises:
      UserError: no such path, no tokenizer there, or one with other tokens than the model knows.
    """
    found, named = (
        folder / checkpoints.TOKENIZER if checkpoints.is_model(folder) else folder
        for folder in (hub.resolve(place, hub.WITHOUT_WEIGHTS) for place in (path, model or path))
    )
    if (found / CHARACTERS).is_file():
        data = hub.read_json(found / CHARACTERS)
        with naming(found / CHARACTERS):
            return CharTokenizer.from_json(data, vocab_size)
    if found.suffix == ".gguf":
        metadata, _ = gguf.read_header(found)
        tokenizer = gguf_tokenizer.build(metadata, str(found))
    else:
        tokenizer = tokenizer_files.read_folder(found)
    try:
        ends = _ends(named, vocab_size or _size(tokenizer))
    except UserError as error:
        if named == found or named.suffix != ".gguf":
            raise
        ends = []  # what is wrong with the file's tokenizer may be why another one is given
        _log.warning("the tokens that end an answer are those of %s alone: %s", found, error)
    with naming(path):
        return HFTokenizer(tokenizer, ends, vocab_size)


def _ends(model: Path, vocab_size: int) -> list[int]:
    """The tokens that a model's file or folder says end a generation."""
    if model.suffix == ".gguf":
        metadata, _ = gguf.read_header(model)
        return gguf_tokenizer.end_ids(metadata, str(model))
    return tokenizer_files.end_tokens(model, vocab_size)


def _size(tokenizer: Any) -> int:
    """Tokens of a tokenizer of transformers; its ids may have gaps."""
    return 1 + max(tokenizer.get_vocab().values(), default=-1)
