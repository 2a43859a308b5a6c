import string
import time
from fractions import Fraction
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttc_jax.tasks.answers import canonical_text, equal_text
from ttc_jax.tasks.extraction import after_hashes, boxed, last_number
from ttc_jax.tasks.numerals import number


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


def test_canonical_text() -> None:
    assert canonical_text("0.50") == canonical_text("\\frac{2}{4}") == "1/2"
    assert canonical_text("\\text{Even}") == canonical_text("even") == "even"
    assert canonical_text("\\textbf{(B)}") == canonical_text("B") == "b"
    assert canonical_text("no  solution") == "no solution"
    assert canonical_text("xy") is None  # a product
    assert canonical_text("\\sqrt{2}") is None
