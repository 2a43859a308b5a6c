r"""The canonical form of a value: equal values give equal strings, unequal ones never do.

A string is for people too, so `\frac{1}{1+\sqrt2}` and `\sqrt2-1` give `-1 + sqrt(2)`. That of a
number depends on its value alone, taken to many digits: whatever identity shows two numbers equal,
their strings are. That of an expression with variables is its reduced fraction, and beyond rational
functions what sympy's simplification makes of it.

Only a grading worker imports this: it may take long or take much memory on untrusted text.
"""

import functools
import hashlib
from fractions import Fraction
from typing import Any

import mpmath
import sympy
from latex2sympy2_extended.sets import FiniteSet
from sympy.core.evalf import PrecisionExhausted
from sympy.core.function import AppliedUndef
from sympy.core.relational import Relational
from sympy.logic.boolalg import BooleanAtom

from ttc_jax.tasks.symbolic import unwrapped

_DIGITS = 60  # to which a number is known
_SAME = Fraction(1, 10**45)  # the most that one number may differ from another, relatively
_SHOWN = 30  # digits of a number that has no short form
_LARGEST = 10**12  # part of a fraction that a number is recognised as
_FEW = 1000  # digits of a rational number that are written out


def canonical(value: Any) -> str | None:
    """The canonical form of a value that was read; None when it says too little to vote with.

    Raises:
        Exception: The value cannot be worked out.
    """
    value = unwrapped(value)
    if isinstance(value, FiniteSet):
        # A list may hold a number twice, which a set may not.
        items = list(getattr(value, "_unsorted_args", value.args))
        names = {item.lhs if isinstance(item, sympy.Eq) else None for item in items}
        if len(names) == 1:  # `x = 1, x = 2`
            items = [unwrapped(item) for item in items]
        forms = [_form(_worked_out(item)) for item in items]
        if len(set(forms)) == 1 and len(set(map(str, items))) == len(items):
            return forms[0]  # `\{3\}`; and `3/4 or 0.75` says one number twice
        return _braces(forms)
    return _form(_worked_out(value))


def _worked_out(value: Any) -> Any:
    """A value with its sums and roots done, and its decimals exact: those of sqrt(0.5) too."""
    return value.xreplace(
        {one: sympy.Rational(str(one)) for one in value.atoms(sympy.Float)}
    ).doit()


def _braces(items: Any) -> str | None:
    items = list(items)
    return None if None in items else "{" + ", ".join(sorted(items)) + "}"


def _form(value: Any) -> str | None:
    if isinstance(value, BooleanAtom):
        return None  # the truth of `1 < 2`
    if isinstance(value, sympy.MatrixBase):
        rows = [[_form(item) for item in value.row(i)] for i in range(value.rows)]
        return "[" + ", ".join(f"[{', '.join(map(str, row))}]" for row in rows) + "]"
    if isinstance(value, sympy.Tuple):
        return "(" + ", ".join(map(str, map(canonical, value.args))) + ")"
    if isinstance(value, (Relational, sympy.And)):
        return _relation(value)
    if isinstance(value, sympy.Set):
        return _set(value)
    return _expression(value)


def _set(value: sympy.Set) -> str | None:
    if isinstance(value, sympy.Interval):
        left, right = "(" if value.left_open else "[", ")" if value.right_open else "]"
        return f"{left}{_form(value.start)}, {_form(value.end)}{right}"
    if isinstance(value, sympy.FiniteSet):
        return _braces(map(_form, value.args))
    if isinstance(value, sympy.Union):
        return " U ".join(sorted(map(str, map(_form, value.args))))
    return "{}" if value is sympy.S.EmptySet else str(value)


def _relation(value: Any) -> str | None:
    """An inequality in one variable is the set of its values, for any variable."""
    relations: list[Any] = list(value.args) if isinstance(value, sympy.And) else [value]
    if len(value.free_symbols) == 1 and not any(isinstance(r, sympy.Eq) for r in relations):
        (symbol,) = value.free_symbols
        x = sympy.Symbol("x", real=True)
        relations = [r.xreplace({symbol: x}) for r in relations]
        differences = [r.lhs - r.rhs for r in relations]
        if all(d.is_polynomial(x) and sympy.Poly(d, x).degree() == 1 for d in differences):
            return _form(sympy.Intersection(*(sympy.simplify(r).as_set() for r in relations)))
    return " & ".join(sorted(map(str, map(_one_relation, relations))))


_TURNED = {
    sympy.StrictGreaterThan: "<",
    sympy.GreaterThan: "<=",
    sympy.StrictLessThan: "<",
    sympy.LessThan: "<=",
    sympy.Eq: "=",
    sympy.Ne: "!=",
}


def _one_relation(value: Any) -> str:
    """`difference < 0` with the smallest whole coefficients."""
    difference = value.lhs - value.rhs
    if isinstance(value, (sympy.StrictGreaterThan, sympy.GreaterThan)):
        difference = -difference
    difference = sympy.expand(difference)
    if isinstance(value, (sympy.Eq, sympy.Ne)):
        difference = sympy.numer(sympy.cancel(difference))
    symbols = sorted(difference.free_symbols, key=str)
    if symbols and difference.is_polynomial(*symbols):
        _, polynomial = sympy.Poly(difference, *symbols).primitive()
        difference = polynomial.as_expr()
        first = sympy.Poly(difference, *symbols).LC()
        if isinstance(value, (sympy.Eq, sympy.Ne)) and first.is_negative:
            difference = -difference
    return f"{_form(difference)} {_TURNED[type(value)]} 0"


def _expression(value: Any) -> str | None:
    if value.has(sympy.zoo, sympy.nan):
        return None  # a division by zero says too little to vote with
    if isinstance(value, sympy.Symbol):
        return value.name.lower()  # as words are
    if value.atoms(AppliedUndef):
        return str(value)
    if not value.free_symbols:
        return str(value if value.is_infinite else number(value))
    if not _is_rational(value):
        forms = {value, sympy.expand(value, func=True), sympy.factor(value, deep=True)}
        value = min(
            map(sympy.simplify, forms),
            key=lambda form: (not _is_rational(form), sympy.count_ops(form), str(form)),
        )
    above, below = map(_polynomial, sympy.fraction(sympy.cancel(sympy.together(value))))
    if above is None or below is None:
        return str(value)
    lead = next(iter(below.values()))
    return str(_sum(above, lead) / _sum(below, lead))


def _is_rational(value: Any) -> bool:
    return value.is_rational_function(*value.free_symbols)


def _polynomial(value: Any) -> dict[Any, Any] | None:
    """The coefficients of a polynomial, which are numbers; that of the highest term first."""
    symbols = sorted(value.free_symbols, key=str)
    if not symbols:
        return {sympy.Integer(1): value}
    if not value.is_polynomial(*symbols):
        return None
    terms = sympy.Poly(value, *symbols, domain="EX").terms()
    return {sympy.prod(map(pow, symbols, powers)): factor for powers, factor in terms}


def _sum(terms: dict[Any, Any], lead: Any) -> Any:
    """A polynomial over the leading coefficient of the denominator."""
    return sympy.Add(*(number(factor / lead) * power for power, factor in terms.items()))


def number(value: Any) -> Any:
    """A number, in a form that depends on its value alone.

    Raises:
        Exception: It has no value.
    """
    if isinstance(value, sympy.Rational):
        return value if _is_short(value) else sympy.Symbol(_long(int(value.p), int(value.q)))
    try:
        exact = value.evalf(_DIGITS, maxn=400, strict=True)
    except PrecisionExhausted:
        exact = value.evalf(_DIGITS, maxn=400, chop=True)  # one of its parts is 0
    with mpmath.workdps(_DIGITS):
        real, imaginary = (_real(part._to_mpmath(220)) for part in exact.as_real_imag())
    return real + imaginary * sympy.I


def _is_short(value: Any) -> bool:
    return max(abs(int(value.p)), int(value.q)) < 10**_FEW


def _long(above: int, below: int) -> str:
    """A number too long to write out: its first digits, and a hash of all."""
    exact = hashlib.sha256(f"{above:x}/{below:x}".encode()).hexdigest()[:16]
    return f"{mpmath.nstr(mpmath.mpf(above) / below, 12)} ({exact})"


def _fraction(x: Any) -> Any:
    """The fraction of small whole numbers that a number is; None if it is none."""
    if not mpmath.mpf("1e-12") < abs(x) < _LARGEST:
        return None
    sign, mantissa, exponent, _ = x._mpf_
    exact = Fraction(int(mantissa)) * Fraction(2) ** int(exponent) * (-1 if sign else 1)
    near = exact.limit_denominator(_LARGEST)
    same = abs(exact - near) <= abs(exact) * _SAME
    return sympy.Rational(near.numerator, near.denominator) if same else None


def _real(x: Any) -> Any:
    sign = -1 if x < 0 else 1
    size = abs(x)
    if x == 0:
        return sympy.Integer(0)
    if mpmath.mpf("1e-30") < size < mpmath.mpf("1e30"):
        for read, write in _FORMS:
            fraction = _fraction(read(size))
            if fraction is not None:
                return sign * write(fraction)
        for power in (1, 2):  # a + b sqrt(c), and its root
            found = mpmath.pslq(
                [1, size**power, size ** (2 * power)], maxcoeff=10**6, maxsteps=2000
            )
            if found and found[2]:
                c, b, a = found
                roots = [(-b + s * sympy.sqrt(b * b - 4 * a * c)) / (2 * a) for s in (1, -1)]
                root = min(roots, key=lambda root: abs(root.evalf(30) - size**power))
                return sympy.expand(sign * sympy.expand(root) ** sympy.Rational(1, power))
        found = mpmath.pslq([size, 1, +mpmath.pi], maxcoeff=10**6, maxsteps=2000)
        if found and found[0]:  # a + b pi
            return sympy.expand(-sign * (found[1] + found[2] * sympy.pi) / found[0])
    return sign * sympy.Symbol(mpmath.nstr(size, _SHOWN))


# What is a fraction, and the number that it stands for.
_FORMS: list[tuple[Any, Any]] = [
    (lambda x: x, lambda q: q),
    (lambda x: x / mpmath.pi, lambda q: q * sympy.pi),
    (lambda x: x * mpmath.pi, lambda q: q / sympy.pi),
    (lambda x: x * x, sympy.sqrt),
    (lambda x: (x / mpmath.pi) ** 2, lambda q: sympy.sqrt(q) * sympy.pi),
    (lambda x: x / mpmath.pi**2, lambda q: q * sympy.pi**2),
    *((functools.partial(pow, exp=n), lambda q, n=n: q ** sympy.Rational(1, n)) for n in (3, 4, 6)),
    (lambda x: x / mpmath.e, lambda q: q * sympy.E),
    (lambda x: mpmath.exp(x) if x < 20 else x, sympy.log),
    (lambda x: mpmath.log(x), sympy.exp),
]
