from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from ttc_jax.tasks.answers import canonical_text, equal_text
from ttc_jax.tasks.numerals import number

WHOLE = st.integers(-(10**7), 10**7)
WHOLES = st.sampled_from(["", "-", "3", "-3"])
NUMERALS = st.one_of(
    WHOLE.map(str),
    WHOLE.map("{:,}".format),
    st.decimals(-1000, 1000, places=3).map(str),
    st.builds("{}/{}".format, st.integers(-20, 20), st.integers(1, 20)),
    st.builds("{}\\frac{{{}}}{{{}}}".format, WHOLES, st.integers(0, 20), st.integers(1, 20)),
)


@given(NUMERALS, NUMERALS)
def test_numerals_are_compared_as_math_verify_does(gold: str, answer: str) -> None:
    """What is decided without a worker is what a worker would have said."""
    from math_verify import parse, verify

    for one, other in ((gold, answer), (gold, gold), (gold, str(number(gold)))):
        equal = equal_text(one, other)
        if equal is not None:
            read = partial(parse, parsing_timeout=None)  # pyright: ignore[reportArgumentType]
            parsed = read(f"${one}$"), read(f"\\boxed{{{other}}}")
            assert equal == verify(parsed[0], parsed[1], timeout_seconds=None)


def test_canonical_text() -> None:
    assert canonical_text("0.50") == canonical_text("\\frac{2}{4}") == "1/2"
    assert canonical_text("\\text{Even}") == canonical_text("even") == "even"
    assert canonical_text("\\textbf{(B)}") == canonical_text("B") == "b"
    assert canonical_text("no  solution") == "no solution"
    assert canonical_text("xy") is None  # a product
    assert canonical_text("\\sqrt{2}") is None
