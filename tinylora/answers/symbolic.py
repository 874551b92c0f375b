r"""Whether two mathematical expressions are equal: read by math-verify's LaTeX parser, compared at sample points.

Runs in a worker process alone (it imports SymPy, and some expressions never end). Expressions are evaluated to 30
digits at fixed points, where unequal ones differ; that is exact about decimals (1.4142 is not \sqrt{2}), and takes
milliseconds where simplification may take minutes. Distances are relative, however small the values: 1/2004! is not
1/2003!. A value is zero where no digit of it is known, however many are asked for. Equations are equal where their
sides differ by a constant factor. Sets and inequalities are worked out by SymPy (`solutions`), sums and products of
matrices, too. What has no value at a point is left to math-verify's own comparison.
"""

from __future__ import annotations

import functools
import itertools
import logging
import re
import string
from collections.abc import Iterator

import math_verify
import sympy
from latex2sympy2_extended import latex2sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig
from sympy.core.function import AppliedUndef
from sympy.core.relational import Relational

from tinylora.answers.latex import compact, in_radians
from tinylora.answers.sizes import manageable
from tinylora.answers.solutions import same_sets

logging.disable(logging.CRITICAL)  # every formula that cannot be read would be a line in the log

DIGITS = 30
POINTS = 9  # sample points: equal at all that have a real value; of both signs, so that sqrt(x^2) is not x
DEEPEST = 14  # brackets in brackets: the parser's time grows faster than their number
FEWEST = 3  # points that must have a value, where there are variables
NEAR = 1e-18  # relative distance of values that are equal

_SUBSCRIPTED = re.compile(
    r"(?<![a-zA-Z\\])(?:[a-zA-Z]|\\(?:alpha|beta|gamma|lambda|mu|omega|sigma|theta|tau|phi))(?:_(?:\w|\{[^{}]*\})|'+)"
)
_WORKED_OUT = re.compile(r"\\(?:[dt]?binom|choose|gcd|lcm|det)(?![a-z])")  # by the parser, as it reads them
_SLOW_TO_READ = re.compile(r"(?:\^ ?[^ ] ?){6}|(?:\|[^|]*+){20}")  # x^x^x^x^x^x, and bars that may open or close
_RESERVED = set("deifgh")  # letters that mean something to the parser


def equal(gold: str, answer: str, tolerance: float = 0.0) -> bool:
    """Whether two normal texts are equal expressions, equations or sets; False where one of them cannot be read.

    `tolerance` is the relative distance at which numbers still count as equal.
    """
    gold, answer = map(in_radians, _plain_names(gold, answer))
    verdict = same_sets(gold, answer, _read)
    if verdict is not None:
        return verdict
    one, other = _read(gold), _read(answer)
    if one is None or other is None or isinstance(one, Relational) != isinstance(other, Relational):
        return False
    if isinstance(one, Relational) and isinstance(other, Relational):
        verdict = _same_relations(one, other)
        return one == other if verdict is None else verdict  # math-verify would compare the right sides alone
    elif isinstance(one, sympy.Expr) and isinstance(other, sympy.Expr):
        verdict = _same_values(one, other, max(tolerance, NEAR))
    elif (matrices := [_matrix(each) for each in (one, other)]) != [None, None]:
        return _same_matrices(*matrices)
    if verdict is not None:
        return verdict
    if not (manageable(one) and manageable(other)):
        return False
    return bool(math_verify.verify(one, other, float_rounding=12, timeout_seconds=None))


def _plain_names(*texts: str) -> list[str]:
    """The texts with each subscripted name (`x_{1}`, `y'`) as a letter of its own, which the parser reads."""
    names = sorted({compact(found[0]) for text in texts for found in _SUBSCRIPTED.finditer(text)})
    free = [letter for letter in string.ascii_letters if letter not in _RESERVED | set("".join(texts))]
    letters = dict(zip(names, free, strict=False))
    return [_SUBSCRIPTED.sub(lambda found: f" {letters.get(compact(found[0]), found[0])} ", text) for text in texts]


@functools.lru_cache(maxsize=256)  # a gold answer comes with each completion of its group
def _read(text: str) -> sympy.Basic | None:
    """The expression that a normal text is; None where it is none, or one that is too large to be evaluated."""
    if _depth(text) > DEEPEST or _SLOW_TO_READ.search(text):
        return None
    try:
        with sympy.evaluate(_WORKED_OUT.search(text) is None):  # so that its size is known before that
            read = latex2sympy(
                text,
                is_real=None,
                convert_degrees=False,
                normalization_config=None,
                conversion_config=ConversionConfig(lowercase_symbols=False),
            )
    except Exception:  # the parser has no error of its own
        return None
    if isinstance(read, sympy.MatrixBase):
        read = sympy.ImmutableMatrix(read)
    if not isinstance(read, sympy.Basic) or not manageable(read, dict.fromkeys(read.free_symbols, sympy.Integer(2))):
        return None
    symbols = {symbol: sympy.I if symbol.name == "i" else sympy.Symbol(symbol.name) for symbol in read.free_symbols}
    floats = {number: sympy.Rational(str(number)) for number in read.atoms(sympy.Float)}
    # An unknown function and its derivative are quantities like others: y' + y = 0, S(t) = 2.
    unknown = {
        each: sympy.Symbol(str(each))
        for each in read.atoms(AppliedUndef, sympy.Derivative)
        if not any(each is not other and other.has(each) for other in read.atoms(sympy.Derivative))
    }
    try:
        read = read.xreplace(unknown)
        return read.xreplace(symbols | floats)
    except (TypeError, ValueError, AttributeError):
        return read


def _depth(text: str) -> int:
    steps = ((mark in "{([") - (mark in "})]") for mark in text)
    return max(itertools.accumulate(steps), default=0)


def _same_relations(one: Relational, other: Relational) -> bool | None:
    """Whether two equations, or two inequalities, have sides whose differences are the same up to a factor."""
    if not all(isinstance(side, sympy.Expr) for each in (one, other) for side in each.args):
        return bool(one == other)  # (x, y) = (1, 2)
    (kind, difference), (other_kind, other_difference) = _as_less(one), _as_less(other)
    if kind is not other_kind:
        return False
    if any(_is_identity(each) for each in (difference, other_difference)):
        return _same_values(one.lhs, other.lhs, NEAR) and _same_values(one.rhs, other.rhs, NEAR)
    return _same_up_to_factor(difference, other_difference, positive=kind not in (sympy.Eq, sympy.Ne))


def _is_identity(difference: sympy.Expr) -> bool:
    """Whether the sides of an equation are the same everywhere, so that its factors say nothing."""
    values = [value for value, _ in _samples(difference, difference)]
    return bool(values) and all(map(_is_zero, values))


def _as_less(relation: Relational) -> tuple[type, sympy.Expr]:
    turned = isinstance(relation, (sympy.Gt, sympy.Ge))
    left, right = (relation.rhs, relation.lhs) if turned else (relation.lhs, relation.rhs)
    return {sympy.Gt: sympy.Lt, sympy.Ge: sympy.Le}.get(relation.func, relation.func), left - right


def _matrix(expression: sympy.Basic) -> sympy.Matrix | None:
    """The matrix that a sum or product of matrices comes to; None for what is no matrix."""
    if not getattr(expression, "is_Matrix", False) or not manageable(expression):
        return None
    worked_out = expression.doit()
    return sympy.Matrix(worked_out) if isinstance(worked_out, sympy.MatrixBase) else None


def _same_matrices(one: sympy.Matrix | None, other: sympy.Matrix | None) -> bool:
    if one is None or other is None or one.shape != other.shape:
        return False
    return all(_same_values(first, second, NEAR) is True for first, second in zip(one, other, strict=True))


def _same_values(one: sympy.Expr, other: sympy.Expr, near: float) -> bool | None:
    """Whether two expressions are equal at all points where both have a value; None: those are too few."""
    seen = 0
    for first, second in _samples(one, other):
        if not _close(first, second, near):
            return False
        seen += 1
    if not one.free_symbols | other.free_symbols:
        return (near > NEAR or _vanishes(one, other)) if seen else None
    return True if seen >= FEWEST else None


def _same_up_to_factor(one: sympy.Expr, other: sympy.Expr, positive: bool) -> bool | None:
    """Whether the ratio of two expressions is the same at all points; None: it is known at too few."""
    ratios = []
    for first, second in _samples(one, other):
        if _is_zero(first) or _is_zero(second):
            return None
        ratios.append(second / first)
        if not _close(ratios[0], ratios[-1]) or (positive and not sympy.re(ratios[0]) > 0):
            return False
    return True if len(ratios) >= FEWEST else None


def _samples(one: sympy.Expr, other: sympy.Expr) -> Iterator[tuple[sympy.Expr, sympy.Expr]]:
    """The values of both expressions at the points where both have one; a real one, unless they hold an i."""
    names = sorted(symbol.name for symbol in one.free_symbols | other.free_symbols)
    is_complex = not names or one.has(sympy.I) or other.has(sympy.I)
    for point in range(POINTS if names else 1):
        values = {sympy.Symbol(name): _value(place, point) for place, name in enumerate(names)}
        pair = _evaluate(one, values), _evaluate(other, values)
        if pair[0] is None or pair[1] is None:
            continue
        if is_complex or all(_is_real(value) for value in pair):
            yield pair


def _value(place: int, point: int) -> sympy.Rational:
    """A fixed fraction below 1, 3 or 35 by turns, without a pattern; positive at the first points, then mixed."""
    size = sympy.Rational(200 + (7919 * (place + 1) * (point + 3) + 104729 * point) % 2797, (997, 3001, 83)[point % 3])
    return -size if point > 4 and (point + place) % 3 else size


def _evaluate(expression: sympy.Expr, values: dict[sympy.Symbol, sympy.Rational]) -> sympy.Expr | None:
    if not manageable(expression, values):
        return None
    try:
        found = expression.subs(values).evalf(DIGITS)
    except (TypeError, ValueError, ArithmeticError, AttributeError, NotImplementedError, RecursionError):
        return None
    return found if found.is_number and found.is_finite else None


def _vanishes(one: sympy.Expr, other: sympy.Expr) -> bool:
    """Whether the difference of two constants is zero, and not only small beside them: 2^{1009} and 2^{1009} + 1."""
    size = abs(one.evalf(10)) + abs(other.evalf(10))
    slow = (one - other).has(sympy.Integral, sympy.Sum, sympy.Product)  # more digits of these take minutes
    distance = abs((one - other).evalf(10, maxn=60 if slow else 2000))
    return _is_zero(distance) or bool(distance < sympy.Float("1e-100") * size)


def _is_zero(value: sympy.Expr) -> bool:
    """Whether a value is zero, or no digit of it is known, which SymPy says by a precision of one bit."""
    parts = [part for part in value.as_real_imag() if not part.is_zero]
    return all(isinstance(part, sympy.Float) and part._prec <= 1 for part in parts)


def _is_real(value: sympy.Expr) -> bool:
    real, imaginary = value.as_real_imag()
    return _is_zero(imaginary) or bool(abs(imaginary) <= sympy.Float(NEAR, DIGITS) * abs(real))


def _close(one: sympy.Expr, other: sympy.Expr, near: float = NEAR) -> bool:
    if _is_zero(one) or _is_zero(other):
        return _is_zero(one) and _is_zero(other)
    distance, size = abs(sympy.N(one - other, DIGITS)), abs(sympy.N(one, DIGITS)) + abs(sympy.N(other, DIGITS))
    return bool(distance <= sympy.Float(near, DIGITS) * size / 2)
