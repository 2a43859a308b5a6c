"""Tokenizers of GGUF metadata: their ids are those of the file, and of the models' own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import tokenizers
from tokenizers import pre_tokenizers

from tests.models.test_tokenizers import (
    AWKWARD,
    CORPUS,
    SPECIAL,
    TEMPLATE,
    metadata_of,
    trained,
)
from ttc_jax.errors import UserError
from ttc_jax.models import gguf_tokenizer
from ttc_jax.models.tokenizers import HFTokenizer, load_tokenizer

# As the models' own tokenizer.json has them.
MODERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3, QWEN = MODERN % r"\p{N}{1,3}", MODERN % r"\p{N}"
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DIGITS = pre_tokenizers.Digits(individual_digits=True)
DECOMPOSED = "e\u0301 caf\u00e9 cafe\u0301 n\u0303 \u212b"
TEXTS = (
    *CORPUS[:3],
    AWKWARD,
    DECOMPOSED,
    "<|im_start|>user\n12<|im_end|>",
    "IT'S I'll WE'Ve",
    "a  b   c\n\n\n  d\t\te \r\n\r\n",
    "x/y//z///\n ABCdefGHI iPhone12PRO",
    "ŽlutÝ KŮŇ ½ ²³ ⅫⅩ 日本語テスト 한국어 हिन्दी",
    "$1,234.56% a_b->c ==> (d) [e]",
)


def split(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")


# `tokenizer.ggml.pre` -> how the models cut text, whether they compose it, and begin it.
FAMILIES: dict[str, tuple[Any, bool, bool]] = {
    **dict.fromkeys(("gpt-2", "mellum", "a.x-4.0"), (trained(words=True), False, False)),
    **dict.fromkeys(("smollm", "refact", "starcoder"), (trained(DIGITS, words=True), False, False)),
    **dict.fromkeys(
        ("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"),
        (trained(split(LLAMA3), words=False), False, True),
    ),
    **dict.fromkeys(("smaug-bpe", "dbrx"), (trained(split(LLAMA3), words=False), False, False)),
    **dict.fromkeys(
        ("qwen2", "deepseek-r1-qwen"), (trained(split(QWEN), words=False, nfc=True), True, False)
    ),
    **dict.fromkeys(("megrez", "kormo"), (trained(split(QWEN), words=False), False, False)),
    "tekken": (trained(split(TEKKEN), words=False), False, True),
}


def write(path: Path, metadata: dict[str, Any]) -> Path:
    """A GGUF file with the metadata of a byte-level tokenizer, and nothing else."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(metadata["tokenizer.ggml.model"])
    writer.add_tokenizer_pre(metadata["tokenizer.ggml.pre"])
    writer.add_token_list(metadata["tokenizer.ggml.tokens"])
    writer.add_token_types(metadata["tokenizer.ggml.token_type"])
    writer.add_token_merges(metadata["tokenizer.ggml.merges"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


class TestByteLevel:
    @pytest.mark.parametrize("pre", FAMILIES)
    def test_same_ids_as_the_model(self, pre: str, tmp_path: Path) -> None:
        made, composed, begins = FAMILIES[pre]
        ours = load_tokenizer(write(tmp_path / "model.gguf", metadata_of(made, pre)))
        theirs = HFTokenizer(made)
        for text in TEXTS:
            assert ours.encode(text) == theirs.encode(text)
            if text != DECOMPOSED:
                assert ours.decode(ours.encode(text)) == theirs.decode(theirs.encode(text))
        accent = "\u0301" in ours.decode(ours.encode("e\u0301"))
        assert accent != composed
        assert ours.eos_ids == theirs.eos_ids
        assert ours.bos_id == (1 if begins else None)
        messages = [{"role": "user", "content": "Hi"}]
        assert ours.chat(messages) == theirs.chat(messages)

    def test_whole_words_before_merges(self) -> None:
        """Llama 3 and Mistral Nemo take a word that is a token as it is, whatever the merges."""
        made, _, _ = FAMILIES["llama-bpe"]
        tokens = made.convert_ids_to_tokens(range(len(made)))
        whole = "zqz"  # no merges lead to it
        for pre, wanted in {"llama-bpe": 1, "tekken": 1, "smaug-bpe": 3, "qwen2": 3}.items():
            metadata = metadata_of(made, pre)
            metadata["tokenizer.ggml.tokens"] = [*tokens, whole]
            metadata["tokenizer.ggml.token_type"] += [1]
            assert len(built(metadata).encode(whole)) == wanted

    @pytest.mark.parametrize("pre", [None, "default"])
    def test_without_a_name(self, pre: str | None) -> None:
        """The cut of llama.cpp, for files from before the name was stored."""
        made, _, _ = FAMILIES["gpt-2"]
        metadata = metadata_of(made, "gpt-2")
        metadata["tokenizer.ggml.tokens"] += ["98", "Ġ("]
        metadata["tokenizer.ggml.token_type"] += [1, 1]
        metadata["tokenizer.ggml.merges"] = ["9 8", "Ġ ("]
        ids = {token: i for i, token in enumerate(metadata["tokenizer.ggml.tokens"])}
        known = built(metadata)
        assert known.encode("1298 (") == [ids[token] for token in ("1", "2", "98", "Ġ(")]
        del metadata["tokenizer.ggml.pre"]
        if pre is not None:
            metadata["tokenizer.ggml.pre"] = pre
        tokenizer = built(metadata)
        # Digits by three, and signs apart from the blank before them.
        assert tokenizer.encode("1234 (") == [
            ids[token] for token in ("1", "2", "3", "4", "Ġ", "(")
        ]
        assert tokenizer.decode(tokenizer.encode(AWKWARD)) == AWKWARD

    def test_ends_that_the_file_names(self, tmp_path: Path) -> None:
        path = tmp_path / "model.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        metadata = metadata_of(trained(words=True), "gpt-2")
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_list(metadata["tokenizer.ggml.tokens"])
        writer.add_token_merges(metadata["tokenizer.ggml.merges"])
        writer.add_eos_token_id(5)
        writer.add_eot_token_id(7)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        assert {5, 7} <= {*load_tokenizer(path).eos_ids}

    def test_empty_tokens(self) -> None:
        """Called as llama.cpp calls them."""
        made, _, _ = FAMILIES["gpt-2"]
        metadata = metadata_of(made, "gpt-2")
        metadata["tokenizer.ggml.tokens"] += ["", ""]
        metadata["tokenizer.ggml.token_type"] += [5, 5]
        assert built(metadata).encode(AWKWARD) == HFTokenizer(made).encode(AWKWARD)


def gemma_metadata() -> dict[str, Any]:
    """A vocabulary whose ids are arranged as those of Gemma 3, with few words."""
    tokens = [("<pad>", 3), ("<eos>", 3), ("<bos>", 3), ("<unk>", 3), ("<mask>", 3)]
    tokens += [("[multimodal]", 4), *((f"<unused{i}>", 3) for i in range(99))]
    tokens += [("<start_of_turn>", 3), ("<end_of_turn>", 3)]
    tokens += [("\n" * n, 4) for n in range(1, 32)]  # 107
    tokens += [(" " * n, 4) for n in range(2, 32)]  # 138
    tokens += [("<table>", 4), ("</table>", 4), ("<b>", 4), ("</b>", 4), ("</s>", 4)]  # 168
    tokens += [(f"<0x{byte:02X}>", 6) for byte in range(256)]  # 173
    tokens += [("in", 1), ("▁a", 1), ("▁the", 1), ("th", 1), ("the", 1), ("▁th", 1)]  # 429
    tokens += [("\t", 1), *(("\t" * n, 4) for n in range(2, 32))]  # 435
    tokens += [(letter, 1) for letter in "▁abdefhint0123456789.\u00e9\u0301"]  # 466
    texts, kinds = zip(*tokens, strict=True)
    return {
        "general.architecture": "gemma3",
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [*texts],
        "tokenizer.ggml.scores": [-1000.0 if kind != 1 else 0.0 for kind in kinds],
        "tokenizer.ggml.token_type": [*kinds],
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.unknown_token_id": 3,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_space_prefix": False,
    }


def built(metadata: dict[str, Any]) -> HFTokenizer:
    return HFTokenizer(gguf_tokenizer.build(metadata, "x.gguf"))


GEMMA = gemma_metadata()
ID = {text: i for i, text in enumerate(GEMMA["tokenizer.ggml.tokens"])}
A, B = ID["a"], ID["b"]


class TestGemma:
    tokenizer = built(GEMMA)

    @pytest.mark.parametrize(
        ("text", "ids"),
        [
            ("a b", [A, ID["▁"], B]),
            ("a  b", [A, 138, B]),
            ("a   b", [A, 139, B]),
            ("a    b", [A, 140, B]),
            ("  a", [138, A]),
            ("a  ", [A, 138]),
            (" a", [ID["▁a"]]),
            (" " * 31 + "a", [167, A]),
            (" " * 32 + "a", [167, ID["▁a"]]),
            (" " * 33 + "a", [167, 138, A]),
            (" " * 70 + "a", [167, 167, 144, A]),
            ("a\nb", [A, 107, B]),
            ("a\n\n\nb", [A, 109, B]),
            ("\n" * 40, [137, 115]),
            ("a\n  b\n    the", [A, 107, 138, B, 107, 140, ID["the"]]),
            ("a\tb", [A, ID["\t"], B]),
            ("a\t\t\tb", [A, ID["\t\t\t"], B]),
            (" \t  \n", [ID["▁"], ID["\t"], 138, 107]),
            ("<table> <b>a</b>", [168, ID["▁"], 170, A, 171]),
            ("</s><unused5>", [172, 11]),
            ("<start_of_turn>the<end_of_turn>\n", [105, ID["the"], 106, 107]),
            ("e\u0301", [ID["e"], ID["\u0301"]]),
            ("\u00e9", [ID["\u00e9"]]),
            ("日", [ID[f"<0x{byte:02X}>"] for byte in "日".encode()]),
            ("\r", [ID["<0x0D>"]]),
        ],
    )
    def test_ids(self, text: str, ids: list[int]) -> None:
        assert self.tokenizer.encode(text) == ids
        shown = text.replace("<unused5>", "").replace("<start_of_turn>", "")
        assert self.tokenizer.decode(ids) == shown.replace("<end_of_turn>", "")

    def test_every_token_has_its_id(self) -> None:
        backend = gguf_tokenizer.build(GEMMA, "x.gguf").backend_tokenizer
        assert backend.get_vocab(with_added_tokens=True) == ID
        assert self.tokenizer.vocab_size == len(ID)
        found = self.tokenizer.containing("  ")
        assert [*np.flatnonzero(found)] == [*range(138, 168)]

    def test_travels(self, tmp_path: Path) -> None:
        self.tokenizer.save(tmp_path)
        again = load_tokenizer(tmp_path, len(ID))
        for text in ("a  b   the\n\n", "<b>a</b>", "日", "e\u0301"):
            assert again.encode(text) == self.tokenizer.encode(text)
        assert again.bos_id == 2

    def test_blanks_of_both_spellings(self) -> None:
        """A run of blanks, and one that is written in SentencePiece's way, are two tokens."""
        metadata = gemma_metadata()
        metadata["tokenizer.ggml.tokens"].append("▁▁")
        metadata["tokenizer.ggml.token_type"].append(1)
        metadata["tokenizer.ggml.scores"].append(0.0)
        tokenizer = built(metadata)
        assert tokenizer.encode("a  b") == [A, 138, B]
        assert tokenizer.encode("a▁▁b") == [A, len(ID), B]

    @pytest.mark.parametrize("kind", [1, 2, 3, 4, 5])
    @pytest.mark.parametrize("text", ["  ", "\n\n\n", "▁▁", "<0x41x>", " a ", "Ġ", "\u00a0"])
    def test_odd_tokens_keep_their_ids(self, kind: int, text: str) -> None:
        metadata = gemma_metadata()
        texts, at = metadata["tokenizer.ggml.tokens"], 20
        if text in texts:  # the two change places
            texts[texts.index(text)] = texts[at]
        texts[at] = text
        metadata["tokenizer.ggml.token_type"][at] = kind
        vocabulary = gguf_tokenizer.build(metadata, "x.gguf").get_vocab()
        assert vocabulary == {token: i for i, token in enumerate(texts)}


SENTENCE_PIECE = ["<unk>", "<s>", "</s>", "<pad>", "<mask>"]
SENTENCE_PIECE += [f"<0x{byte:02X}>" for byte in range(256)]


class TestSentencePiece:
    @pytest.mark.parametrize("architecture", ["llama", "gemma3"])
    def test_merges_and_bytes(self, architecture: str) -> None:
        """Better scores merge first; unknown characters fall back on bytes."""
        blanks = "  " if architecture == "gemma3" else "▁▁"
        tokens = [*SENTENCE_PIECE, "▁to", "to", "tal", "▁total", "al", "ta", *"▁toal.\n", blanks]
        kinds = [2, 3, 3, 3, 3, *[6] * 256, *[1] * (len(tokens) - 262)]
        metadata = {
            "general.architecture": architecture,
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.scores": [-float(i) for i in range(len(tokens))],
            "tokenizer.ggml.token_type": [*kinds, 4 if architecture == "gemma3" else 1],
        }
        tokenizer = built(metadata)
        prefix = [] if architecture == "gemma3" else ["▁"]
        assert tokenizer.bos_id == 1  # where the file does not say, as llama.cpp has it
        assert tokenizer.eos_ids == (2,)
        ids = {token: i for i, token in enumerate(tokens)}
        assert tokenizer.encode("a total") == [ids[t] for t in [*prefix, "a", "▁total"]]
        assert tokenizer.encode("atotal") == [ids[t] for t in [*prefix, "a", "to", "tal"]]
        assert tokenizer.encode(".  a")[-3:] == [ids["."], ids[blanks], ids["a"]]
        assert tokenizer.encode("a日")[-3:] == [ids[f"<0x{b:02X}>"] for b in "日".encode()]
        text = "a total.\n  日本 total"
        assert tokenizer.decode(tokenizer.encode(text)) == text
        newline = tokenizer.containing("\n")
        assert list(np.flatnonzero(newline)) == [ids["<0x0A>"], ids["\n"]]
        assert tokenizer.containing(" ")[ids["▁total"]]

    def test_prefix(self) -> None:
        """A blank is put before every text, and after special tokens; the file can say no."""
        tokens = [*SENTENCE_PIECE, "▁a", "▁", "a"]
        ids = {token: i for i, token in enumerate(tokens)}
        metadata = {
            "general.architecture": "llama",
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.scores": [0.0] * len(tokens),
            "tokenizer.ggml.token_type": [2, 3, 3, 3, 3, *[6] * 256, 1, 1, 1],
        }
        tokenizer = built(metadata)
        assert tokenizer.encode("a") == [ids["▁a"]]
        assert tokenizer.encode(" a") == [ids["▁"], ids["▁a"]]
        assert tokenizer.encode("a</s>a") == [ids["▁a"], 2, ids["▁a"]]
        assert tokenizer.decode(tokenizer.encode("  a")) == "  a"
        plain = built({**metadata, "tokenizer.ggml.add_space_prefix": False})
        assert plain.encode("a a") == [ids["a"], ids["▁a"]]
        assert plain.decode(plain.encode(" a")) == " a"


BYTES = metadata_of(FAMILIES["gpt-2"][0], "gpt-2")
COUNT = len(BYTES["tokenizer.ggml.tokens"])
K = "tokenizer.ggml."
MISTAKES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    # the file's metadata, what of it is changed (None: taken away), and what the error says
    (BYTES, {f"{K}model": None}, "its tokenizer (None) is not supported"),
    (BYTES, {f"{K}model": 3}, "its tokenizer (3) is not supported"),
    (BYTES, {f"{K}model": "bert"}, "its tokenizer ('bert') is not supported"),
    (BYTES, {f"{K}pre": "odd"}, "its pre-tokenizer 'odd' is not supported"),
    (BYTES, {f"{K}pre": 7}, f"{K}pre is 7, not a string"),
    (BYTES, {f"{K}tokens": None}, f"{K}tokens is missing"),
    (BYTES, {f"{K}tokens": []}, f"{K}tokens is empty"),
    (BYTES, {f"{K}tokens": np.arange(9)}, f"{K}tokens is an array of 9, not an array of strings"),
    (BYTES, {f"{K}tokens": "all"}, f"{K}tokens is 'all', not an array of strings"),
    (BYTES, {f"{K}tokens": ["a", "b", "a"]}, f"{K}tokens has 'a' twice, as tokens 0 and 2"),
    (GEMMA, {f"{K}tokens": ["a", "a" * 10**6]}, f"{K}tokens has a token, 1, of 1000000 characters"),
    (BYTES, {f"{K}merges": None}, f"{K}merges is missing"),
    (BYTES, {f"{K}merges": []}, f"{K}merges is empty"),
    (BYTES, {f"{K}merges": ["a b c"]}, f"{K}merges has 'a b c' as entry 0, no pair of tokens"),
    (BYTES, {f"{K}merges": ["ab"]}, f"{K}merges has 'ab' as entry 0"),
    (BYTES, {f"{K}merges": [""]}, f"{K}merges has '' as entry 0"),
    (BYTES, {f"{K}merges": ["t o", "☃ a"]}, f"{K}merges has"),
    (BYTES, {f"{K}merges": np.arange(4)}, f"{K}merges is an array of 4"),
    (BYTES, {f"{K}token_type": [1, 2]}, f"{K}token_type has 2 entries for {COUNT} tokens"),
    (BYTES, {f"{K}token_type": ["a"] * COUNT}, f"{K}token_type is an array of {COUNT}, not an"),
    (BYTES, {f"{K}token_type": [7] * COUNT}, f"{K}token_type holds 7; kinds of tokens are 0 to 6"),
    (BYTES, {f"{K}token_type": [-1] * COUNT}, f"{K}token_type holds -1"),
    (BYTES, {f"{K}token_type": 4}, f"{K}token_type is 4, not an array of numbers"),
    (BYTES, {f"{K}bos_token_id": COUNT}, f"{K}bos_token_id is {COUNT}; it must be from 0 to"),
    (BYTES, {f"{K}eos_token_id": -1}, f"{K}eos_token_id is -1; it must be"),
    (BYTES, {f"{K}eot_token_id": 2**32 - 1}, f"{K}eot_token_id is {2**32 - 1}; it must be"),
    (BYTES, {f"{K}padding_token_id": 1.0}, f"{K}padding_token_id is 1.0, not a whole number"),
    (BYTES, {f"{K}unknown_token_id": "0"}, f"{K}unknown_token_id is '0', not a whole number"),
    (BYTES, {f"{K}seperator_token_id": True}, f"{K}seperator_token_id is True, not a whole"),
    (BYTES, {f"{K}mask_token_id": [1]}, f"{K}mask_token_id is an array of 1, not a whole"),
    (BYTES, {f"{K}add_bos_token": 1}, f"{K}add_bos_token is 1, not true or false"),
    (BYTES, {f"{K}add_bos_token": True, f"{K}bos_token_id": None}, f"{K}bos_token_id is missing"),
    (BYTES, {"tokenizer.chat_template": ["a"]}, "tokenizer.chat_template is an array of 1"),
    (GEMMA, {"general.architecture": None}, "general.architecture is missing"),
    (GEMMA, {"general.architecture": "llama", f"{K}scores": None}, f"{K}scores is missing"),
    (GEMMA, {"general.architecture": "llama", f"{K}scores": [0.0]}, f"{K}scores has 1 entries"),
    (
        GEMMA,
        {"general.architecture": "llama", f"{K}scores": [float("nan")] * len(ID)},
        f"{K}scores is not a number in entry 0",
    ),
    (GEMMA, {f"{K}add_space_prefix": "no"}, f"{K}add_space_prefix is 'no', not true or false"),
    (GEMMA, {f"{K}unknown_token_id": len(ID)}, f"{K}unknown_token_id is {len(ID)}; it must be"),
]


@pytest.mark.parametrize(("metadata", "changes", "message"), MISTAKES)
def test_mistakes(metadata: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    changed = {key: value for key, value in (metadata | changes).items() if value is not None}
    with pytest.raises(UserError) as caught:
        gguf_tokenizer.build(changed, "x.gguf")
    text = str(caught.value)
    assert text.startswith("x.gguf: ")
    assert message in text
    assert "--config.generator.tokenizer=PATH" in text
    assert "\n" not in text


def test_first_token_of_any_text() -> None:
    """Also one that looks like the syntax of a template."""
    tokens = [*BYTES["tokenizer.ggml.tokens"]]
    for text in (":", "$B", "a:1"):
        if text not in tokens:
            tokens.append(text)
        metadata = BYTES | {
            f"{K}tokens": tokens,
            f"{K}token_type": [3 if token in SPECIAL else 1 for token in tokens],
            f"{K}bos_token_id": tokens.index(text),
            f"{K}add_bos_token": True,
        }
        tokenizer = built(metadata)
        assert tokenizer.bos_id == tokens.index(text)
        assert tokenizer.encode("12", add_bos=True) == [tokenizer.bos_id, *tokenizer.encode("12")]


def test_a_tokenizer_of_another_path_is_the_way_out(tmp_path: Path, caplog: Any) -> None:
    """Of a file whose own cannot be read, whatever is wrong with it."""
    trained(words=True).save_pretrained(tmp_path / "own")
    odd = write(tmp_path / "odd.gguf", metadata_of(trained(words=True), "odd"))
    with pytest.raises(UserError, match="--config.generator.tokenizer=PATH"):
        load_tokenizer(odd)
    own = load_tokenizer(tmp_path / "own", model=odd)
    assert own.eos_ids == (0, 2)
    assert not caplog.text
    writer = gguf.GGUFWriter(tmp_path / "none.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert load_tokenizer(tmp_path / "own", model=tmp_path / "none.gguf").encode("a b") == [
        *own.encode("a b")
    ]
    assert "none.gguf: metadata tokenizer.ggml.tokens is missing" in caplog.text
