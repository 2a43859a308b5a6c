import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttc_jax.tasks.spelling import choice, respell


@pytest.mark.parametrize(
    ("answer", "spelled"),
    [
        # units
        (r"12~\text{cm}", "12"),
        ("12 dollars", "12"),
        ("12cm", "12"),
        (r"\$12", "12"),
        (r"\text{12 cm}", "12"),
        (r"144 \mbox{ m}^3", "144"),
        (r"25\ \text{m}/\text{s}", "25"),
        (r"8\sqrt{3} \text { square inches}", r"8\sqrt{3}"),
        (r"480 + 480\sqrt{3}\text{ feet}", r"480 + 480\sqrt{3}"),
        ("18 square inches", "18"),
        (r"5^{\text{th}}", "5"),
        ("5th", "5"),
        ("2 million dollars", r"2\times 10^{6}"),
        (r"3\text{ thousand}", r"3\times 10^{3}"),
        ("90°", "90"),
        (r"98.6^\circ\text{F}", "98.6"),
        (r"\approx 8.24 \text{ mph}", "8.24"),
        # no units
        ("2c", "2c"),
        ("5 m", "5 m"),
        ("x = 5 or x = 6", "x = 5 or x = 6"),
        ("3 mod 7", "3 mod 7"),
        (r"x_\text{max}", r"x_\text{max}"),
        (r"5\text{ and }3\text{ cm}", "5,3"),
        ("no solution", "no solution"),
        (r"\text{no solution}", r"\text{no solution}"),
        # Unicode and commands
        ("√2", r"\sqrt{2}"),
        ("2√(x+1)", r"2\sqrt{x+1}"),
        ("½", r"\frac{1}{2}"),
        ("1½", r"1\frac{1}{2}"),
        ("2π", r"2\pi"),
        ("x² ≤ −3", r"x^{2} \le -3"),
        ("2516₈", "2516_{8}"),
        ("𝑥＋１", "x+1"),
        ("∅", r"\emptyset"),
        (r"\varnothing", r"\emptyset"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"( 3, \frac{\pi}{2} )"),
        (r"\lbrace 1,2\rbrace", r"\{ 1,2\}"),
        (r"\left\langle 1,2\right\rangle", r"( 1,2)"),
        (r"3+4\mathrm{i}", "3+4i"),
        (r"\mathbf{2340}", "2340"),
        (r"\textbf{025}", "025"),
        (r"\textbf{Yes}", r"\text{Yes}"),
        (r"\frac123", r"\frac{1}{2}3"),
        ("sqrt12", r"\sqrt{12}"),
        ("2pi/3", r"2\pi/3"),
        (r"11,\! 111,\! 100", "11111100"),
        (r"1{,}000\pi", r"1000\pi"),
        ("x = 58,500", "x = 58500"),
        # what stands for a value
        (r"0.\overline{3}", r"\frac{3}{9}"),
        (r"2.1\bar{6}", r"\frac{195}{90}"),
        (r"\textbf{(C)}\ 5", "5"),
        ("C. 5", "5"),
        (r"\{x\mid 2\le x<5\}", r"2\le x<5"),
        (r"\{x \in \mathbb{R} : x > 3\}", "x > 3"),
        (r"\sin 30^\circ", r"\sin (\frac{30\pi}{180})"),
        (r"06\!:\!05 \text{ p.m.}", "6:05 pm"),
        (r"2, 3, \text{ and } 4", "2, 3, 4"),
    ],
)
def test_respell(answer: str, spelled: str) -> None:
    assert respell(answer) == spelled


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        (r"\textbf{(C)}\ 5", "C"),
        (r"\text{(A) } -3", "A"),
        ("B) 7", "B"),
        ("(D) 12 cm", "D"),
        ("(A) and (B)", None),
        (r"(A) \cup (B)", None),
        ("(A), (B)", None),
        (r"\text{(C)}", None),
        ("C", None),
        ("(x) 5", None),
    ],
)
def test_choice(answer: str, letter: str | None) -> None:
    assert choice(answer) == letter


PIECES = [
    r"\text{",
    r"\frac",
    r"\sqrt",
    r"\left",
    "}",
    "{",
    "(",
    ")",
    r"\,",
    "^",
    "_",
    r"\circ",
    " ",
]


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(string.printable, max_size=3))))
def test_a_spelling_is_kept(pieces: list[str]) -> None:
    """Whatever the text, it is read, and what is left has no white space at its ends."""
    spelled = respell("".join(pieces))
    assert spelled == spelled.strip()


@pytest.mark.parametrize(
    "piece",
    [r"\text{", r"\sqrt ", r"\frac", "1", "1 ", "a ", r"\text{a}", "0.", r"\{x:", "(A) ", "^", "½"],
)
def test_long_text_is_respelled_in_linear_time(piece: str) -> None:
    """Were the time quadratic, this would take minutes."""
    respell(piece * (50_000 // len(piece)))
    respell(piece * (50_000 // len(piece)) + r"\circ\sin}")
