r"""Whether two mathematical expressions are equal: read by math-verify's LaTeX parser, compared at sample points.

Runs in a worker process alone (it imports SymPy, and some expressions never end). Expressions are evaluated to 30
digits at fixed points, where unequal ones differ; that is exact about decimals (1.4142 is not \sqrt{2}), and takes
milliseconds where simplification may take minutes. Equations are equal where their sides differ by a constant factor.
What has no value at a point (sets, inequalities, derivatives) is left to math-verify's own comparison.
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
from sympy.core.relational import Relational

from tinylora.answers.latex import compact

logging.disable(logging.CRITICAL)  # every formula that cannot be read would be a line in the log

DIGITS = 30
POINTS = 9  # sample points: equal at all that have a real value; of both signs, so that sqrt(x^2) is not x
DEEPEST = 60  # brackets in brackets: the parser's time grows faster than their number
FEWEST = 3  # points that must have a value, where there are variables

_SUBSCRIPTED = re.compile(
    r"(?<![a-zA-Z\\])(?:[a-zA-Z]|\\(?:alpha|beta|gamma|lambda|mu|omega|sigma|theta|tau|phi))(?:_(?:\w|\{[^{}]*\})|'+)"
)
_DEGREES = re.compile(r"([0-9]+) ?\^\{\\circ\}")
_RESERVED = set("deifgh")  # letters that mean something to the parser


def equal(gold: str, answer: str) -> bool:
    """Whether two normal texts are equal expressions, equations or sets; False where one of them cannot be read."""
    gold, answer = (_DEGREES.sub(r"(\\frac{\1\\pi}{180})", text) for text in _plain_names(gold, answer))
    one, other = _read(gold), _read(answer)
    if one is None or other is None or isinstance(one, Relational) != isinstance(other, Relational):
        return False
    if isinstance(one, Relational) and isinstance(other, Relational):
        verdict = _same_relations(one, other)
    elif isinstance(one, sympy.Expr) and isinstance(other, sympy.Expr):
        verdict = _same_values(one, other)
    else:
        verdict = None
    if verdict is not None:
        return verdict
    return bool(math_verify.verify(one, other, float_rounding=12, timeout_seconds=None))


def _plain_names(*texts: str) -> list[str]:
    """The texts with each subscripted name (`x_{1}`, `y'`) as a letter of its own, which the parser reads."""
    names = sorted({compact(found[0]) for text in texts for found in _SUBSCRIPTED.finditer(text)})
    free = [letter for letter in string.ascii_letters if letter not in _RESERVED | set("".join(texts))]
    letters = dict(zip(names, free, strict=False))
    return [_SUBSCRIPTED.sub(lambda found: f" {letters.get(compact(found[0]), found[0])} ", text) for text in texts]


@functools.lru_cache(maxsize=256)  # a gold answer comes with each completion of its group
def _read(text: str) -> sympy.Basic | None:
    if text.count("{") + text.count("(") > DEEPEST and _depth(text) > DEEPEST:
        return None
    try:
        read = latex2sympy(
            text,
            is_real=None,
            convert_degrees=False,
            normalization_config=None,
            conversion_config=ConversionConfig(lowercase_symbols=False),
        )
    except Exception:  # the parser has no error of its own
        return None
    if not isinstance(read, sympy.Basic):
        return None
    symbols = {symbol: sympy.I if symbol.name == "i" else sympy.Symbol(symbol.name) for symbol in read.free_symbols}
    floats = {number: sympy.Rational(str(number)) for number in read.atoms(sympy.Float)}
    try:
        return read.xreplace(symbols | floats)
    except (TypeError, ValueError, AttributeError):
        return read


def _depth(text: str) -> int:
    steps = ((mark in "{(") - (mark in "})") for mark in text)
    return max(itertools.accumulate(steps), default=0)


def _same_relations(one: Relational, other: Relational) -> bool | None:
    """Whether two equations, or two inequalities, have sides whose differences are the same up to a factor."""
    (kind, difference), (other_kind, other_difference) = _as_less(one), _as_less(other)
    if kind is not other_kind:
        return False
    return _same_up_to_factor(difference, other_difference, positive=kind not in (sympy.Eq, sympy.Ne))


def _as_less(relation: Relational) -> tuple[type, sympy.Expr]:
    turned = isinstance(relation, (sympy.Gt, sympy.Ge))
    left, right = (relation.rhs, relation.lhs) if turned else (relation.lhs, relation.rhs)
    return {sympy.Gt: sympy.Lt, sympy.Ge: sympy.Le}.get(relation.func, relation.func), left - right


def _same_values(one: sympy.Expr, other: sympy.Expr) -> bool | None:
    """Whether two expressions are equal at all points where both have a value; None: those are too few."""
    seen = 0
    for first, second in _samples(one, other):
        if not _close(first, second):
            return False
        seen += 1
    if not one.free_symbols | other.free_symbols:
        return _vanishes(one - other) if seen else None
    return True if seen >= FEWEST else None


def _same_up_to_factor(one: sympy.Expr, other: sympy.Expr, positive: bool) -> bool | None:
    """Whether the ratio of two expressions is the same at all points; None: it is known at too few."""
    ratios = []
    for first, second in _samples(one, other):
        if _close(first, sympy.Integer(0)) or _close(second, sympy.Integer(0)):
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
        if is_complex or all(_close(sympy.re(value), value) for value in pair):
            yield pair


def _value(place: int, point: int) -> sympy.Rational:
    """A fixed fraction below 1, 3 or 35 by turns, without a pattern; positive at the first points, then mixed."""
    size = sympy.Rational(200 + (7919 * (place + 1) * (point + 3) + 104729 * point) % 2797, (997, 3001, 83)[point % 3])
    return -size if point > 4 and (point + place) % 3 else size


def _evaluate(expression: sympy.Expr, values: dict[sympy.Symbol, sympy.Rational]) -> sympy.Expr | None:
    try:
        found = expression.subs(values).evalf(DIGITS)
    except (TypeError, ValueError, ArithmeticError, AttributeError, NotImplementedError):
        return None
    return found if found.is_number and found.is_finite else None


def _vanishes(constant: sympy.Expr) -> bool:
    """Whether the difference of two constants is zero, and not only small beside them: 2^{1009} and 2^{1009} + 1."""
    return bool(abs(constant.evalf(10, maxn=2000)) < sympy.Float("1e-100"))


def _close(one: sympy.Expr, other: sympy.Expr) -> bool:
    distance, size = abs(sympy.N(one - other, DIGITS)), abs(sympy.N(one, DIGITS)) + abs(sympy.N(other, DIGITS))
    return bool(distance <= sympy.Float("1e-18") * size) or bool(distance <= sympy.Float("1e-28"))
