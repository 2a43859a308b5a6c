from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttc_jax.tasks.answers import canonical_text, equal_text, same_choice
from ttc_jax.tasks.numerals import number
from ttc_jax.tasks.spelling import respell

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


def canonical(answer: str) -> str | None:
    return canonical_text(respell(answer))


def equal(gold: str, answer: str) -> bool | None:
    return equal_text(respell(gold), respell(answer))


def test_canonical_text() -> None:
    assert canonical("0.50") == canonical("\\frac{2}{4}") == "1/2"
    assert canonical("\\text{Even}") == canonical("even") == "even"
    assert canonical("\\textbf{(B)}") == canonical("B") == "b"
    assert canonical("no  solution") == "no solution"
    assert canonical("xy") is None  # a product
    assert canonical("\\sqrt{2}") is None


@pytest.mark.parametrize(
    "same",
    [
        ("Yes", "YES", r"\text{Yes}", r"\mathrm{yes}", "**yes**".strip("*"), "yes."),
        ("odd", r"\text{odd}", r"\mbox{ odd }", "Odd"),
        ("AAS", r"\text{AAS}"),
        ("D, A", r"\text{A,D}", "A,D", "(A) and (D)", r"\text{A and D}", r"\text{(A), (D)}"),
        ("2516_8", "2516_{8}", r"2516_{\text{eight}}", r"2516_\text{eight}", "02516_8"),
        ("6:30", "06:30", r"\text{6:30}", r"6\!:\!30"),
        ("6:30 p.m.", "6:30 PM", r"\text{6:30 pm}", r"06\!:\!30 \text{ p.m.}"),
        ("June 20", r"\text{June 20}", "june  20"),
        ("A5_{11}", r"\text{A5}_{11}"),
    ],
)
def test_equal_words(same: tuple[str, ...]) -> None:
    assert len({canonical(answer) for answer in same} - {None}) == 1
    assert all(equal(one, other) for one in same for other in same)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("AAS", "ASA"),
        ("CBA", "ABC"),
        (r"\text{odd}", "even"),
        ("A,D", "A,B"),
        ("A", "A,D"),
        ("2516_8", "2516_9"),
        (r"1011_{\text{two}}", r"1011_{\text{three}}"),
        ("-221_3", "221_3"),
        ("6:30", "7:35"),  # both of them 1/5
        ("6:30 am", "6:30 pm"),
        ("2:15:30", "2:15:31"),
        ("June 20", "July 20"),
        ("June 20", "June 21"),
        ("north", "south"),
    ],
)
def test_different_words(one: str, other: str) -> None:
    assert equal(one, other) is equal(other, one) is False
    assert canonical(one) != canonical(other)


def test_what_goes_without_saying() -> None:
    """A base or a half of the day that only one of two answers names."""
    for one, other in (("2516_8", "2516"), ("6:30", "6:30 pm"), ("-221_3", "-221")):
        assert equal(one, other) is equal(other, one) is True
        assert canonical(one) != canonical(other)


@given(st.permutations("ACDG"), st.permutations("ACDG"))
def test_a_word_is_no_product(one: list[str], other: list[str]) -> None:
    assert equal("".join(one), "".join(other)) is (one == other)


@pytest.mark.parametrize(
    ("gold", "answer", "same"),
    [
        ("C", r"\textbf{(C)}\ 5", True),
        (r"\text{(C)}", "C. 5", True),
        (r"\textbf{(C)}\ 5", "(C)", True),
        ("B", r"\textbf{(C)}\ 5", False),
        ("5", r"\textbf{(C)}\ 5", False),  # its value is compared as any other
        ("C", "5", False),
    ],
)
def test_a_choice_may_name_its_letter(gold: str, answer: str, same: bool) -> None:
    assert same_choice(gold, answer) is same
