"""Votes and verdicts agree: equal answers have one canonical form, unequal ones never."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttc_jax.tasks.grading import Grader

# Each line is one answer in many spellings; no two lines are equal.
ANSWERS = [
    ("5", "x=5", r"\textbf{(C)}\ 5", "C. 5"),
    ("Yes", "YES", r"\text{Yes}", r"\textbf{yes}", "yes."),
    ("odd", r"\text{odd}", "Odd"),
    ("AAS", r"\text{AAS}", r"\mathrm{AAS}"),
    ("ASA",),
    ("CBA", r"\text{CBA}"),
    ("ABC",),
    ("y - x", "y-x", "-x+y"),
    ("A - B", "A-B"),
    ("a - b",),
    (
        r"x=1\text{ or }x=2",
        "1,2",
        "x = 1, x = 2",
        "x=1 or x=2",
        r"\{1,2\}",
        r"2 \text{ and } 1",
        r"x \in \{1,2\}",
    ),
    ("m+n=73", "73"),
    (r"\frac{1}{1+\sqrt2}", r"\sqrt2-1", r"-1+\sqrt{2}"),
    ("(x+1)^2", "x^2+2x+1", "1 + 2x + x^2", "(1+x)(x+1)"),
    (r"\sqrt{0.5}", r"\frac{\sqrt2}{2}", r"\frac{1}{\sqrt{2}}", "√2/2", r"\cos 45^\circ"),
    (
        r"12~\text{cm}",
        "12",
        "12 dollars",
        r"12\text{ cm}",
        r"\$12",
        "12cm",
        r"12 \mbox{ square inches}",
    ),
    ("90°", "90", r"90^\circ", r"90^{\circ}", r"90\text{ degrees}", "90 degrees"),
    ("√2", r"\sqrt{2}", r"\sqrt2", "sqrt(2)"),
    ("½", r"\frac{1}{2}", "0.5", r"\dfrac12", "1⁄2"),
    (r"\textbf{025}", "25", r"\mathbf{25}", "025"),
    (r"0.\overline{3}", r"\frac13", r"0.\bar{3}", r"0.3\overline{3}"),
    (r"\varnothing", r"\emptyset", "∅", r"\{\}"),
    (r"\text{A,D}", "A,D", r"\text{A, D}", "(A), (D)", r"\text{A and D}"),
    (r"8\sqrt{3} \text { square inches}", r"8\sqrt{3}", r"\sqrt{192}", "8√3"),
    ("2516_8", "2516_{8}", r"2516_{\text{eight}}"),
    ("2516_9",),
    ("6:30", "06:30", r"\text{6:30}"),
    ("7:35",),
    (r"\{x\mid 2\le x<5\}", "[2,5)", r"2\le x<5", r"5 > x \ge 2"),
    (r"\lbrace 1,3\rbrace", r"\{1,3\}", "3, 1"),
    (r"\langle 1,3\rangle", "(1,3)"),
    ("[1,3]",),
    (r"3+4\mathrm{i}", "3+4i", "4i + 3"),
    ("7",),
    (r"\frac{1}{2004!}", "1/2004!"),
    (r"\frac{1}{2006!}", "1/2006!"),
    ("2^{-100}",),
    ("2^{-101}",),
    ("2c",),
    ("2d",),
    ("2",),
    (r"\frac{x}{2^{100}}",),
    (r"\frac{x}{2^{101}}",),
    ("1:2:3", "2:4:6"),
    ("1:1:6", "2:2:12"),
    (r"3 \text{ million}", "3,000,000", "3000000"),
    ("9", "x - 9 = 0", "9 = x", "2x = x + 9", r"\{9\}"),
    ("18", "2x = 18", "5x + 3 = 18", "f^{-1}(2) = 18", r"18 \text{ or } \frac{36}{2}"),
    (r"\sin 2x", r"2\sin x\cos x"),
    (r"\frac{\sqrt{6}+\sqrt{2}}{4}", r"\cos 15^\circ", r"\frac{\sqrt{2+\sqrt3}}{2}"),
    (r"\ln 8", r"3\ln 2"),
    ("x>3", r"(3,\infty)", "3<x", "2x > 6"),
    (r"x\ge 3", r"[3,\infty)"),
    ("y=2x+1", "2x-y+1=0", "4x - 2y + 2 = 0"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{bmatrix} 1 \\ 2 \end{bmatrix}"),
    (r"\begin{pmatrix}2\\1\end{pmatrix}",),
    (r"\frac{-1\pm\sqrt5}{2}", r"\frac{-1+\sqrt5}{2}, \frac{-1-\sqrt5}{2}"),
    ("x=1,y=2",),
    ("x=2,y=1",),
    ("2,2,3",),
    ("2,3",),
    (r"\binom{n}{2}", r"\frac{n(n-1)}{2}"),
    (r"\frac{x+y}{xy}", r"\frac1x+\frac1y"),
    ("north", r"\text{North}"),
    ("June 20", r"\text{June 20}", r"\text{June } 20"),
    (
        r"5 \text{ apples and } 3 \text{ pears}",
        "5 apples and 3 pears",
        r"5\text{ apples},\ 3\text{ pears}",
    ),
    (r"3 \text{ apples and } 5 \text{ pears}",),
    ("80 miles westward and 150 miles northward",),
    ("80 miles westward and 150 miles southward",),
    (r"2\text{ hours }30\text{ minutes}", r"2 \text{ hours and } 30 \text{ minutes}"),
    (r"2\text{ hours }31\text{ minutes}",),
    ("Alice, Bob", "Alice and Bob", r"\text{Alice} \text{ and } \text{Bob}"),
    (r"\angle ABC", r"\angle{ABC}", "∠ABC"),
    (r"\angle ACB",),
    ("no solution", r"\text{No solutions}"),
    (r"\mathbb{R}", r"\text{all real numbers}", "All real numbers", r"(-\infty,\infty)"),
    (
        "11",
        "11 (approximately)",
        "about 11",
        "11 times",
        r"\text{about } 11",
        r"\text{The answer is: } 11",
        r"\therefore x = 11",
        r"11 \pmod{12}",
        r"\color{red}{11}",
        r"\text{Area} = 11\text{ m}^2",
    ),
    ("-11", r"\text{minus } 11", r"\text{negative } 11"),
    (r"(-\infty,2)\cup(3,\infty)", r"x<2 \text{ or } x>3", "x > 3, x < 2"),
    (r"(2,4)", r"x>2 \text{ and } x<4"),
    (r"4\text{ cm}, 6\text{ cm}", "4,6", "6 and 4"),
    (r"\frac\pi4", r"\frac{\pi}{4}", r"\frac{\pi}4"),
    (r"\binom52", "10", r"\dbinom{5}{2}"),
    ("11011_2", "(11011)_2"),
    ("1{,}23", "1.23"),
    (r"3\text{ to }4", "3:4"),
    (r"6 + 4\text{i}", "6+4i"),
    (r"\text{July 20}",),
    ("5 m",),
    ("xy", "yx", r"x \cdot y"),
    (r"-\frac{1}{x}", r"\frac{-1}{x}", r"\frac{1}{-x}"),
]


@pytest.fixture(scope="module")
def keys(grader: Grader) -> list[list[str | None]]:
    return [[verdict.answer for verdict in grader.judge("0", same)] for same in ANSWERS]


@pytest.mark.parametrize("line", range(len(ANSWERS)), ids=[same[0] for same in ANSWERS])
def test_equal_answers_vote_together(keys: list[list[str | None]], line: int) -> None:
    assert len(set(keys[line])) == 1
    assert None not in keys[line]


def test_unequal_answers_vote_apart(keys: list[list[str | None]]) -> None:
    first = [row[0] for row in keys]
    assert len(set(first)) == len(first)


@pytest.mark.parametrize("line", range(len(ANSWERS)), ids=[same[0] for same in ANSWERS])
def test_a_verdict_agrees_with_the_votes(grader: Grader, line: int) -> None:
    same, others = ANSWERS[line], [ANSWERS[line - 1][0], ANSWERS[line - 2][0]]
    right = grader.judge(same[0], same)
    assert [verdict.correct for verdict in right] == [True] * len(same)
    wrong = grader.judge(same[0], others)
    assert [verdict.correct for verdict in wrong] == [False, False]


FACTORS = st.lists(st.tuples(st.integers(1, 5), st.integers(-9, 9)), min_size=1, max_size=3)


def _product(factors: list[tuple[int, int]]) -> str:
    return "".join(f"({slope}x{shift:+d})" for slope, shift in factors)


def _expanded(factors: list[tuple[int, int]]) -> str:
    coefficients = [1]
    for slope, shift in factors:
        raised = [slope * c for c in coefficients] + [0]
        coefficients = [a + shift * b for a, b in zip(raised, [0, *coefficients], strict=True)]
    degree = len(coefficients) - 1
    return "".join(f"{c:+d}x^{{{degree - i}}}" for i, c in enumerate(coefficients)).lstrip("+")


@settings(max_examples=12, deadline=None)
@given(FACTORS, st.integers(1, 9))
def test_a_product_votes_with_its_expansion(
    grader: Grader, factors: list[tuple[int, int]], more: int
) -> None:
    product, expanded = _product(factors), _expanded(factors)
    one, other, another = grader.judge(product, [product, expanded, f"{expanded}+{more}"])
    assert one.answer == other.answer != another.answer
    assert (one.correct, other.correct, another.correct) == (True, True, False)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.integers(2, 30), st.integers(1, 9))
def test_a_root_votes_with_its_other_forms(grader: Grader, a: int, b: int, c: int) -> None:
    forms = [
        rf"\frac{{{a}}}{{{c}+\sqrt{{{b}}}}}",
        rf"\frac{{{a}({c}-\sqrt{{{b}}})}}{{{c * c - b}}}",
    ]
    if c * c == b:
        return
    one, other = grader.judge(forms[0], forms)
    assert one.answer == other.answer
    assert other.correct


@pytest.mark.parametrize("count", [2, 3])
def test_lists_have_no_order_and_points_have_one(grader: Grader, count: int) -> None:
    orders = list(itertools.permutations(["5", r"\sqrt{3}", "x"][:count]))
    lists = {v.answer for v in grader.judge("0", [", ".join(order) for order in orders])}
    points = {v.answer for v in grader.judge("0", [f"({', '.join(order)})" for order in orders])}
    assert len(lists) == 1
    assert len(points) == len(orders)
    assert lists.isdisjoint(points)
