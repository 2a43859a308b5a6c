import string
import time
from fractions import Fraction
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttc_jax.tasks.answers import canonical_text, equal_text, same_choice
from ttc_jax.tasks.extraction import after_hashes, boxed, last_number
from ttc_jax.tasks.numerals import number
from ttc_jax.tasks.spelling import respell


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        (r"so \boxed{5}", "5"),
        (r"\boxed{1} no, \boxed{2}", "2"),
        (r"\boxed{9.}", "9"),
        (r"\boxed{ x , }", "x"),
        (r"\boxed{3\,}.", "3"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed {7}", "7"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{ x \right.}", r"\left\{ x \right"),
        (r"\boxed{a \\}", r"a \\"),
        (r"{ \boxed{4} and an open {brace", "4"),
        (r"\boxed{4} then cut off \boxed{\frac{1}{", "4"),
        (r"\boxed{\boxed{6}}", "6"),
        (r"} \boxed{8}", "8"),
        (r"\boxed{}", None),
        (r"\boxed{.}", None),
        (r"\boxed{1", None),
        ("boxed{1}", None),
        ("", None),
    ],
)
def test_boxed_takes_the_last_complete_box(solution: str, answer: str | None) -> None:
    assert boxed(solution) == answer


BALANCED = st.recursive(
    st.text(alphabet=string.ascii_letters + r"0123456789+-=^_ ", min_size=1),
    lambda inner: st.lists(
        st.one_of(
            inner, inner.map("{{{}}}".format), st.sampled_from([r"\{", r"\}", r"\\", r"\frac "])
        ),
        min_size=1,
    ).map("".join),
    max_leaves=10,
)


@given(BALANCED, st.text(), st.text(alphabet=string.ascii_letters + " .$}\n"))
def test_boxed_finds_what_was_boxed(content: str, before: str, after: str) -> None:
    found = boxed(f"{before} \\boxed{{{content}}}{after}")
    assert found == boxed(f"\\boxed{{{content}}}")
    assert content.strip().startswith(found or "")


@given(st.text(alphabet=r"\boxed{}. x", max_size=60))
def test_boxed_is_always_balanced(text: str) -> None:
    found = boxed(text)
    if found is not None:
        plain = found.replace(r"\\", "").replace(r"\{", "").replace(r"\}", "")
        assert plain.count("{") == plain.count("}")
        assert found in text


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" * 10**6,
        "{" * 10**7,
        "\n" * 10**7,
        " " * 10**7 + "####",
        "\\boxed" + " " * 10**7,
        "\\boxed{" + "\\," * 10**6 + "}",
    ],
    ids=range(6),
)
def test_ten_megabytes_are_searched_at_once(text: str) -> None:
    start = time.monotonic()
    boxed(text)
    after_hashes(text)
    assert time.monotonic() - start < 1.0


def test_after_hashes() -> None:
    assert after_hashes("2 * 9 = 18\n#### 18") == "18"
    assert after_hashes("#### 18.\n\nQuestion: another\n#### 7") == "18"
    assert after_hashes("####\nno answer") is None
    assert after_hashes("of #### within a line") is None


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("So 250 + 250 = 500, which is 50% of it.", "50"),
        ("She earns $1,234.50.", "1,234.50"),
        ("The answer is 48.", "48"),
        ("it is -3", "-3"),
        ("10 - 3", "3"),
        ("3 x 4 = 12 eggs, that is x2", "12"),
        ("it takes 3 bags of 10.5kg", "3"),
        ("so 2 x 337.5n", "2"),
        ("none", None),
        ("", None),
    ],
)
def test_last_number(solution: str, answer: str | None) -> None:
    assert last_number(solution) == answer


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,234,567", Fraction(1234567)),
        ("3\\,000", Fraction(3000)),
        ("10{,}080", Fraction(10080)),
        ("40,\\!000", Fraction(40000)),
        ("- 12.50", Fraction(-25, 2)),
        (".5", Fraction(1, 2)),
        ("\\$18", Fraction(18)),
        ("$1,000.00", Fraction(1000)),
        ("50\\%", Fraction(50)),
        ("-\\dfrac{1}{2}", Fraction(-1, 2)),
        ("2 / 4", Fraction(1, 2)),
        ("-3 1/2", Fraction(-7, 2)),
        ("3\\frac{1}{2}", Fraction(7, 2)),
        ("31/2", Fraction(31, 2)),
        ("3 1/0", None),
        ("1/0", None),
        ("1,2", None),
        ("1,23,456", None),
        ("12,3456", None),
        ("1e5", None),
        ("１２", None),
        ("x", None),
        ("", None),
        ("9" * 10**6, None),
    ],
)
def test_number(text: str, value: Fraction | None) -> None:
    assert number(text) == value


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
