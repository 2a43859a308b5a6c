"""The tokenizer that a GGUF file's metadata describes.

transformers can do this too, but only where torch is installed.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, decoders, normalizers, processors
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE

from ttc_jax.errors import UserError
from ttc_jax.models.gguf_metadata import Metadata
from ttc_jax.models.gguf_words import WORDS
from ttc_jax.models.hub import transformers

ADVICE = "or give the path of another tokenizer by --config.generator.tokenizer=PATH"
# Kinds of token in `tokenizer.ggml.token_type`.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4
KINDS = range(7)  # 0 undefined, 5 unused, 6 a byte
# Ids that llama.cpp takes for granted in a SentencePiece vocabulary.
USUAL = {"bos": 1, "eos": 2, "unknown": 0}
ROLES = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
BLANK = "▁"  # how SentencePiece writes a blank
MAX_TOKEN = 1024  # characters; putting longer ones together from others would take for ever


def build(metadata: Mapping[str, Any], where: str) -> Any:
    """A fast tokenizer of transformers, whose ids are those of the file.

    Args:
      metadata: of the file, by key.
      where: the file, for errors.

    Raises:
      UserError: no tokenizer in the file, one that is not whole, or a kind that is not supported.
    """
    data = Metadata(metadata, where, ADVICE)
    builders = {"gpt2": _byte_level, "llama": _sentence_piece}
    model = metadata.get("tokenizer.ggml.model")
    if not isinstance(model, str) or model not in builders:
        raise UserError(
            f"{where}: its tokenizer ({model!r}) is not supported (tokenizer.ggml.model); "
            f"supported are {', '.join(builders)}; {ADVICE}"
        )
    tokens = _read_tokens(data)
    backend, bos = builders[model](data, tokens)
    backend.add_tokens(
        [
            # Found in the text as it was written, as llama.cpp does, before any blank is rewritten.
            AddedToken(text, normalized=False, special=kind != USER_DEFINED)
            for text, kind in zip(tokens.texts, tokens.kinds, strict=True)
            if kind in (UNKNOWN, CONTROL, USER_DEFINED)
        ]
    )
    special = {
        name: tokens.texts[tokens.roles[role]]
        for name, role in ROLES.items()
        if role in tokens.roles
    }
    tokenizer = transformers().PreTrainedTokenizerFast(tokenizer_object=backend, **special)
    backend = tokenizer.backend_tokenizer
    if data.flag("tokenizer.ggml.add_bos_token", bos):
        if (first := tokens.roles.get("bos")) is None:
            data.refuse("tokenizer.ggml.bos_token_id", "is missing, but every text begins with it")
        backend.post_processor = processors.TemplateProcessing(
            single=["first", "$A"],
            special_tokens=[{"id": "first", "ids": [first], "tokens": [tokens.texts[first]]}],
        )
    else:
        backend.post_processor = processors.Sequence([])
    if "tokenizer.chat_template" in metadata:
        tokenizer.chat_template = data.text("tokenizer.chat_template")
    _check_ids(data, tokens, backend)
    return tokenizer


def end_ids(metadata: Mapping[str, Any], where: str) -> list[int]:
    """Tokens that end a turn or a message, beside the end of the text that the tokenizer names."""
    data = Metadata(metadata, where)
    roles = _read_roles(data, len(data.texts("tokenizer.ggml.tokens")))
    return sorted({roles[role] for role in ("eos", "eot", "eom") if role in roles})


@dataclasses.dataclass(frozen=True)
class Tokens:
    """The tokens of a file, by id: their texts and kinds; and the ids of those with a role."""

    texts: Sequence[str]
    kinds: Sequence[int]
    roles: Mapping[str, int]


def _read_tokens(data: Metadata) -> Tokens:
    key = "tokenizer.ggml.tokens"
    # Empty tokens are called as llama.cpp calls them: a vocabulary has one of each text.
    texts = [text or f"[EMPTY_{i}]" for i, text in enumerate(data.texts(key))]
    ids: dict[str, int] = {}
    for i, text in enumerate(texts):
        if len(text) > MAX_TOKEN:
            data.refuse(key, f"has a token, {i}, of {len(text)} characters; at most {MAX_TOKEN}")
        if (first := ids.setdefault(text, i)) != i:
            data.refuse(key, f"has {text!r} twice, as tokens {first} and {i}")
    kinds = [NORMAL] * len(texts)
    if data.has(types := "tokenizer.ggml.token_type"):
        kinds = data.numbers(types, len(texts)).tolist()
        if unknown := [kind for kind in kinds if kind not in KINDS]:
            data.refuse(types, f"holds {unknown[0]}; kinds of tokens are {KINDS[0]} to {KINDS[-1]}")
    roles = _read_roles(data, len(texts))
    if data.values.get("tokenizer.ggml.model") == "llama":
        roles = {role: i for role, i in USUAL.items() if i < len(texts)} | roles
    return Tokens(texts, kinds, roles)


def _read_roles(data: Metadata, count: int) -> dict[str, int]:
    """Ids of the tokens to which the file gives a role, such as the beginning of a text."""
    found = (re.fullmatch(r"tokenizer\.ggml\.(\w+)_token_id", key) for key in data.values)
    return {match[1]: data.whole(match[0], most=count - 1) for match in found if match}


def _byte_level(data: Metadata, tokens: Tokens) -> tuple[Backend, bool]:
    """Merges over bytes, each byte written as one printable character."""
    name = data.text("tokenizer.ggml.pre", "") or "default"
    if name not in WORDS:
        raise UserError(
            f"{data.where}: its pre-tokenizer {name!r} is not supported (tokenizer.ggml.pre); "
            f"supported are {', '.join(WORDS)}; {ADVICE}"
        )
    words = WORDS[name]
    vocabulary = {text: i for i, text in enumerate(tokens.texts)}
    merges = []
    for i, merge in enumerate(data.texts("tokenizer.ggml.merges")):
        left, blank, right = merge.partition(" ")
        if not blank or not {left, right, left + right} <= vocabulary.keys():
            data.refuse("tokenizer.ggml.merges", f"has {merge!r} as entry {i}, no pair of tokens")
        merges.append((left, right))
    backend = Backend(BPE(vocabulary, merges, ignore_merges=words.whole_words))
    if (normalizer := words.normalizer()) is not None:
        backend.normalizer = normalizer
    backend.pre_tokenizer = words.pre_tokenizer()
    backend.decoder = decoders.ByteLevel()
    return backend, words.bos


def _sentence_piece(data: Metadata, tokens: Tokens) -> tuple[Backend, bool]:
    """Merges over characters, blanks written as "▁", bytes as a last resort."""
    gemma = data.text("general.architecture").startswith("gemma")
    scores: Sequence[float]
    if gemma:  # the order of the merges is that of the tokens
        scores = range(0, -len(tokens.texts), -1)
    else:
        scores = data.numbers("tokenizer.ggml.scores", len(tokens.texts)).tolist()
    unknown = tokens.roles.get("unknown")
    backend = Backend(
        BPE(
            {text: i for i, text in enumerate(tokens.texts)},
            _merges(tokens, scores),
            unk_token=None if unknown is None else tokens.texts[unknown],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    rewriting: list[Any] = [normalizers.Replace(" ", BLANK)]
    decoding: list[Any] = [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse()]
    if data.flag("tokenizer.ggml.add_space_prefix", not gemma):
        # Of a text, and of what follows a special token; before blanks too, unlike Metaspace.
        rewriting.insert(0, normalizers.Prepend(BLANK))
        decoding.append(decoders.Strip(content=" ", left=1, right=0))
    backend.normalizer = normalizers.Sequence(rewriting)
    backend.decoder = decoders.Sequence(decoding)
    return backend, True


def _merges(tokens: Tokens, scores: Sequence[float]) -> list[tuple[str, str]]:
    """The merges that a vocabulary implies: each way to put a token together, best tokens first.

    Only normal tokens take part: the others are found whole, or stand for bytes.
    """
    ranked = sorted(zip(scores, tokens.texts, tokens.kinds, strict=True), key=lambda it: -it[0])
    special = (UNKNOWN, CONTROL, USER_DEFINED)
    whole = [text for _, text, kind in ranked if kind not in special]
    known = {*whole}
    return [
        (text[:cut], text[cut:])
        for text in whole
        for cut in range(1, len(text))
        if text[:cut] in known and text[cut:] in known
    ]


def _check_ids(data: Metadata, tokens: Tokens, backend: Backend) -> None:
    """Refuses a tokenizer that gives a token another id than the file does, or adds one to them."""
    made, key = backend.get_vocab(with_added_tokens=True), "tokenizer.ggml.tokens"
    wanted = {text: i for i, text in enumerate(tokens.texts)}
    if made == wanted:
        return
    for text, i in wanted.items():
        if made.get(text) != i:
            data.refuse(key, f"has {text!r} as token {i}, which became {made.get(text)}")
    data.refuse(key, f"lacks {min(made.keys() - wanted.keys())!r}, which is needed")
