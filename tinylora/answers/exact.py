r"""Exact numbers: which rational a whole normal text is (`3/4` for `0.75`, `\frac{3}{4}` and `75/100`), never a float.

The whole text is read or nothing: `2x`, `5-` and `\sqrt{2}` are no rational numbers. Calculations are: `15 + 3`, `3^2`,
`5!`, `|-5|`, `\sqrt{16}`, `7^{100} \mod 13`. No number grows beyond `MOST_BITS`, whatever the text.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

from tinylora.answers.calculation import Calculation, NoNumberError

MOST_CHARACTERS = 400  # of a text: beyond that, texts are compared
MOST_BITS = 4000  # of a numerator or denominator
LARGEST_FACTORIAL = 400

_MODULUS = re.compile(r" ?\(? ?\\[bp]?mod ?[({]? ?(?P<value>[0-9]{1,400}) ?[)}]? ?\)?\Z")


def exact(text: str) -> Fraction | None:
    """The rational number that the whole of a normal text is; None where it is none, or one that is too large."""
    if len(text) > MOST_CHARACTERS or not any(map(str.isdigit, text)) or not text.isascii():
        return None
    if text[0] in "([" and "," in text:
        return None  # a tuple: (2,251,252)
    modulus = _MODULUS.search(text)
    try:
        if modulus:
            return _Rational(text[: modulus.start()], int(modulus["value"])).value()
        return _Rational(text, None).value()
    except (NoNumberError, ZeroDivisionError, ValueError):  # ValueError: of pow, for the modulus 0
        return None


class _Rational(Calculation[Fraction]):
    """With rational numbers; with a modulus, with the whole numbers below it."""

    def __init__(self, text: str, modulus: int | None) -> None:
        super().__init__(text)
        self._modulus = modulus

    def number(self, value: str, period: str, power: str) -> Fraction:
        number = Fraction(value.rstrip(".") if value.rstrip(".") else 0)
        if period:
            number += _repeating(value, period)
        return number * self.raised(Fraction(10), Fraction(int(power))) if power else number

    def named(self, name: str) -> Fraction:
        raise NoNumberError

    def function(self, name: str, argument: Fraction) -> Fraction:
        rounding = {"\\lfloor": math.floor, "\\lceil": math.ceil}.get(name)
        if rounding is None or self._modulus is not None:
            raise NoNumberError
        return Fraction(rounding(argument))

    def binomial(self, above: Fraction, below: Fraction) -> Fraction:
        whole = above.denominator == below.denominator == 1 and self._modulus is None
        if not whole or not 0 <= above <= LARGEST_FACTORIAL or below < 0:
            raise NoNumberError
        return Fraction(math.comb(above.numerator, below.numerator))

    def exponent(self) -> Fraction:
        modulus, self._modulus = self._modulus, None  # an exponent counts as a whole
        value = super().exponent()
        self._modulus = modulus
        return value

    def raised(self, base: Fraction, exponent: Fraction) -> Fraction:
        if exponent.denominator != 1:
            return self.root(self.raised(base, Fraction(exponent.numerator)), Fraction(exponent.denominator))
        power = exponent.numerator
        if self._modulus is not None:
            if power < 0:
                raise NoNumberError
            return Fraction(pow(base.numerator, power, self._modulus))
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if bits > 1 and bits * abs(power) > MOST_BITS:
            raise NoNumberError
        return base ** (power if bits > 1 else power % 2 if base else min(power, 1))

    def root(self, value: Fraction, degree: Fraction) -> Fraction:
        if degree.denominator != 1 or not 2 <= degree <= 64 or value < 0:
            raise NoNumberError
        return Fraction(*(_whole_root(part, degree.numerator) for part in (value.numerator, value.denominator)))

    def factorial(self, value: Fraction) -> Fraction:
        if value.denominator != 1 or not 0 <= value <= LARGEST_FACTORIAL or self._modulus is not None:
            raise NoNumberError
        return self.checked(Fraction(math.factorial(value.numerator)))

    def checked(self, value: Fraction) -> Fraction:
        if self._modulus is not None:
            if value.denominator != 1:
                raise NoNumberError
            return Fraction(value.numerator % self._modulus)
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > MOST_BITS:
            raise NoNumberError
        return value


def _whole_root(value: int, degree: int) -> int:
    """The root of a whole number where it is one."""
    low, high = 0, 1 << (value.bit_length() // degree + 1)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if middle**degree < value else (low, middle)
    if low**degree != value:
        raise NoNumberError
    return low


def _repeating(start: str, period: str) -> Fraction:
    """What the repeating digits behind `start` add to it: 0.1 and 6 are 0.1666..."""
    _, point, part = start.partition(".")
    if not point:
        raise NoNumberError
    return Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(part))
