r"""Whether two formulas are equal, by their values at sample points: to 50 digits, in about a millisecond.

Unequal formulas differ at fixed points; that is exact about decimals (1.4142 is not \sqrt{2}), and about what is tiny:
distances are relative. A value is zero where it shrinks the more digits are computed. This judges the formulas that
`calculation` reads, in the training process; `symbolic` does the same for all others, in a worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from mpmath.ctx_mp import MPContext

from tinylora.answers.brackets import split
from tinylora.answers.calculation import Calculation, NoNumberError
from tinylora.answers.latex import compact, in_radians

DIGITS, MORE_DIGITS, MOST_DIGITS = 50, 100, 400
POINTS = 9  # of both signs, so that sqrt(x^2) is not x
FEWEST = 3  # points that must have a value, where there are variables
NEAR = 1e-25  # relative distance of values that are equal
ALMOST = 1e-3  # relative distance within which more digits are asked for: some may have cancelled
TINY = 1e-20
MOST_BITS = 1 << 16  # of the exponent of a value
MOST_BITS_OF_ARGUMENT = 1000  # of a sine or a factorial, which need as many digits more

_CONTEXTS = {digits: MPContext() for digits in (DIGITS, MORE_DIGITS, MOST_DIGITS)}
for _digits, _context in _CONTEXTS.items():
    _context.dps = _digits

_FUNCTIONS = {
    **{f"\\{name}": name for name in ("sin", "cos", "tan", "sec", "csc", "cot", "exp")},
    **{"\\arcsin": "asin", "\\arccos": "acos", "\\arctan": "atan", "\\ln": "log", "\\log": "log10"},
    **{"\\lfloor": "floor", "\\lceil": "ceil"},
}

Value = Any  # mpf or mpc, of one of these contexts


def same(gold: str, answer: str, tolerance: float = 0.0) -> bool | None:
    """Whether two normal texts are equal formulas, or equations whose sides differ by a factor; None: not known here.

    `tolerance` is the relative distance at which values still count as equal.
    """
    gold, answer = in_radians(gold), in_radians(answer)
    sides = [split(text, "=") for text in (gold, answer)]
    if len(sides[0]) != len(sides[1]) or len(sides[0]) > 2:
        return None
    try:
        if len(sides[0]) == 1:
            return _same_values(_Pair(gold, answer), max(tolerance, NEAR))
        return _same_up_to_factor(_Pair(*(f"({left})-({right})" for left, right in sides)))
    except NoNumberError:
        return None


class _Formula(Calculation[Value]):
    """With numbers at a sample point, to some digits."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        named = {compact(token["name"]) for token in self.tokens if token["name"]}
        self.names, self.is_complex = named - {"e", "i"}, "i" in named
        self._context: Any = _CONTEXTS[DIGITS]
        self._values: dict[str, Value] = {}

    def at(self, values: dict[str, Fraction], digits: int) -> Value | None:
        """The value where the names stand for these numbers; None where it has none."""
        self._context = _CONTEXTS[digits]
        self._values = {name: self._context.mpf(value.numerator) / value.denominator for name, value in values.items()}
        try:
            value = self.value()
        except (ZeroDivisionError, ValueError):
            return None
        return value if self._context.isfinite(value) else None

    def number(self, value: str, period: str, power: str) -> Value:
        number = self._context.mpf(value.rstrip(".") + (f"e{power}" if power else ""))
        if period:
            places = len(value.partition(".")[2])
            number += self._context.mpf(int(period)) / ((10 ** len(period) - 1) * 10**places)
        return number

    def named(self, name: str) -> Value:
        known = {"\\pi": self._context.pi, "e": self._context.e}
        if name == "i":
            return self._context.mpc(0, 1)
        return +known[name] if name in known else self._values[compact(name)]

    def function(self, name: str, argument: Value) -> Value:
        context = self._context
        if context.mag(argument) > (16 if name == "\\exp" else MOST_BITS_OF_ARGUMENT):
            raise NoNumberError
        if name in ("\\ln", "\\log") and argument == 0:
            raise ZeroDivisionError
        if name in ("\\lfloor", "\\lceil") and abs(argument - context.nint(argument)) < TINY:
            raise NoNumberError  # a digit that was rounded would decide
        known = _FUNCTIONS.get(name)
        if known is None:
            raise NoNumberError
        return getattr(context, known)(argument)

    def binomial(self, above: Value, below: Value) -> Value:
        if max(self._context.mag(above), self._context.mag(below)) > 10:
            raise NoNumberError
        return self._context.binomial(above, below)

    def raised(self, base: Value, exponent: Value) -> Value:
        if base == 0:
            if exponent == 0 or abs(self._context.arg(exponent)) > 1:
                raise ZeroDivisionError
            return base
        if self._context.mag(exponent) > 40 or abs(exponent) * max(1, abs(self._context.mag(base))) > MOST_BITS:
            raise NoNumberError
        return self._context.power(base, exponent)

    def root(self, value: Value, degree: Value) -> Value:
        if not 2 <= abs(degree) <= 64:
            raise NoNumberError
        return self.raised(value, 1 / degree)

    def factorial(self, value: Value) -> Value:
        if self._context.mag(value) > 10:
            raise NoNumberError
        return self._context.gamma(value + 1)

    def checked(self, value: Value) -> Value:
        if not self._context.isfinite(value):
            raise ZeroDivisionError
        if value != 0 and abs(self._context.mag(value)) > MOST_BITS:
            raise NoNumberError
        return value


class _Pair:
    """Two formulas, at the same points."""

    def __init__(self, gold: str, answer: str) -> None:
        self.formulas = _Formula(gold), _Formula(answer)
        self.names: Sequence[str] = sorted(self.formulas[0].names | self.formulas[1].names)
        self._is_complex = not self.names or any(each.is_complex for each in self.formulas)

    def at(self, point: int, digits: int = DIGITS) -> tuple[Value, Value] | None:
        """Both values; None where one of them has none, or is complex though no i is written."""
        values = {name: _sample(place, point) for place, name in enumerate(self.names)}
        one, other = (each.at(values, digits) for each in self.formulas)
        if one is None or other is None:
            return None
        is_real = all(abs(value.imag) <= NEAR * abs(value.real) for value in (one, other))
        return (one, other) if is_real or self._is_complex else None

    def close(self, point: int, near: float) -> bool | None:
        """Whether both values are equal at a point; None where they have none."""
        found = self.at(point)
        if found is None:
            return None
        if _relative(*found) <= near:
            return True
        if _relative(*found) > ALMOST and max(map(abs, found)) > TINY:
            return False
        again = self.at(point, MORE_DIGITS)
        if again is None:
            return None
        zeros = [_is_zero(value, more) for value, more in zip(found, again, strict=True)]
        if any(zeros) and not all(zeros):  # 1 - (1 - x) has no digit left where x is tiny
            return None if self.names else False
        return all(zeros) or bool(_relative(*again) <= near)


def _same_values(pair: _Pair, near: float) -> bool | None:
    """Whether two formulas are equal at all points where both have a value; None: those are too few."""
    verdicts = [pair.close(point, near) for point in range(POINTS if pair.names else 1)]
    if False in verdicts:
        return False
    if verdicts.count(True) < (FEWEST if pair.names else 1):
        return None
    if near > NEAR:
        return True
    point = verdicts.index(True)
    found, more = pair.at(point), pair.at(point, MOST_DIGITS)  # 10^{40} + \sqrt{2} is not 10^{40} + \sqrt{3}
    if found is None or more is None:
        return None
    zeros = [_is_zero(value, again) for value, again in zip(found, more, strict=True)]
    return all(zeros) if any(zeros) else bool(_relative(*more) < 10 ** (-MOST_DIGITS * 3 // 4))


def _same_up_to_factor(pair: _Pair) -> bool | None:
    """Whether the ratio of two formulas is the same at all points; None: it is known at too few."""
    ratios = []
    for point in range(POINTS if pair.names else 0):
        found = pair.at(point)
        if found is None:
            continue
        if min(map(abs, found)) < TINY:
            return None
        ratios.append(found[1] / found[0])
        if _relative(ratios[0], ratios[-1]) > NEAR:
            return False
    return True if len(ratios) >= FEWEST else None


def _relative(one: Value, other: Value) -> Value:
    """The distance of two values, relative to the larger one."""
    return abs(one - other) / (max(abs(one), abs(other)) or 1)


def _is_zero(value: Value, more: Value) -> bool:
    """Whether nothing is left of a value but rounding: it shrinks as more digits are computed."""
    return bool(abs(value) < TINY and abs(more) <= abs(value) * TINY)


def _sample(place: int, point: int) -> Fraction:
    """A fixed fraction below 1, 3 or 35 by turns, without a pattern; positive at the first points, then mixed."""
    size = Fraction(200 + (7919 * (place + 1) * (point + 3) + 104729 * point) % 2797, (997, 3001, 83)[point % 3])
    return -size if point > 4 and (point + place) % 3 else size
