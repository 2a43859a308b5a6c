"""Blank lines that end steps, in the tokens of public models."""

from pathlib import Path

import numpy as np
import pytest

from tests.parity.test_public_prms import tokenizer_of
from ttc_jax.models.delimiters import Delimiter

TEXT = "One: 1 + 1 = 2.\n\nTwo:\n  and\n\n\nThree.\n\n\n\n---\n\n\\[x\\]\n\n)\n\nFour"
STEPS = ["One: 1 + 1 = 2.", "Two:\n  and", "Three.", "---", "\\[x\\]", ")", "Four"]


@pytest.mark.parametrize(
    ("name", "whole"), [("llama3_1", True), ("qwen3", True), ("mistral_v1", False)]
)
def test_a_blank_line_ends_a_step(tokenizers: Path, name: str, whole: bool):
    """Whether a token holds it, or takes two (Mistral, as Llama 2)."""
    tokenizer = tokenizer_of(tokenizers, name)
    assert tokenizer.containing("\n\n").any() == whole
    newline = tokenizer.encode("a\n", inside=True)[-1]
    apart: list[int] = []
    for i, line in enumerate(TEXT.split("\n")):
        apart += [*([newline] if i else []), *(tokenizer.encode(line, inside=True) if line else [])]
    for tokens in (tokenizer.encode(TEXT), apart):
        _, ends = Delimiter.of(tokenizer, "\n\n").found(np.array(tokens, np.int32))
        parts = np.split(np.array(tokens), np.flatnonzero(ends) + 1)
        found = [tokenizer.decode(part.tolist(), inside=True).strip() for part in parts]
        assert found == STEPS
