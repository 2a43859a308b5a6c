"""Where steps end, and where markers go."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ttc_jax.models.delimiters import Delimiter
from ttc_jax.verifiers.steps import NOTHING, StepFormat, step_ends

TEXTS = [*"ab", "\n", "c", "\n", "d\n", "\ne"]
V = len(TEXTS)
LINES = Delimiter.in_texts(TEXTS, "\n")
NEWLINE, END = 2, 1


def ends_of(tokens: list[int], ended: bool) -> list[int]:
    """Last token of each step, told as a reader would."""
    ends, text = [], True  # an answer may begin with a delimiter: that is a step
    for at, token in enumerate(tokens):
        before, ends_here = text, False
        for sign in TEXTS[token]:
            ends_here |= sign == "\n" and text
            text = sign != "\n"
        last = at == len(tokens) - 1 and text and (before or not ended)
        if ends_here or last:
            ends.append(at)
    return ends


@pytest.mark.parametrize(
    ("answer", "ends"),
    [
        ([3, NEWLINE, 3, 3, END], [1, 4]),
        ([3, NEWLINE, 3, NEWLINE, END], [1, 3]),  # no empty last step
        ([3, NEWLINE, 3, NEWLINE], [1, 3]),  # cut off right behind a delimiter
        ([3, NEWLINE, 3, 3], [1, 3]),  # cut off within a step
        ([3, NEWLINE, 3], [1, 2]),  # cut off after its first token
        ([3, NEWLINE, NEWLINE, 4, 3, END], [1, 5]),  # an empty line is no step
        ([3, NEWLINE, 5, 5, END], [1, 2, 3]),  # a token can be a step
        ([3, 6, END], [1, 2]),  # text behind a delimiter in its token
        ([3, NEWLINE, 6], [1, 2]),
        ([3, 3, END], [2]),
        ([END], [0]),
        ([NEWLINE], [0]),
        ([], []),
    ],
)
def test_where_steps_end(answer: list[int], ends: list[int]):
    ended = bool(answer) and answer[-1] == END
    assert ends_of(answer, ended) == ends
    tokens = np.array([answer + [NEWLINE] * (6 - len(answer))], np.int32)  # padding is not read
    found = step_ends(tokens, np.array([len(answer)]), np.array([ended]), LINES)
    assert np.flatnonzero(found[0]).tolist() == ends


@hypothesis.given(
    arrays(np.int32, (2, 3, 8), elements=st.integers(0, V - 1)),
    arrays(np.int32, (2, 3), elements=st.integers(0, 8)),
    arrays(np.bool_, (2, 3)),
)
def test_step_ends_are_the_readers_in_numpy_and_jax(tokens, lengths, ended):
    found = step_ends(tokens, lengths, ended, LINES)
    assert isinstance(found, np.ndarray)
    for row in np.ndindex(2, 3):
        expected = ends_of(tokens[row][: lengths[row]].tolist(), bool(ended[row]))
        assert np.flatnonzero(found[row]).tolist() == expected
    np.testing.assert_array_equal(found, JITTED(tokens, lengths, ended, LINES))


JITTED = jax.jit(step_ends)


@hypothesis.settings(max_examples=40)
@hypothesis.given(
    arrays(np.int32, (1, 2, 6), elements=st.integers(0, V - 1)),
    arrays(np.int32, (1, 2), elements=st.integers(0, 6)),
    arrays(np.bool_, (1, 2, 6)),
    arrays(np.int32, (1, 2, 6), elements=st.integers(-2, 2)),
    st.sampled_from(
        [
            StepFormat((7, 8)),
            StepFormat((9,), -1),
            StepFormat(),
            StepFormat((7, 8), -1, swaps=((NEWLINE, NOTHING), (4, 3))),
            StepFormat(swaps=((0, NOTHING),)),
            StepFormat((7, 8), cuts=((NEWLINE, -1, NOTHING), (NEWLINE, 1, NOTHING), (3, -2, 0))),
            StepFormat(swaps=((4, 3),), cuts=((0, 2, 1),)),
        ]
    ),
)
def test_markers_stand_behind_their_steps(tokens, real, ends, taken, shape: StepFormat):
    ends &= np.arange(6) < real[..., None]
    written = np.arange(6) > 0
    taken = taken if shape.cuts else np.zeros_like(taken)
    cuts = {(token, count): after for token, count, after in shape.cuts}
    arrays = map(jnp.asarray, (tokens, real, ends))
    marked = shape.mark(
        *arrays,
        steps=6,
        written=jnp.asarray(written)[None, None],
        taken=jnp.asarray(taken) if shape.cuts else None,
    )
    for n in range(2):
        text, read = [], {}
        for at in range(real[0, n]):
            token, count = int(tokens[0, n, at]), int(taken[0, n, at])
            if written[at]:
                token = cuts.get((token, count), dict(shape.swaps).get(token, token))
            behind = count < 0  # what is left belongs to the next step
            text += [token] if token != NOTHING and not behind else []
            if ends[0, n, at]:
                text += shape.markers
                read[at] = len(text) - 1 + shape.offset
            text += [token] if token != NOTHING and behind else []
        assert marked.real[0, n] == len(text)
        assert np.asarray(marked.tokens)[0, n, : len(text)].tolist() == text
        assert {at: int(marked.read[0, n, at]) for at in read} == read
