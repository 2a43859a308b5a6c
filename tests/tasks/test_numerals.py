from fractions import Fraction

import pytest

from ttc_jax.tasks.numerals import counted, number, numerals, plain, spelled, without_unit


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,234,567", Fraction(1234567)),
        ("3\\,000", Fraction(3000)),
        ("10{,}080", Fraction(10080)),
        ("40,\\!000", Fraction(40000)),
        ("12\\;000", Fraction(12000)),
        ("1'234’567".replace("’", "'"), Fraction(1234567)),
        ("12\u202f000", Fraction(12000)),
        ("1_000", Fraction(1000)),
        ("- 12.50", Fraction(-25, 2)),
        ("−3", Fraction(-3)),
        ("–3", Fraction(-3)),
        ("minus 3", Fraction(-3)),
        ("negative 1/2", Fraction(-1, 2)),
        (".5", Fraction(1, 2)),
        ("\\$18", Fraction(18)),
        ("$-18", Fraction(-18)),
        ("18 €", Fraction(18)),
        ("$1,000.00", Fraction(1000)),
        ("50\\%", Fraction(50)),
        ("-\\dfrac{1}{2}", Fraction(-1, 2)),
        ("\\frac12", Fraction(1, 2)),
        ("\\frac{-1}{2}", Fraction(-1, 2)),
        ("2 / 4", Fraction(1, 2)),
        ("1.5/2", Fraction(3, 4)),
        ("-3 1/2", Fraction(-7, 2)),
        ("3 and 1/2", Fraction(7, 2)),
        ("3\\frac{1}{2}", Fraction(7, 2)),
        ("1½", Fraction(3, 2)),
        ("⅔", Fraction(2, 3)),
        ("1⁄2", Fraction(1, 2)),
        ("31/2", Fraction(31, 2)),
        ("1e5", Fraction(100000)),
        ("1.5E+3", Fraction(1500)),
        ("25e-1", Fraction(5, 2)),
        ("3 \\times 10^{4}", Fraction(30000)),
        ("3×10⁴", Fraction(30000)),
        ("10^{-3}", Fraction(1, 1000)),
        ("2^10", Fraction(1024)),
        ("１２", Fraction(12)),
        ("3 1/0", None),
        ("1/0", None),
        ("0^{-1}", None),
        ("+-3", None),
        ("1,2", None),  # a list
        ("1,23,456", None),
        ("12,3456", None),
        ("0,123", None),
        ("1e", None),
        ("7:30", None),
        ("x", None),
        ("", None),
        ("9" * 10**6, None),
    ],
)
def test_number(text: str, value: Fraction | None) -> None:
    assert number(text) == value


def read(text: str) -> list[Fraction | str]:
    found = [spelled(numeral) for numeral in numerals(plain(text))]
    values = [number(one) for one in found]
    return [one if value is None else value for one, value in zip(found, values, strict=True)]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("It falls to −3 degrees.", [-3]),
        ("from 5 to –3", [5, -3]),
        ("it is —3", [-3]),
        ("it is minus 3", [-3]),
        ("negative $5", [-5]),
        ("minus **3**", [-3]),
        ("a loss of -$5, $-6, −€7", [-5, -6, -7]),
        ("x=-3, (-4), $-5$, = - 6", [-3, -4, -5, -6]),
        ("-½ and −1½", [Fraction(-1, 2), Fraction(-3, 2)]),
        ("**-3**", [-3]),
        # A dash, or "minus", that is no sign.
        ("10 - 7, 10-7, 10–7, 10 -7", [10, 7, 10, 7, 10, 7, 10, 7]),
        ("(5) - 3, 50%-3", [5, 3, 50, 3]),
        ("10 minus 3", [10, 3]),
        ("10 apples minus 3 apples", [10, 3]),
        ("twenty minus 3", [3]),
        ("- 18 apples\n- **9** eggs", [18, 9]),
        ("pages 3-5, twenty-4, A-3", [3, 5, 4, 3]),
        ("the answer—18—is", [18]),
        # Units, currencies, markup.
        ("3 kg of 4 makes 12kg", [3, 4, 12]),
        ("12hrs 5pm 300g 20mph 9m² 8cm2 90°C 50%", [12, 5, 300, 20, 9, 8, 90, 50]),
        ("$18 \\$19 US$20 €21 22€ Rs.23 £.50", [18, 19, 20, 21, 22, 23, Fraction(1, 2)]),
        ("**18** `19` $20$ \\(21\\) 22. 23, ...24", [18, 19, 20, 21, 22, 23, 24]),
        ("18-year-old", [18]),
        # Thousands.
        ("1,234.50 1{,}234 1\\,234 1'234 1’234 1_234", [Fraction(2469, 2), *[1234] * 5]),
        ("1 234 567 or 1\u00a0234 or 1\u2009234 or 1\u202f234", [1234567, 1234, 1234, 1234]),
        ("1,00,000 and 12,34,567", [100000, 1234567]),
        ("1.234.567 and 1.234,50 and 2,5", [1234567, Fraction(2469, 2), Fraction(5, 2)]),
        # Fractions, powers.
        ("1/3 pound, 1 1/2 cups, 1 and 1/2", [Fraction(1, 3), Fraction(3, 2), Fraction(3, 2)]),
        ("½ 1½ 2 ½", [Fraction(1, 2), Fraction(3, 2), Fraction(5, 2)]),
        (
            "\\frac{1}{2}, x\\frac12, 3\\tfrac{1}{2}",
            [Fraction(1, 2), Fraction(1, 2), Fraction(7, 2)],
        ),
        ("it is .5 of 0.25", [Fraction(1, 2), Fraction(1, 4)]),
        ("1e3, 1.5E+3, 3 \\times 10^4, 3×10⁴", [1000, 1500, 30000, 30000]),
        ("2^10 of 5²", [1024, 25]),
        ("at 7:30 or 12:05:09", ["7:30", "12:05:09"]),
        ("１２ and ٣", [12, 3]),
        # No numerals.
        ("x2, H2O, 3rd, 12th, 337.5n, 2x, x^2, x_{12}, x^{10}, 4x4", []),
        ("1.2.3, 3/4/2020, " + "9" * 40, []),
        ("Step 2: add. Question 3. Part 1 of", []),
        ("1. Eggs\n  2) Ducks\n**3.** Hens", []),
        ("The total is\n18.", [18]),
    ],
)
def test_numerals(text: str, values: list[Fraction | int | str]) -> None:
    assert read(text) == values


@pytest.mark.parametrize(
    ("text", "numeral"),
    [
        ("18 dollars", "18"),
        ("**1,000 eggs**", "1,000"),
        ("18 eggs per day.", "18"),
        ("12kg", "12"),
        ("12\\text{ kg}", "12"),
        ("18 \\, \\text{cm}^2", "18"),
        ("18^\\circ", "18"),
        ("18 km/h", "18"),
        ("$18$", "18"),
        ("x = -18", "-18"),
        ("Total: $1,200", "1,200"),
        ("The answer is 18.", "18"),
        ("about 18 (dollars)", "18"),
        ("minus 3 degrees", "-3"),
        ("- 3 degrees", "-3"),
        ("9 \\times 2 = 18", "18"),
        ("1200 - 5 eggs", None),
        ("16\\pi", None),
        ("8\\sqrt{3}", None),
        ("5x", None),
        ("1. Eggs left", None),
        ("Step 2", None),
        ("Janet makes $18", None),
        ("none", None),
        ("18 " + "eggs " * 10**5, None),
    ],
)
def test_counted(text: str, numeral: str | None) -> None:
    assert counted(text) == numeral


@pytest.mark.parametrize(
    ("text", "numeral"),
    [
        ("12\\text{ kg}", "12"),
        ("Janet makes $18", "18"),
        (r"\text{the answer is } 5", "5"),
        (r"\text{Tom has } 5 \text{ apples}", "5"),
        ("June 20", "20"),
        ("18 eggs (about)", "18"),
        ("16\\pi", "16\\pi"),
        ("5x", "5x"),
        ("1200 - 5 eggs", "1200 - 5 eggs"),
        ("5 apples and 3 pears", "5 apples and 3 pears"),
        ("9 times 2", "9 times 2"),
        ("18 " + "eggs " * 10**5, "18 " + "eggs " * 10**5),
    ],
)
def test_without_unit(text: str, numeral: str) -> None:
    assert without_unit(text) == numeral
