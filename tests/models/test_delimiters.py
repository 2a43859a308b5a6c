"""Delimiters over the boundaries of tokens, against readers of the text."""

import dataclasses
import itertools
from collections.abc import Sequence

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, normalizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from tests.models import reading
from ttc_jax.errors import UserError
from ttc_jax.models.characters import CharTokenizer
from ttc_jax.models.delimiters import Delimiter
from ttc_jax.models.tokenizers import HFTokenizer, Tokenizer
from ttc_jax.verifiers.steps import step_ends

LETTERS = [*"abcde.;#- ", "\n", "\r"]
APART = CharTokenizer(LETTERS)  # one character a token
LINES = ["\n\n", ".\n", ".\n\n", "\n\n\n", "\r\n", ";\n", "---", "b\n", "---\n\n", "\n#", "c\n\n\n"]
WHOLE = CharTokenizer([*LETTERS, *LINES])
found, taken = (jax.jit(method) for method in (Delimiter.found, Delimiter.taken))
ends_at = jax.jit(Delimiter.ends_at)


def steps(tokenizer: Tokenizer, tokens: Sequence[int], delimiter: str) -> list[str]:
    """The texts of an answer's steps, and what stands behind the last one."""
    _, ends = Delimiter.of(tokenizer, delimiter).found(np.array(tokens, np.int32))
    parts = np.split(np.array(tokens), np.flatnonzero(ends) + 1)
    return [tokenizer.decode(part.tolist()) for part in parts]


@pytest.mark.parametrize(
    ("delimiter", "pieces", "expected"),
    [
        ("\n\n", ["a", "\n\n", "b"], ["a\n\n", "b"]),
        ("\n\n", ["a", "\n", "\n", "b"], ["a\n\n", "b"]),
        ("\n\n", ["a", ".\n", "\n", "b", "\n", "c"], ["a.\n\n", "b\nc"]),
        ("\n\n", ["a", "\n", "\n\n", "b", "\n"], ["a\n\n\n", "b\n"]),
        ("\n\n", ["a", "\n", "\n", "\n", "b"], ["a\n\n", "\nb"]),  # an empty step is none
        ("\n\n", ["a", "\n", "\n", "\n", "\n", "\n", "b"], ["a\n\n", "\n\n\nb"]),
        ("\n\n", ["a", "\n\n", "\n", "\n\n", "b"], ["a\n\n", "\n\n\nb"]),
        ("\n\n", ["\n", "\n", "a"], ["\n\n", "a"]),  # an answer may begin with one
        ("\n\n", ["a", "\n", " ", "\n", "b"], ["a\n \nb"]),
        ("\n\n", ["a", "\n", "", "\n", "b"], ["a\n\nb"]),  # a special token stands between
        (";\n", ["a", ";", "\n", ";", "\n", "b", ";\n"], ["a;\n", ";\nb;\n", ""]),
        (";\n", ["a", ";", ";", "\n", "b"], ["a;;\n", "b"]),
        ("\r\n\r\n", ["a", "\r\n", "\r", "\n", "\r\n", "b"], ["a\r\n\r\n", "\r\nb"]),
        ("\n---\n", ["a", "\n", "---", "\n", "---", "\n", "b"], ["a\n---\n", "---\nb"]),
        ("\n---\n", ["a", "\n", "-", "-", "-", "\n", "b"], ["a\n---\n", "b"]),
        ("\n---\n", ["a", "\n", "-", "---", "\n", "b"], ["a\n----\nb"]),
        ("\n", ["a", "\n", "b", ".\n", "\n\n", "c", "\n\n"], ["a\n", "b.\n", "\n\nc\n\n", ""]),
        # A token that is all of a step, its delimiter included.
        ("\n\n", ["a", "\n\n", "---\n\n", "b"], ["a\n\n", "---\n\n", "b"]),
        (
            "\n\n",
            ["a", "\n\n", ".\n\n", "---\n\n", "\n\n", "b"],
            ["a\n\n", ".\n\n", "---\n\n", "\n\nb"],
        ),
        ("\n\n", ["c\n\n\n", "\n", "c\n\n\n", "b"], ["c\n\n\n", "\nc\n\n\n", "b"]),
        ("\n", ["a", "\n", "b\n", "b\n", "\n", ".\n"], ["a\n", "b\n", "b\n", "\n.\n", ""]),
        ("\n", ["a", "\n#", "\n", "\n#", "\n"], ["a\n#", "\n", "\n#\n", ""]),
        (";\n", ["a", ";\n", ".", ";\n", ";\n", "b"], ["a;\n", ".;\n", ";\nb"]),
    ],
)
def test_steps_end_where_the_text_says(delimiter: str, pieces: list[str], expected: list[str]):
    cut = [WHOLE.encode(piece) if piece else [WHOLE.pad_id] for piece in pieces]
    assert [len(tokens) for tokens in cut] == [1] * len(pieces)
    assert steps(WHOLE, [tokens[0] for tokens in cut], delimiter) == expected


@hypothesis.given(
    st.text("ab\n", min_size=1, max_size=4),
    st.lists(st.text("aab\n\nx", max_size=5), min_size=2, max_size=8),
    st.data(),
)
@hypothesis.settings(max_examples=150)
def test_the_automaton_is_the_reader(delimiter: str, texts: list[str], data: st.DataObject):
    texts = [*texts, delimiter]  # so that it can be written
    rows = st.lists(st.integers(0, len(texts) - 1), min_size=9, max_size=9)
    tokens = np.array(data.draw(st.lists(rows, min_size=3, max_size=3)), np.int32)
    lengths = np.array([9, 6, 0], np.int32)
    automaton = Delimiter.in_texts(texts, delimiter)
    closed, ends = automaton.found(tokens)
    counts = automaton.taken(tokens, lengths)
    for row in range(3):
        written = [texts[token] for token in tokens[row]]
        assert closed[row].tolist() == reading.closed(written, delimiter)
        assert ends[row].tolist() == reading.ended(written, delimiter)
        real = written[: lengths[row]]
        assert counts[row].tolist() == [*reading.taken(real, delimiter), *[0] * (9 - len(real))]


def test_jax_says_what_numpy_says():
    rng = np.random.default_rng(0)
    tokens = rng.choice(
        [*WHOLE.encode("ab;\n."), 1, *map(WHOLE.texts().index, LINES)], (2, 3, 40)
    ).astype(np.int32)
    lengths = rng.integers(0, 41, (2, 3)).astype(np.int32)
    for delimiter in ("\n", "\n\n", ";\n", ".\n\n"):
        automaton = Delimiter.of(WHOLE, delimiter)
        assert isinstance(automaton.found(tokens)[0], np.ndarray)
        for here, there in zip(automaton.found(tokens), found(automaton, tokens), strict=True):
            np.testing.assert_array_equal(here, there)
        here, there = automaton.taken(tokens, lengths), taken(automaton, tokens, lengths)
        np.testing.assert_array_equal(here, there)
        for at in range(40):
            here = ends_at(automaton, tokens, np.full((2, 3), at, np.int32))
            np.testing.assert_array_equal(here, automaton.found(tokens)[1][..., at])


@hypothesis.given(st.lists(st.sampled_from(["a", "b\n", "\n", "", "\n#", "xy"]), max_size=30))
def test_of_one_character_it_is_a_mask(pieces: list[str]):
    """Which tokens hold it, but for those that begin with it where the text before ends with it."""
    kinds = ["a", "b\n", "\n", "", "\n#", "xy"]
    tokens = np.array([kinds.index(piece) for piece in pieces], np.int32)
    last = [piece.endswith("\n") for piece in pieces]
    behind = [
        before and piece.startswith("\n")
        for before, piece in zip([False, *last], pieces, strict=False)
    ]
    closed, ends = Delimiter.in_texts(kinds, "\n").found(tokens)
    assert closed.tolist() == last
    assert ends.tolist() == [
        "\n" in x and not empty for x, empty in zip(pieces, behind, strict=True)
    ]
    assert not Delimiter.in_texts(kinds, "\n").taken(tokens, np.array(len(tokens))).any()


TEXT = "a b.\n\n---\n\nc;\nd\n\n\n- e\n\n\n\nb.\n\nb;\n;\n.\n\n"


@pytest.mark.parametrize("delimiter", ["\n\n", ";\n", ".\n\n", ".\n", "- "])
def test_how_text_is_cut_into_tokens_does_not_matter(delimiter: str):
    apart, whole = (steps(of, of.encode(TEXT), delimiter) for of in (APART, WHOLE))
    assert [step.strip() for step in apart] == [step.strip() for step in whole]
    assert len(apart) > 1


@hypothesis.given(st.text("aab\n", min_size=1, max_size=3), st.text("ab\n", max_size=24), st.data())
@hypothesis.settings(max_examples=100)
def test_the_steps_of_a_text_are_those_of_its_characters(
    delimiter: str, text: str, data: st.DataObject
):
    """A token holds a step's end where the text has one, however it is cut into tokens."""
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=len(text))))
    pieces = [text[i:j] for i, j in itertools.pairwise([0, *cuts, len(text)]) if i < j]
    texts = sorted({*text, *pieces, delimiter})
    automaton = Delimiter.in_texts(texts, delimiter)
    apart, whole = (np.array([texts.index(x) for x in cut], np.int32) for cut in (text, pieces))
    last = np.cumsum([len(piece) for piece in pieces], dtype=int)
    one, all_of_it = (
        step_ends(tokens, np.array(len(tokens)), np.array(False), automaton)
        for tokens in (apart, whole)
    )
    expected = {int(np.searchsorted(last, end + 1)) for end in np.flatnonzero(one)}
    assert {*np.flatnonzero(all_of_it).tolist()} == expected


@pytest.mark.parametrize(
    ("texts", "delimiter"),
    [
        (["a", "b"], "\n"),
        (["\n", "b"], "\n\nc"),
        (["\na", "b"], "\n\n"),
        (["\nb", "a\n"], "\n-\n"),
        (["", "a"], "\0"),
        (["\ufffd", "\ufffd\n"], "\ufffd"),  # parts of a character's bytes
    ],
)
def test_a_delimiter_that_no_tokens_write_is_refused(texts: list[str], delimiter: str):
    with pytest.raises(UserError, match="no token or sequence of tokens of the model writes it; c"):
        Delimiter.in_texts(texts, delimiter)


def test_an_empty_delimiter_is_refused():
    with pytest.raises(UserError, match="step_delimiter is empty; set it to the text that ends"):
        Delimiter.of(WHOLE, "")


def byte_fallback(characters: str) -> HFTokenizer:
    """A tokenizer as Llama 2's: blanks are written "▁", and what it does not know as bytes."""
    names = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *characters]
    backend = Backend(BPE({name: i for i, name in enumerate(names)}, [], byte_fallback=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    blanks = decoders.Replace("▁", " ")
    backend.decoder = decoders.Sequence([blanks, decoders.ByteFallback(), decoders.Fuse()])
    return HFTokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>"))


def test_characters_that_tokens_hold_in_bytes():
    """As Llama 2 has them: a line break is a byte, and no token holds two."""
    text = "One: 1 + 1 = 2.\n\nTwo:\nand\n\n\nThree.\n\n\n\nFour"
    tokenizer = byte_fallback("".join({*"OneTwoThreeFourand.:+=12"}))
    assert not tokenizer.containing("\n\n").any()
    cut = steps(tokenizer, tokenizer.encode(text), "\n\n")
    assert [step.strip() for step in cut] == ["One: 1 + 1 = 2.", "Two:\nand", "Three.", "Four"]
    with pytest.raises(UserError, match="step_delimiter '。\\\\n': no token or sequence of"):
        Delimiter.of(tokenizer, "。\n")  # each token is a part of a character


def test_it_is_data_of_a_program():
    """Another delimiter of the same size needs no other program."""
    one, other = (Delimiter.in_texts(list(texts), "\n") for texts in ("a\nb", "\nab"))
    assert jax.tree.structure(one) == jax.tree.structure(other)
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(one))
    assert len(jax.tree.leaves(one)) + 2 == len(dataclasses.fields(one))
