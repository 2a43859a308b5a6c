"""The tokenizer that a GGUF file's metadata describes.

transformers can do this too, but only where torch is installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Regex, decoders, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE

from ttc_jax.errors import UserError
from ttc_jax.models.hub import transformers

CONTROL, USER_DEFINED = 3, 4  # kinds of token in `tokenizer.ggml.token_type`

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# How a byte-level vocabulary cuts text before merging, by `tokenizer.ggml.pre`: what is cut out
# first, and whether GPT-2's words are then cut out of the rest.
CUTS: dict[str, tuple[str | None, bool]] = {
    "default": (None, True),
    "gpt-2": (None, True),
    "smollm": (r"\p{N}", True),
    "llama-bpe": (_WORDS % "{1,3}", False),
    "qwen2": (_WORDS % "", False),
}


def build(metadata: Mapping[str, Any], where: str) -> Any:
    """A fast tokenizer of transformers.

    Args:
      metadata: of the file, by key.
      where: the file, for errors.

    Raises:
      UserError: no tokenizer in the file, or a kind that is not supported.
    """
    kind = metadata.get("tokenizer.ggml.model")
    builders = {"gpt2": _byte_level, "llama": _sentence_piece}
    if kind not in builders:
        raise UserError(
            f"{where}: its tokenizer ({kind!r}) is not supported; supported are "
            f"{', '.join(builders)}; or give a tokenizer by its own path"
        )
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    special = {
        f"{name}_token": tokens[metadata[f"tokenizer.ggml.{key}_token_id"]]
        for name, key in {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}.items()
        if f"tokenizer.ggml.{key}_token_id" in metadata
    }
    tokenizer = builders[kind](metadata, tokens, special, where)
    backend = tokenizer.backend_tokenizer
    kinds = metadata.get("tokenizer.ggml.token_type", ())
    for token, token_kind in zip(tokens, kinds, strict=False):
        if token_kind in (CONTROL, USER_DEFINED):
            control = token_kind == CONTROL
            backend.add_tokens([AddedToken(token, normalized=False, special=control)])
    starts = kind == "llama" or metadata.get("tokenizer.ggml.pre") == "llama-bpe"
    if metadata.get("tokenizer.ggml.add_bos_token", starts):
        bos = tokenizer.bos_token
        backend.post_processor = processors.TemplateProcessing(
            single=[bos, "$A"], special_tokens=[(bos, tokenizer.bos_token_id)]
        )
    else:
        backend.post_processor = processors.Sequence([])
    tokenizer.chat_template = metadata.get("tokenizer.chat_template")
    return tokenizer


def _byte_level(
    metadata: Mapping[str, Any], tokens: Sequence[str], special: Mapping[str, str], where: str
) -> Any:
    """Merges over bytes, each byte written as one printable character."""
    name = metadata.get("tokenizer.ggml.pre", "default")
    if name not in CUTS:
        raise UserError(
            f"{where}: its pre-tokenizer {name!r} is not supported; supported are "
            f"{', '.join(CUTS)}; or give a tokenizer by its own path"
        )
    cut, words = CUTS[name]
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    backend = Backend(BPE(vocabulary, merges, ignore_merges=name == "llama-bpe"))
    if name == "qwen2":
        backend.normalizer = normalizers.NFC()
    steps: list[Any] = [pre_tokenizers.Split(Regex(cut), "isolated")] if cut else []
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words))
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
    backend.decoder = decoders.ByteLevel()
    return transformers().PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def _sentence_piece(
    metadata: Mapping[str, Any], tokens: Sequence[str], special: Mapping[str, str], where: str
) -> Any:
    """Merges over characters, blanks written as "▁", bytes as a last resort."""
    package = transformers()
    if metadata["general.architecture"].startswith("gemma"):
        # Runs of blanks are stored as they are; and the order of the merges is that of the tokens.
        tokens = [token if token.strip(" ") else "▁" * len(token) for token in tokens]
        merges = _merges(tokens, range(0, -len(tokens), -1))
        make, options = package.GemmaTokenizer, {}
    else:
        merges = _merges(tokens, metadata["tokenizer.ggml.scores"])
        prefix = metadata.get("tokenizer.ggml.add_space_prefix", True)
        make, options = package.LlamaTokenizer, {"add_prefix_space": prefix}
    vocabulary = {token: i for i, token in enumerate(tokens)}
    return make(vocab=vocabulary, merges=merges, **options, **special)


def _merges(tokens: Sequence[str], scores: Sequence[float]) -> list[tuple[str, str]]:
    """The merges that a vocabulary implies: each way to put a token together, best tokens first."""
    known = set(tokens)
    ranked = sorted(zip(tokens, scores, strict=True), key=lambda pair: -pair[1])
    return [
        (token[:cut], token[cut:])
        for token, _ in ranked
        for cut in range(1, len(token))
        if token[:cut] in known and token[cut:] in known
    ]
