"""Folders of tokenizers as they are found: end tokens, other formats, damaged and odd files."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.models.test_tokenizers import AWKWARD, TEMPLATE, trained
from ttc_jax.errors import UserError
from ttc_jax.experiments.sections import tokenizer_of
from ttc_jax.models.characters import CHARACTERS, CharTokenizer
from ttc_jax.models.tokenizers import Tokenizer, load_tokenizer

V = 512


@pytest.fixture(scope="module")
def made() -> Any:
    return trained(words=True)


@pytest.fixture
def folder(made: Any, tmp_path: Path) -> Path:
    made.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def edited(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


def refusal(path: Path, vocab_size: int | None = V) -> str:
    with pytest.raises(UserError) as caught:
        load_tokenizer(path, vocab_size)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestEndTokens:
    """Of this tokenizer 0 and 2 end a text already."""

    @pytest.mark.parametrize(
        ("generation", "config", "ends"),
        [
            ("1", None, (0, 1, 2)),
            ("[1, 5, 1]", None, (0, 1, 2, 5)),
            ("[]", None, (0, 2)),
            ("null", None, (0, 2)),
            ("null", "1", (0, 1, 2)),
            ("null", "null", (0, 2)),
            ("null", "[5, 1]", (0, 1, 2, 5)),
            (None, "1", (0, 1, 2)),
            ("5", "1", (0, 2, 5)),  # those of the config are then not asked for
            (str(V - 1), None, (0, 2, V - 1)),
        ],
    )
    def test_are_found(
        self, folder: Path, generation: str | None, config: str | None, ends: tuple[int, ...]
    ) -> None:
        if generation is not None:
            text = f'{{"eos_token_id": {generation}}}'
            (folder / "generation_config.json").write_text(text)
        if config is not None:
            text = f'{{"model_type": "llama", "eos_token_id": {config}}}'
            (folder / "config.json").write_text(text)
        assert load_tokenizer(folder, V).eos_ids == ends

    def test_of_a_text_model_inside_another(self, folder: Path) -> None:
        inside = '{"model_type": "gemma3", "text_config": {"eos_token_id": 1}}'
        (folder / "config.json").write_text(inside)
        assert load_tokenizer(folder, V).eos_ids == (0, 1, 2)

    @pytest.mark.parametrize(
        "value",
        ['"2"', "2.0", "-1", "true", "[[1]]", "[1, null]", "{}", "NaN", str(V), f"[0, {V}]"],
    )
    def test_of_other_kinds_are_refused(self, folder: Path, value: str) -> None:
        (folder / "generation_config.json").write_text(f'{{"eos_token_id": {value}}}')
        assert "generation_config.json: eos_token_id holds " in refusal(folder)

    def test_are_those_of_the_model_where_the_tokenizer_lies_elsewhere(
        self, folder: Path, tmp_path: Path
    ) -> None:
        model = tmp_path / "weights"
        model.mkdir()
        (model / "generation_config.json").write_text('{"eos_token_id": 1}')
        assert load_tokenizer(folder, V, model=model).eos_ids == (0, 1, 2)

    def test_sections_of_configs_name_tokenizers(self, folder: Path, tmp_path: Path) -> None:
        section = ConfigDict({"path": str(tmp_path / "weights"), "tokenizer": str(folder)})
        (tmp_path / "weights").mkdir()
        (tmp_path / "weights" / "generation_config.json").write_text('{"eos_token_id": 1}')
        assert tokenizer_of(section, V).eos_ids == (0, 1, 2)
        for fields in ({"path": str(folder)}, {"path": str(folder), "tokenizer": ""}):
            assert tokenizer_of(ConfigDict(fields), V).eos_ids == (0, 2)
        embedded = ConfigDict({"path": str(folder), "tokenizer": "embedded:generator"})
        assert isinstance(tokenizer_of(embedded, V), CharTokenizer)

    def test_beyond_the_model_are_told(self, folder: Path, caplog: Any) -> None:
        last = len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])
        edited(folder / "tokenizer.json", lambda data: data["added_tokens"].append(added(last)))
        edited(folder / "tokenizer_config.json", lambda data: data.update(eos_token="<image>"))
        with caplog.at_level(logging.WARNING):
            assert load_tokenizer(folder, last).eos_ids == (0, 2)
        assert "no answer can end with <image>" in caplog.text


def added(number: int) -> dict[str, Any]:
    """An added token as in tokenizer.json."""
    kinds = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": "<image>", **kinds, "special": True}


class TestTokensBeyondTheModel:
    @pytest.fixture
    def tokenizer(self, folder: Path) -> Tokenizer:
        last = len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])
        edited(folder / "tokenizer.json", lambda data: data["added_tokens"].append(added(last)))
        return load_tokenizer(folder, last)

    def test_change_nothing_where_they_are_not_met(self, tokenizer: Tokenizer) -> None:
        V = tokenizer.vocab_size
        assert tokenizer.decode(tokenizer.encode(AWKWARD)) == AWKWARD
        assert tokenizer.containing("a").shape == (V,)
        assert len(tokenizer.texts()) == V
        assert max(tokenizer.vocabulary().values()) < V

    @pytest.mark.parametrize("inside", [False, True])
    def test_are_refused_where_they_are_met(self, tokenizer: Tokenizer, inside: bool) -> None:
        message = f"holds '<image>', the tokenizer's token {tokenizer.vocab_size}"
        with pytest.raises(UserError, match=message):
            tokenizer.encode("see <image>.", inside=inside)
        with pytest.raises(UserError, match=message):
            tokenizer.chat([{"role": "user", "content": "see <image>."}])

    def test_that_are_ordinary_are_another_models(self, folder: Path) -> None:
        size = load_tokenizer(folder).vocab_size
        assert f"{size} tokens for a model of {size - 1}" in refusal(folder, size - 1)


@pytest.mark.parametrize("size", [5, 9])
def test_masks_are_of_the_model_whatever_the_tokenizer(size: int) -> None:
    tokenizer = CharTokenizer("abc", size)
    assert np.flatnonzero(tokenizer.containing("b")).tolist() == [3]
    assert tokenizer.containing("b").shape == (size,)
    assert tokenizer.decode([2, 8, 4, 1]) == "ac"


def test_ids_may_have_gaps(folder: Path) -> None:
    edited(folder / "tokenizer.json", lambda data: data["model"]["vocab"].update(zz=600))
    tokenizer = load_tokenizer(folder)
    assert tokenizer.vocab_size == 601
    assert np.flatnonzero(tokenizer.containing("zz")).tolist() == [600]


@pytest.mark.parametrize("text", ["a\ud800", "\udc80", "\ud83d\ude00"])
def test_half_a_surrogate_pair_is_refused(folder: Path, text: str) -> None:
    tokenizer = load_tokenizer(folder)
    with pytest.raises(UserError, match="no Unicode text"):
        tokenizer.encode(text)
    with pytest.raises(UserError, match="no Unicode text"):
        tokenizer.chat([{"role": "user", "content": text}])


def test_special_tokens_show_where_they_are_asked_for(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    text = "<|im_start|>user\nthe total<|im_end|>"
    assert tokenizer.decode(tokenizer.encode(text), special=True) == text
    assert tokenizer.decode(tokenizer.encode(text)) == "user\nthe total"
    assert CharTokenizer("ab").decode([2, 0, 3, 1], special=True) == "a<pad>b<eos>"


class TestChatTemplates:
    @pytest.mark.parametrize(
        ("stored", "begins"),
        [
            (TEMPLATE, "<|im_start|>user\nu"),
            ([{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}], "D"),
            ({"default": "D", "rag": "R"}, "D"),
        ],
    )
    def test_of_the_tokenizers_config(self, folder: Path, stored: Any, begins: str) -> None:
        (folder / "chat_template.jinja").unlink()
        edited(folder / "tokenizer_config.json", lambda data: data.update(chat_template=stored))
        tokenizer = load_tokenizer(folder)
        tokens = tokenizer.chat([{"role": "user", "content": "u"}])
        assert tokenizer.decode(tokens, special=True).startswith(begins)

    def test_of_a_processors_file(self, folder: Path) -> None:
        text = (folder / "chat_template.jinja").read_text()
        (folder / "chat_template.json").write_text(json.dumps({"chat_template": "other"}))
        messages = [{"role": "user", "content": "u"}]
        expected = load_tokenizer(folder).chat(messages)
        (folder / "chat_template.jinja").unlink()
        (folder / "chat_template.json").write_text(json.dumps({"chat_template": text}))
        assert load_tokenizer(folder).chat(messages) == expected

    @pytest.mark.parametrize(
        ("stored", "message"),
        [
            (5, "is int and must be text"),
            ({"default": 5}, "is int and must be text"),
            ([{"name": "a", "template": "A"}, {"name": "b", "template": "B"}], "cannot be chosen"),
            ([5], "cannot be read"),
            ("", "has no chat template"),
        ],
    )
    def test_that_are_none(self, folder: Path, stored: Any, message: str) -> None:
        (folder / "chat_template.jinja").unlink()
        edited(folder / "tokenizer_config.json", lambda data: data.update(chat_template=stored))
        with pytest.raises(UserError, match=message) as caught:
            load_tokenizer(folder).chat([{"role": "user", "content": "u"}])
        assert "\n" not in str(caught.value)


def test_vocabulary_and_merges_are_a_tokenizer(folder: Path, tmp_path: Path) -> None:
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = "\n".join(" ".join(merge) for merge in model["merges"])
    (other / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")
    (other / "config.json").write_text('{"model_type": "qwen2"}')
    assert load_tokenizer(other).encode("the total") == load_tokenizer(folder).encode("the total")


ODD: dict[str, tuple[str, str | bytes | Callable[[dict[str, Any]], object]]] = {
    "cut off": ("tokenizer.json", '{"model": {"vo'),
    "a list": ("tokenizer.json", "[]"),
    "a number": ("tokenizer.json", "5"),
    "empty": ("tokenizer.json", ""),
    "bytes": ("tokenizer.json", b"\x00\xff\xfe"),
    "deep": ("tokenizer.json", "[" * 100_000),
    "unknown model": ("tokenizer.json", lambda data: data["model"].update(type="Foo")),
    "negative id": ("tokenizer.json", lambda data: data["model"]["vocab"].update(zz=-1)),
    "huge id": ("tokenizer.json", lambda data: data["model"]["vocab"].update(zz=4_000_000_000)),
    "id of text": ("tokenizer.json", lambda data: data["model"]["vocab"].update(zz="1")),
    "unknown merge": ("tokenizer.json", lambda data: data["model"]["merges"].append(["qq", "w"])),
    "empty unigrams": (
        "tokenizer.json",
        lambda data: data.update(model={"type": "Unigram", "vocab": [], "unk_id": 5}),
    ),
    "a pattern that is none": (
        "tokenizer.json",
        lambda data: data.update(
            pre_tokenizer={
                "type": "Split", "pattern": {"Regex": "(("}, "behavior": "Isolated", "invert": False
            }
        ),
    ),
    "class of a number": ("tokenizer_config.json", lambda data: data.update(tokenizer_class=5)),
    "class of a list": ("tokenizer_config.json", lambda data: data.update(tokenizer_class=[])),
    "config that is deep": ("tokenizer_config.json", '{"a": ' * 100_000),
    "config that is a list": ("tokenizer_config.json", "[]"),
    "end token of a number": ("tokenizer_config.json", lambda data: data.update(eos_token=7)),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_files_are_one_line(folder: Path, name: str) -> None:
    file, content = ODD[name]
    if callable(content):
        edited(folder / file, content)
    elif isinstance(content, bytes):
        (folder / file).write_bytes(content)
    else:
        (folder / file).write_text(content)
    message = refusal(folder, None)
    assert message.startswith(str(folder))


def test_a_text_that_the_tokens_cannot_write_is_one_line(folder: Path) -> None:
    edited(
        folder / "tokenizer.json",
        lambda data: data.update(
            model={"type": "WordLevel", "vocab": {"a": 3}, "unk_token": "<unk>"}
        ),
    )
    with pytest.raises(UserError, match="cannot write a text in its tokens"):
        load_tokenizer(folder).encode("the total")


def test_a_model_of_sentencepiece_alone_names_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
    message = refusal(tmp_path)
    assert "there is no tokenizer.json" in message
    assert "by generator.tokenizer" in message


@pytest.mark.parametrize("where", ["tokenizer_config.json", "config.json"])
def test_code_beside_a_tokenizer_is_not_run(folder: Path, tmp_path: Path, where: str) -> None:
    proof = tmp_path / "proof"
    (folder / "own.py").write_text(f"open({str(proof)!r}, 'w').close()\nclass Own: pass\n")
    names = {"AutoTokenizer": ["own.Own", "own.Own"], "AutoConfig": "own.Own"}
    for file in {"tokenizer_config.json", where}:
        content = {"auto_map": names, "tokenizer_class": "Own", "model_type": "own"}
        (folder / file).write_text(json.dumps(content))
    assert "cannot be read" in refusal(folder)
    assert not proof.exists()


@pytest.mark.parametrize(
    "text", ["{}", '{"pieces": 5}', '{"pieces": [5]}', '{"pieces": []}', '{"pieces": [""]}', "[]"]
)
def test_odd_files_of_characters_are_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / CHARACTERS).write_text(text)
    assert refusal(tmp_path, None).startswith(str(tmp_path / CHARACTERS))
