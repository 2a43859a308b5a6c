"""Formats as data, what a PRM is shown of a generator's tokens, and heads that do not fit."""

import dataclasses
import json
import string
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.verifiers.toy import tiny_prm
from ttc_jax.errors import UserError
from ttc_jax.models.characters import CharTokenizer
from ttc_jax.models.config import ModelConfig
from ttc_jax.models.delimiters import Delimiter
from ttc_jax.verifiers.adapter import PRMAdapter, agree
from ttc_jax.verifiers.formats import PRMFormat, find_format, known
from ttc_jax.verifiers.load import load_verifier, outline_verifier
from ttc_jax.verifiers.prm import ProcessRewardModel
from ttc_jax.verifiers.public import _head
from ttc_jax.verifiers.steps import NOTHING, step_ends

PIECES = [*string.ascii_lowercase, *" :;.", "\n", ".\n", "ab;\n", "<|end|>"]
TOKENIZER = CharTokenizer(PIECES)
FORMAT = PRMFormat("q {question}: ", mark="<|end|>", between="\n", head=("score",))
IDS = {piece: TOKENIZER.encode(piece)[0] for piece in PIECES}


def adapter(
    form: PRMFormat = FORMAT,
    own: CharTokenizer = TOKENIZER,
    delimiter: str = "\n",
    written: CharTokenizer = TOKENIZER,
    **options: Any,
):
    prm = nnx.clone(tiny_prm(layered=False))
    prm.format, prm.tokenizer = form, own
    return PRMAdapter(prm, written, delimiter, **options)


def test_delimiters_and_special_tokens_are_swapped():
    found = adapter()
    assert found.step_format.markers == (IDS["<|end|>"], IDS["\n"])
    assert found.step_format.offset == -1
    assert dict(found.step_format.swaps) == {
        0: NOTHING,
        1: NOTHING,
        IDS["\n"]: NOTHING,
        IDS[".\n"]: IDS["."],
        # "ab;" is no token: "ab;\n" stays.
    }
    assert not found.bridged
    assert found.prompt("x") == TOKENIZER.encode("q x: ")


def test_over_the_bridge_texts_are_written_anew():
    own = CharTokenizer([*reversed(PIECES[:-1]), "<|end|>"])
    found = adapter(own=own)
    assert found.bridged
    assert found.step_format.swaps == ()
    assert own.decode(found.prompt("x")) == "q x:"
    tokens = [*TOKENIZER.encode("  so.\nit ab;\nis\n"), 1]
    ends = [TOKENIZER.containing("\n")[token] for token in tokens]
    shown, read = found.show(tokens, ends, first=True)
    assert own.decode(shown) == " so.<|end|>\nit ab;<|end|>\nis<|end|>\n"
    marks = [i for i, token in enumerate(shown) if own.decode([token]) == "<|end|>"]
    assert [place for place, end in zip(read, ends, strict=True) if end] == marks
    more, _ = found.show(TOKENIZER.encode(" so"), [False] * 3, first=False)
    assert own.decode(more) == " so"


@pytest.mark.parametrize(
    ("delimiter", "answer", "expected"),
    [
        ("\n\n", ["a", "\n", "\n", "b", "\n", "c", "\n"], "a#b\nc\n#"),
        ("\n\n", ["a", ".\n", "\n", "\n", "b"], "a.#b#"),
        ("\n\n", ["a", ".", "\n", "\n\n", "b"], "a.#b#"),
        ("\n\n", ["a", " ", "\n\n", "b"], "a #b#"),
        ("; ", ["a", ";", " b", ";", " b", "c"], "a#b#bc#"),  # the next step begins in the token
        ("; ", ["a", "x;", " ", "b"], "ax#b#"),
        ("\n;\n", ["a", ".\n", ";", "\n", "b", ";"], "a.#b;#"),
    ],
)
def test_a_delimiter_of_several_tokens_is_not_shown(
    delimiter: str, answer: list[str], expected: str
):
    """In XLA and over the bridge."""
    written = CharTokenizer([*"abcx .;:#q", "\n", ".\n", "\n\n", " b", "x;"])
    tokens = np.array([written.encode(piece)[0] for piece in answer], np.int32)
    length, automaton = np.array(len(tokens)), Delimiter.of(written, delimiter)
    ends = step_ends(tokens, length, np.array(False), automaton)
    form = dataclasses.replace(FORMAT, mark="#", between="")
    over, inside = (
        adapter(form, written, delimiter, written, bridged=bridged) for bridged in (True, False)
    )
    shown, read = over.show(tokens.tolist(), ends.tolist(), first=False)
    assert written.decode(shown) == expected
    marks = [i for i, token in enumerate(shown) if written.decode([token]) == "#"]
    assert [place for place, end in zip(read, ends, strict=True) if end] == marks
    rows = (jnp.asarray(x)[None, None] for x in (tokens, length, ends))
    taken = jnp.asarray(automaton.taken(tokens, length))[None, None]
    marked = inside.step_format.mark(*rows, steps=len(tokens), taken=taken)
    assert marked.tokens[0, 0, : marked.real[0, 0]].tolist() == shown
    assert marked.read[0, 0, np.flatnonzero(ends)].tolist() == marks


def test_whether_tokenizers_agree():
    assert agree(TOKENIZER, CharTokenizer([*PIECES, "more"]))
    assert not agree(TOKENIZER, CharTokenizer(["more", *PIECES]))
    assert not agree(CharTokenizer([*PIECES, "more"]), TOKENIZER)


def test_a_chat_that_is_no_chat_is_refused():
    with pytest.raises(UserError, match="the format of the PRM wants a chat; the character tokeni"):
        adapter(dataclasses.replace(FORMAT, chat=True))


def test_a_mark_that_is_no_token_is_refused():
    with pytest.raises(UserError, match=r"the format's mark holds <\|end\|>, which is no token of"):
        adapter(own=CharTokenizer([*PIECES[:-1], *"<|>"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "q"}, r"prompt is 'q'; it must hold \{question\}"),
        ({"prompt": 3}, "prompt is 3; it must be a text"),
        ({"marks": "x"}, "unknown field marks; did you mean mark"),
        ({"head": ["a", "b", "c"]}, "head names 3 layers; it must be one or two"),
        ({"head": "score"}, "head is 'score'; it must be a list of names"),
        ({"chat": "yes"}, "chat is 'yes'; it must be true or false"),
        ({"good": 1}, "good and bad: name both outputs"),
        ({"good": True, "bad": 0}, "good is True; it must be a number or a token's text"),
    ],
)
def test_a_format_that_cannot_be(tmp_path: Path, change: dict[str, Any], message: str):
    file = tmp_path / "mine.json"
    fields = {"prompt": "{question}", "mark": "x", "head": ["score"]}
    file.write_text(json.dumps(fields | change))
    with pytest.raises(UserError, match=message) as error:
        find_format(f"{file}:/models/mine")
    assert str(error.value).startswith(str(file))
    file.write_text(json.dumps({"prompt": "{question}", "head": ["score"]}))
    with pytest.raises(UserError, match="mark is missing; it must be a text"):
        find_format(f"{file}:/models/mine")


def test_formats_are_found_by_name(tmp_path: Path):
    formats = known()
    for form in formats.values():
        for model in form.models:
            assert find_format(model) == (form, model)
    local = "/models/qwen2.5-math-PRM-7B"
    assert find_format(local) == (formats["qwen2.5-math-prm"], local)
    assert find_format("skywork:/models/mine") == (formats["skywork"], "/models/mine")
    assert find_format("/models/mine") == (None, "/models/mine")
    with pytest.raises(UserError, match="nor the name of a public PRM .*say its format, FORMAT:"):
        load_verifier(str(tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="a PRM is a folder with config.json"):
        load_verifier(f"skywork:{tmp_path / 'file'}")


def test_outlines_know_their_format():
    found = outline_verifier("Qwen/Qwen2.5-Math-PRM-7B")
    assert isinstance(found, ProcessRewardModel)
    assert found.format is known()["qwen2.5-math-prm"]
    assert found.config.hidden == found.config.trunk.width == 3584
    assert found.trunk.head is None


@pytest.mark.parametrize(
    ("model", "markers"),
    [
        ("RLHFlow/Llama3.1-8B-PRM-Deepseek-Data", 11),  # two turns' ends and beginnings
        ("Qwen/Qwen2.5-Math-PRM-7B", 1),
    ],
)
def test_outlines_leave_room_for_marks(model: str, markers: int):
    """As many tokens as tests/parity finds with the models' own tokenizers."""
    found = outline_verifier(model)
    assert found is not None
    assert len(found.spec.step_format.markers) == markers


TWO = np.ones((2, 4))


class Checkpoint:
    """Tensors in place of a folder's."""

    where = "folder"

    def __init__(self, **tensors: Any):
        self.config = ModelConfig(
            vocab_size=9, width=4, depth=1, heads=1, kv_heads=1, head_size=4, ffn_width=4, context=9
        )
        self.tensors = {k.replace("__", "."): np.asarray(v, np.float32) for k, v in tensors.items()}
        self.shapes = {name: tensor.shape for name, tensor in self.tensors.items()}

    def read(self, name: str, part: Any) -> np.ndarray:
        return self.tensors[name][part]


@pytest.mark.parametrize(
    ("tensors", "change", "message"),
    [
        ({}, {}, "score.weight is missing, which the format's head names"),
        ({"score__weight": TWO}, {}, r"score.weight of the head is \[2, 4\], not \[1, 4"),
        ({"score__weight": TWO.T}, {"good": 1, "bad": 0}, r"is \[4, 2\], not \['any', 4\]"),
        ({"score__weight": TWO}, {"good": 2, "bad": 0}, "has 2 outputs, and none is 2"),
        ({"score__weight": TWO}, {"good": "abc", "bad": "a"}, "good is 'abc', which is 3"),
        (
            {"score__weight": np.ones((1, 4)), "score__bias": np.ones(3)},
            {},
            r"score.bias of the head is \[3\], not \[1\]",
        ),
        (
            {"a__weight": np.ones((6, 4)), "a__bias": np.ones(6), "b__weight": np.ones((1, 6))},
            {"head": ("a", "b")},
            "of the layers of the head just a.bias is there",
        ),
    ],
)
def test_heads_that_do_not_fit(tensors: Any, change: dict[str, Any], message: str):
    form = PRMFormat(**{"prompt": "{question}", "mark": "x", "head": ("score",)} | change)
    checkpoint: Any = Checkpoint(**tensors)
    with pytest.raises(UserError, match=message) as error:
        _head(checkpoint, form, TOKENIZER)
    assert str(error.value).startswith("folder: ")


def test_two_outputs_become_their_difference():
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(2, 4)), rng.normal(size=2)
    checkpoint: Any = Checkpoint(score__weight=weight, score__bias=bias)
    form = PRMFormat("{question}", "x", ("score",), good=1, bad=0)
    found = _head(checkpoint, form, TOKENIZER)
    np.testing.assert_allclose(found["score"], weight[1] - weight[0], rtol=1e-6)
    np.testing.assert_allclose(found["score_bias"], bias[1] - bias[0], rtol=1e-6)
