"""Tokenizers: the built-in one, and Hugging Face folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import tokenizers
from hypothesis import strategies as st
from tokenizers import decoders, normalizers, pre_tokenizers, trainers

from ttc_jax.errors import UserError
from ttc_jax.models import gguf_tokenizer
from ttc_jax.models.characters import CharTokenizer
from ttc_jax.models.hub import transformers
from ttc_jax.models.tokenizers import HFTokenizer, load_tokenizer

CORPUS = [
    "the total is 12 apples",
    "total: 345.67\n\nso 12+30=42",
    "naïve café, don't I'll\n\n",
] * 8
AWKWARD = "The total is 12345 apples.\n\n  so 日本 🎉 don't\tnaïve\n"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


class TestCharTokenizer:
    tokenizer = CharTokenizer(["\\boxed{", *"0123456789+-=}\n ", "\\", "<<", "<<="])

    def test_longest_piece_wins(self) -> None:
        encode, ids = self.tokenizer.encode, {p: i for i, p in enumerate(self.tokenizer.pieces, 2)}
        assert encode("\\boxed{7}") == [ids["\\boxed{"], ids["7"], ids["}"]]
        assert encode("\\7") == [ids["\\"], ids["7"]]
        assert encode("<<=<<") == [ids["<<="], ids["<<"]]
        assert encode("") == []

    @hypothesis.given(st.lists(st.sampled_from(tokenizer.pieces)).map("".join))
    def test_round_trip(self, text: str) -> None:
        assert self.tokenizer.decode(self.tokenizer.encode(text)) == text

    def test_special_and_unknown_ids_have_no_text(self) -> None:
        assert self.tokenizer.decode([0, 1, *self.tokenizer.encode("4\n"), 1, 0, 999]) == "4\n"
        assert self.tokenizer.eos_ids == (1,)
        assert self.tokenizer.bos_id is None

    def test_unknown_character(self) -> None:
        with pytest.raises(UserError, match="does not know the character 'x'"):
            self.tokenizer.encode("4+x")

    def test_no_chat(self) -> None:
        with pytest.raises(UserError, match="no chat template"):
            self.tokenizer.chat([{"role": "user", "content": "1"}])

    def test_containing(self) -> None:
        mask = self.tokenizer.containing("<<")
        assert mask.shape == (self.tokenizer.vocab_size,)
        assert mask.sum() == 2
        assert not self.tokenizer.containing("no such").any()
        with pytest.raises(ValueError, match="read-only"):
            mask[0] = True

    def test_travels(self, tmp_path: Path) -> None:
        again = CharTokenizer.from_json(json.loads(json.dumps(self.tokenizer.to_json())))
        assert again.pieces == self.tokenizer.pieces
        self.tokenizer.save(tmp_path / "model" / "tokenizer")
        (tmp_path / "model" / "model.json").touch()
        loaded = load_tokenizer(tmp_path / "model")
        assert isinstance(loaded, CharTokenizer)
        assert loaded.pieces == self.tokenizer.pieces


def trained(*before: pre_tokenizers.PreTokenizer, words: bool, nfc: bool = False) -> Any:
    """A byte-level tokenizer of transformers, trained on the corpus."""
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*before, byte_level])
    backend.decoder = decoders.ByteLevel()
    if nfc:
        backend.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    made = transformers().PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", bos_token="<|im_start|>"
    )
    made.chat_template = TEMPLATE
    return made


def metadata_of(made: Any, pre: str, **more: Any) -> dict[str, Any]:
    """What a GGUF file would say of it."""
    model = json.loads(made.backend_tokenizer.to_str())["model"]
    tokens = made.convert_ids_to_tokens(range(len(made)))
    return {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if token in SPECIAL else 1 for token in tokens],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in model["merges"]],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": TEMPLATE,
        **more,
    }


@pytest.fixture(scope="module")
def plain() -> Any:
    return trained(pre_tokenizers.Digits(individual_digits=True), words=True)


@pytest.fixture
def folder(plain: Any, tmp_path: Path) -> Path:
    plain.save_pretrained(tmp_path)
    return tmp_path


class TestHFTokenizer:
    def test_folder(self, folder: Path) -> None:
        tokenizer = load_tokenizer(folder)
        assert tokenizer.decode(tokenizer.encode(AWKWARD)) == AWKWARD
        assert tokenizer.encode("<|im_start|>") == [1]
        assert tokenizer.decode([1, *tokenizer.encode("the total"), 2, 99_999]) == "the total"
        assert tokenizer.eos_ids == (0, 2)  # <|endoftext|> ends a text too
        assert tokenizer.bos_id is None  # it has one, but no sequence starts with it
        assert tokenizer.encode("a", add_bos=True) == tokenizer.encode("a")

    def test_generation_config_adds_ends(self, folder: Path) -> None:
        (folder / "generation_config.json").write_text('{"eos_token_id": [1, 2]}')
        assert load_tokenizer(folder).eos_ids == (0, 1, 2)
        (folder / "generation_config.json").write_text('{"eos_token_id": 1}')
        assert load_tokenizer(folder).eos_ids == (0, 1, 2)

    def test_bos_of_a_model_that_wants_one(self, plain: Any) -> None:
        tokenizer = HFTokenizer(
            gguf_tokenizer.build(
                metadata_of(plain, "smollm", **{"tokenizer.ggml.add_bos_token": True}), "x.gguf"
            )
        )
        assert tokenizer.bos_id == 1
        assert tokenizer.encode("a", add_bos=True) == [1, *tokenizer.encode("a")]

    def test_chat(self, folder: Path) -> None:
        tokenizer = load_tokenizer(folder)
        messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "12\n\n"}]
        text = "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\n12\n\n<|im_end|>\n"
        assert tokenizer.chat(messages) == tokenizer.encode(text + "<|im_start|>assistant\n")

    def test_chat_does_not_change_with_the_day(self, folder: Path) -> None:
        template = "{{ date_string if date_string is defined else strftime_now('%d %b %Y') }}"
        (folder / "chat_template.jinja").write_text(template)
        tokenizer = load_tokenizer(folder)
        assert tokenizer.decode(tokenizer.chat([{"role": "user", "content": "u"}])) == "26 Jul 2024"

    def test_chat_that_the_template_refuses(self, plain: Any, folder: Path) -> None:
        (folder / "chat_template.jinja").write_text("{{ raise_exception('no system turn') }}")
        with pytest.raises(UserError, match="no system turn"):
            load_tokenizer(folder).chat([{"role": "system", "content": "s"}])
        (folder / "chat_template.jinja").unlink()
        with pytest.raises(UserError, match="no chat template"):
            load_tokenizer(folder).chat([{"role": "user", "content": "u"}])

    def test_containing_finds_merged_tokens(self, folder: Path) -> None:
        tokenizer = load_tokenizer(folder, vocab_size=512)
        mask = tokenizer.containing("\n")
        assert mask.shape == (512,)
        assert tokenizer.vocab_size == 512
        expected = [i for i in range(3, 512) if "\n" in tokenizer.decode([i])]
        assert list(np.flatnonzero(mask)) == expected
        assert len(expected) > 1  # "\n\n" was merged
        assert mask is tokenizer.containing("\n")

    def test_travels(self, folder: Path, tmp_path: Path) -> None:
        tokenizer = load_tokenizer(folder, vocab_size=512)
        tokenizer.save(tmp_path / "model" / "tokenizer")
        (tmp_path / "model" / "model.json").touch()
        again = load_tokenizer(tmp_path / "model", vocab_size=512)
        assert again.encode(AWKWARD) == tokenizer.encode(AWKWARD)
        assert again.eos_ids == tokenizer.eos_ids
        assert again.chat([{"role": "user", "content": "u"}])

    def test_mistakes(self, folder: Path, tmp_path: Path) -> None:
        def refusal(path: Path, vocab_size: int | None = None) -> str:
            with pytest.raises(UserError) as caught:
                load_tokenizer(path, vocab_size)
            assert "\n" not in str(caught.value)
            return str(caught.value)

        size = load_tokenizer(folder).vocab_size
        assert f"{size} tokens for a model of {size - 1}" in refusal(folder, size - 1)
        assert "no such file or folder" in refusal(tmp_path / "absent")
        empty = tmp_path / "empty"
        empty.mkdir()
        assert "no tokenizer; expected tokenizer.json" in refusal(empty)
        (empty / "tokenizer.json").write_text("{}")
        assert "its tokenizer cannot be read" in refusal(empty)
