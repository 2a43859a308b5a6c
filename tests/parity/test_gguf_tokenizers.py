"""Tokenizers built from GGUF metadata against the real tokenizers that the metadata is made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers as package
from transformers.utils import sentencepiece_model_pb2_new as sentencepiece

from ttc_jax.models import gguf_tokenizer
from ttc_jax.models.tokenizers import HFTokenizer

TEXTS = (
    "Natalia sold 12,345.67 clips in April, and half as many in May. How many in all?",
    "a  b   c    d\n  e\n\n\n    f\tg\t\th \r\n\r\n",
    "  two blanks, then one ",
    " ",
    "\n\n \n\t \n   x",
    "don't I'LL WE'Ve 'RE it's",
    "e\u0301 cafe\u0301 n\u0303 \u212b \u1e9b\u0323 \u1100\u1161",
    "１２３ ①②③ ⅫⅩ ٣٤٥ ½ 1234567 3.14 1e-5",
    "naïve café — “quotes” … \u00a0\u2009\u3000x",
    "日本語 한국어 हिन्दी ไทย العربية עברית",
    "🇩🇪👩\u200d👧\u200d👦 \u200b\ufeff",
    "\\boxed{\\frac{1}{2}} $x^2$ a_b->c/d//e ====> !!!???...",
    "<|im_start|>user\nhi<|im_end|>\n<|eot_id|><|begin_of_text|>",
    "<think>\nso\n</think>\n\n<tool_call>",
    "x" * 300,
    " " * 70 + "x",
    "\x00\x01\x7f",
)

MISTRAL = {
    "a b": [264, 287],
    "a  b": [264, 28705, 287],
    "a   b": [264, 259, 287],
    "a    b": [264, 2287, 287],
    " a": [28705, 264],
    "  a": [259, 264],
    "   a": [2287, 264],
    " ": [259],
    "e\u0301": [317, 28949],
    "\u00e9": [1233],
    "a\n\n  b\tc": [264, 13, 13, 28705, 287, 12, 28717],
    "12,345.67": [28705, 28740, 28750, 28725, 28770, 28781, 28782, 28723, 28784, 28787],
    "日本🎉": [28705, 29142, 29119, 31862],
    "                               x": [359, 1417, 28705, 1318],
}


def of_json(file: Path, **more: Any) -> dict[str, Any]:
    """What llama.cpp's converter writes of a `tokenizer.json`."""
    data = json.loads(file.read_text(encoding="utf-8"))
    ids = data["model"]["vocab"] | {token["content"]: token["id"] for token in data["added_tokens"]}
    kinds = {token["content"]: 3 if token["special"] else 4 for token in data["added_tokens"]}
    tokens = sorted(ids, key=ids.__getitem__)
    merges = data["model"]["merges"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [kinds.get(token, 1) for token in tokens],
        "tokenizer.ggml.merges": [m if isinstance(m, str) else " ".join(m) for m in merges],
        **more,
    }


@pytest.mark.parametrize(
    ("folder", "pre", "bos"),
    [
        ("llama3_1", "llama-v3", 128_000),
        ("qwen3", "qwen2", None),
    ],
)
def test_byte_level(folder: str, pre: str, bos: int | None, tokenizers: Path) -> None:
    file = tokenizers / folder / "tokenizer.json"
    ids = {} if bos is None else {"tokenizer.ggml.bos_token_id": bos}
    ours = gguf_tokenizer.build(of_json(file, **{"tokenizer.ggml.pre": pre}, **ids), "x.gguf")
    theirs = package.Tokenizer.from_file(str(file))
    for text in TEXTS:
        wanted = theirs.encode(text, add_special_tokens=False).ids
        assert ours.encode(text, add_special_tokens=False) == wanted
        assert ours.decode(wanted) == theirs.decode(wanted, skip_special_tokens=False)
    assert HFTokenizer(ours).bos_id == bos


def test_mistral(tokenizers: Path) -> None:
    """Ids that the tokenizer.json of Mistral 7B gives."""
    model: Any = getattr(sentencepiece, "ModelProto")()  # noqa: B009, made when it is imported
    model.ParseFromString((tokenizers / "mistral_v1" / "tokenizer.model").read_bytes())
    metadata = {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [piece.piece for piece in model.pieces],
        "tokenizer.ggml.scores": [piece.score for piece in model.pieces],
        "tokenizer.ggml.token_type": [piece.type for piece in model.pieces],
    }
    tokenizer = HFTokenizer(gguf_tokenizer.build(metadata, "x.gguf"))
    for text, ids in MISTRAL.items():
        assert tokenizer.encode(text) == ids
        assert tokenizer.decode(ids) == text
    assert tokenizer.bos_id == 1
    assert tokenizer.eos_ids == (2,)
