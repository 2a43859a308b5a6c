r"""Answers as mathematics: read by math-verify's parser, compared by its judge, and guarded.

Only a grading worker imports this (see `ttc_jax.tasks.grading_worker`): everything here may take
long or take much memory on untrusted text. Answers come in the spelling of
`ttc_jax.tasks.spelling.respell`.

The guards, each of a kind where math-verify takes unequal answers for equal:

- Its `parse` searches prose for an answer, so that text it cannot read becomes the last number in
  it: 2 of `\{x \mid 2 \le x < 5\}`, 1.2 of `\lbrace 1,2\rbrace`. An answer is known to be one
  here, and is read whole or not at all.
- It takes letters for units (`2c` is 2) and large letters for small ones (`A - B` is `a - b`):
  both are options of its parser, and off.
- It compares numbers with an absolute tolerance, so that `2^{-100}` is `2^{-101}`: `_confirmed`.
- It ignores the base of a numeral: `BASE`; and takes `1:2:3` for a sixth: `_ratio`.
"""

import functools
import re
from collections.abc import Iterator
from typing import Any

import sympy
from latex2sympy2_extended import normalize_latex
from latex2sympy2_extended.latex2sympy2 import ConversionConfig, NormalizationConfig, latex2sympy
from latex2sympy2_extended.logic import And
from latex2sympy2_extended.sets import FiniteSet
from math_verify import verify
from math_verify.grader import (
    is_assignment_relation,
    is_equation,
    should_treat_as_complex,
    take_first_relation,
    take_last_relation,
)
from math_verify.parser import get_last_eq
from sympy.core.function import AppliedUndef
from sympy.core.relational import Relational

_SPELLING = NormalizationConfig(
    basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none"
)
_CONVERSION = ConversionConfig(lowercase_symbols=False)
BASE = re.compile(r"(?<=\d)_\s*(?:\{\s*(\d{1,9})\s*\}|(\d))", re.ASCII)
_PLUS_MINUS, _MINUS_PLUS = (re.compile(rf"\\{name}(?![a-zA-Z])") for name in ("pm", "mp"))
_AGREEMENT = 1e-3  # of what math-verify says is equal, after its rounding to six decimals


@functools.lru_cache(maxsize=256)
def read(answer: str) -> Any:
    """The value of an answer as sympy has it; None when it cannot be read."""
    try:
        if answer.count(":") > 1:
            return _ratio(answer.split(":"))
        text = normalize_latex(answer, _SPELLING)
        try:
            return _once(_solved(_value(text)), text)
        except Exception:
            if r"\pm" in text:  # math-verify's parser knows it at the beginning of a sum only
                return FiniteSet(*_both(text))
            last = get_last_eq(text)  # as math-verify does: the end of a chain of equations
            return None if last == text else _value(last)
    except Exception:  # whatever a parser of untrusted text raises, MemoryError included
        return None


def _value(text: str) -> Any:
    value: Any = latex2sympy(
        text,
        # None and not False as in math-verify: sympy works out `x = 2i` as false for such an x.
        is_real=None if should_treat_as_complex(text) else True,
        normalization_config=None,
        conversion_config=_CONVERSION,
    )
    symbols = {str(symbol): symbol for symbol in value.free_symbols}
    if "i" in symbols and not symbols.keys() & {"j", "k"}:  # beside those it is a vector
        value = value.xreplace({symbols["i"]: sympy.I})
    return value


def _solved(value: Any) -> Any:
    """A value that is written as a condition: `x - 2 = 0` as `x = 2`, `x < 1, x > 2` as a set.

    `2x = 4` stays as it is: as `m + n = 4`, it says what an expression is that was asked for.
    """
    if isinstance(value, FiniteSet):
        return _alternatives(value)
    if not isinstance(value, sympy.Eq) or len(value.free_symbols) != 1 or value.lhs.is_Symbol:
        return value
    (symbol,) = value.free_symbols
    sides: list[Any] = [value.lhs, value.rhs]
    if names_value(value) or not all(
        isinstance(side, sympy.Expr) and side.is_polynomial(symbol) for side in sides
    ):
        return value
    polynomial = sympy.Poly(sides[0] - sides[1], symbol)
    if polynomial.degree() != 1:
        return value
    slope, shift = polynomial.all_coeffs()
    return sympy.Eq(symbol, -shift / slope, evaluate=False)


def _once(value: Any, text: str) -> Any:
    r"""The number of a list that only spells it in several ways: `1 \frac12, \frac32`."""
    if not isinstance(value, FiniteSet):
        return value
    items: Any = getattr(value, "_unsorted_args", value.args)
    ways = {part.strip() for part in text.split(",")}
    return items[0] if len(value.args) == 1 and 1 < len(items) == len(ways) else value


def _alternatives(value: FiniteSet) -> Any:
    """The numbers that several inequalities in one variable are about.

    Those that hold together for some number are meant to, `x > 1, x < 2`; else each is a part.
    """
    items: list[Any] = list(value.args)
    relations = all(isinstance(x, Relational) and not isinstance(x, sympy.Eq) for x in items)
    if len(items) < 2 or not relations or len(value.free_symbols) != 1:
        return value
    (symbol,) = value.free_symbols
    x = sympy.Symbol("x", real=True)
    parts = [item.xreplace({symbol: x}).as_set() for item in items]
    common = sympy.Intersection(*parts)
    return sympy.Union(*parts) if common.is_empty else common


def names_value(value: sympy.Eq) -> bool:
    """Whether an equation says which number an expression is: `5x + 3 = 18`, `f(2) = 1/2`.

    One with 0 on its right, or with two coordinates on its left, is an equation of its own.
    """
    right = value.rhs
    curve = len(value.lhs.free_symbols & _COORDINATES) > 1
    return bool(right.is_number) and not right.is_zero and not curve


def _both(text: str) -> Iterator[Any]:
    """The values of a text for either of the signs in it."""
    for plus, minus in (("+", "-"), ("-", "+")):
        value = _value(_MINUS_PLUS.sub(minus, _PLUS_MINUS.sub(plus, text)))
        yield from value.args if isinstance(value, FiniteSet) else (value,)


def _ratio(parts: list[str]) -> Any:
    """The ratio of three or more numbers, as a multiple of the first."""
    values = [_value(normalize_latex(part, _SPELLING)).doit() for part in parts]
    return sympy.Function("ratio")(*(sympy.nsimplify(v / values[0], rational=True) for v in values))


def unwrapped(value: Any) -> Any:
    """What an equation says that only names a value: 5 of `x = 5` and `f(2) = 5`.

    The equation of a curve, `y = 2x + 1`, is kept. So `x = 5` and `y = 5` are one vote: the
    variable is the question's own, and many answers leave it out.
    """
    if not is_equation(value):
        return value
    left, right = take_first_relation(value).lhs, take_last_relation(value).rhs
    if left in _COORDINATES and right.free_symbols & _COORDINATES:
        return value
    if left.is_number and right.is_Symbol:  # `5 = x`
        return left
    named = left.is_number or isinstance(left, AppliedUndef)
    named = named or (isinstance(value, sympy.Eq) and names_value(value))
    return right if named or is_assignment_relation(value) else value


_COORDINATES = {sympy.Symbol(name, real=real) for name in "xyz" for real in (True, None)}


def equal(gold: str, answer: str) -> bool | None:
    """Whether an answer is the gold one; None when it is if both have one canonical form."""
    bases = [[one or other for one, other in BASE.findall(text)] for text in (gold, answer)]
    if all(bases) and bases[0] != bases[1]:
        return False
    if {gold[:2], answer[:2]} & {r"\{"} and {gold[:1], answer[:1]} & {"(", "["}:
        return False  # a set is no point and no interval
    one, other = _of_function(read(gold)), _of_function(read(answer))
    if one is None or other is None:
        return False
    # The order matters to math-verify: it judges the second in the form of the first.
    if verify(one, other, timeout_seconds=None):
        return _repeated(gold, one) == _repeated(answer, other) and _confirmed(one, other)
    # `x = 5` votes with `y = 5`, as both do with 5, but the one is not the other.
    named = unwrapped(one) is not one and unwrapped(other) is not other
    return False if named else None


def _of_function(value: Any) -> Any:
    """What `f(x) = 2x + 3` says, which is another's `y = 2x + 3`."""
    named = isinstance(value, sympy.Eq) and isinstance(value.lhs, AppliedUndef)
    return value.rhs if named else value


def _repeated(text: str, value: Any) -> int:
    """How many items of a list stand there before: one of the factors `2, 2, 3`."""
    if not isinstance(value, FiniteSet) or text.startswith(r"\{"):
        return 0
    return len(getattr(value, "_unsorted_args", value.args)) - len(value.args)


def _confirmed(one: Any, other: Any) -> bool:
    """Whether values that math-verify takes for equal are so in proportion to their size."""
    one, other = unwrapped(one), unwrapped(other)
    parts, others = _parts(one), _parts(other)
    if parts and len(parts) == len(others):
        return all(any(_confirmed(part, x) for x in others) for part in parts)
    if not isinstance(one, sympy.Expr) or not isinstance(other, sympy.Expr):
        return True
    if one.has(sympy.UnevaluatedExpr) or other.has(sympy.UnevaluatedExpr):
        return True  # a percentage is equal to two numbers
    try:
        first, second = (at_points(value, digits=15) for value in (one, other))
    except Exception:
        return True  # what has no value was compared as it stands
    return all(
        abs(a - b) <= _AGREEMENT * max(abs(a), abs(b)) for a, b in zip(first, second, strict=False)
    )


def _parts(value: Any) -> list[Any]:
    if isinstance(value, sympy.MatrixBase):
        return list(value.flat())
    if isinstance(value, sympy.Interval):
        return [value.start, value.end]
    kinds = (sympy.Tuple, sympy.FiniteSet, And, sympy.Union)
    return list(value.args) if isinstance(value, kinds) else []


def at_points(value: sympy.Expr, digits: int) -> list[Any]:
    """The values of an expression where each variable has some value of its own.

    Raises:
        Exception: It has no numerical value there.
    """
    symbols = sorted(value.free_symbols, key=str)
    found = []
    for sign in (1, -1)[: 1 + bool(symbols)]:
        points: Any = {s: sign * sympy.sqrt(sympy.prime(i + 2)) / 3 for i, s in enumerate(symbols)}
        number = value.subs(points).doit().evalf(digits)
        if not number.is_number or not number.is_finite:
            raise ValueError("no value")
        found.append(number)
    return found
