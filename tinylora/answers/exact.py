r"""Exact numbers: which rational a whole normal text is (`3/4` for `0.75`, `\frac{3}{4}` and `75/100`), never a float.

The whole text is read or nothing: `2x`, `5-` and `\sqrt{2}` are no rational numbers. Calculations are: `15 + 3`, `3^2`,
`5!`, `|-5|`, `\sqrt{16}`, `7^{100} \mod 13`. This is ours, and not SymPy's, because it runs in the training process for
every completion: it takes linear time, and no number grows beyond `MOST_BITS`, whatever the text.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

MOST_CHARACTERS = 400  # of a text: beyond that, texts are compared
MOST_BITS = 4000  # of a numerator or denominator
DEEPEST = 40  # brackets in brackets

_WHOLE = r"(?:[0-9]{1,3}(?:,[0-9]{3})++(?![0-9])|[0-9]{1,3}(?: [0-9]{3})++(?![0-9])|[0-9]++)"
_DECIMAL = rf"(?:{_WHOLE}(?:\.[0-9]*+)?|\.[0-9]++)"
_TOKEN = re.compile(
    rf"\s*(?:(?P<number>(?P<value>{_DECIMAL})(?P<period>\\overline ?\{{ ?[0-9]++ ?\}})?"
    r"(?:[eE](?P<power>[-+]?[0-9]{1,4}))?)"
    r"|(?P<command>\\[a-zA-Z]++)|(?P<mark>[-+*/^!|()\[\]{}]))"
)
_TIMES = ("*", "\\times", "\\cdot")
_OVER = ("/", "\\div")
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_MODULUS = re.compile(r" ?\(? ?\\[bp]?mod ?[({]? ?(?P<value>[0-9]{1,400}) ?[)}]? ?\)?\Z")


class _NoNumber(Exception):
    """The text is no rational number, or one that is too large."""


def exact(text: str) -> Fraction | None:
    """The rational number that the whole of a normal text is; None where it is none, or one that is too large."""
    if len(text) > MOST_CHARACTERS or not any(map(str.isdigit, text)) or not text.isascii():
        return None
    if text[0] in "([" and "," in text:
        return None  # a tuple: (2,251,252)
    modulus = _MODULUS.search(text)
    try:
        if modulus:
            return _Calculation(text[: modulus.start()], int(modulus["value"])).value()
        return _Calculation(text, None).value()
    except (_NoNumber, ZeroDivisionError, ValueError):  # ValueError: of pow, for the modulus 0
        return None


class _Calculation:
    """A text of numbers and operators, read from left to right; with a modulus, over the whole numbers below it."""

    def __init__(self, text: str, modulus: int | None) -> None:
        self.modulus, self.place, self.depth = modulus, 0, 0
        self.tokens: list[re.Match[str]] = []
        end = 0
        while found := _TOKEN.match(text, end):
            self.tokens.append(found)
            end = found.end()
        if text[end:].strip():
            raise _NoNumber

    def value(self) -> Fraction:
        """The value of the whole text; _NoNumber where it has none."""
        value = self._sum()
        if self.place < len(self.tokens):
            raise _NoNumber
        return value

    def _next(self) -> str | None:
        return self.tokens[self.place][0].strip() if self.place < len(self.tokens) else None

    def _take(self, *marks: str) -> str | None:
        mark = self._next()
        if mark is None or mark not in marks:
            return None
        self.place += 1
        return mark

    def _checked(self, value: Fraction) -> Fraction:
        if self.modulus is not None:
            if value.denominator != 1:
                raise _NoNumber
            return Fraction(value.numerator % self.modulus)
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > MOST_BITS:
            raise _NoNumber
        return value

    def _sum(self) -> Fraction:
        value = self._product()
        while mark := self._take("+", "-"):
            term = self._product()
            value = self._checked(value + term if mark == "+" else value - term)
        return value

    def _product(self) -> Fraction:
        value = self._signed()
        while True:
            if self._take(*_TIMES):
                value = self._checked(value * self._signed())
            elif self._take(*_OVER):
                value = self._checked(value / self._signed())
            elif self._next() in ("(", "\\frac", "\\sqrt") and not self.tokens[self.place][0][:1].isspace():  # 2(3 + 4)
                value = self._checked(value * self._power())
            else:
                return value

    def _signed(self) -> Fraction:
        sign = 1
        while mark := self._take("+", "-"):
            sign = -sign if mark == "-" else sign
        return self._checked(sign * self._power())

    def _power(self) -> Fraction:
        base = self._atom()
        while self._take("!"):
            base = self._factorial(base)
        if not self._take("^"):
            return base
        modulus, self.modulus = self.modulus, None
        exponent = self._exponent()
        self.modulus = modulus
        if exponent.denominator != 1:
            return _root(self._raised(base, exponent.numerator), exponent.denominator)
        return self._raised(base, exponent.numerator)

    def _exponent(self) -> Fraction:
        """One number or bracket, with its sign; 2^3^2 is 2^9."""
        sign = -1 if self._take("-") else 1
        return sign * self._power()

    def _raised(self, base: Fraction, exponent: int) -> Fraction:
        if self.modulus is not None:
            if exponent < 0:
                raise _NoNumber
            return Fraction(pow(base.numerator, exponent, self.modulus))
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if bits > 1 and bits * abs(exponent) > MOST_BITS:
            raise _NoNumber
        return base ** (exponent if bits > 1 else exponent % 2 if base else min(exponent, 1))

    def _factorial(self, base: Fraction) -> Fraction:
        if base.denominator != 1 or not 0 <= base <= 400 or self.modulus is not None:
            raise _NoNumber
        return self._checked(Fraction(math.factorial(base.numerator)))

    def _atom(self) -> Fraction:
        if self.place >= len(self.tokens):
            raise _NoNumber
        token = self.tokens[self.place]
        self.place += 1
        if token["number"]:
            return self._number(token)
        mark = token[0].strip()
        if mark in _CLOSING:
            return self._bracket(_CLOSING[mark])
        if mark == "|":
            return abs(self._bracket("|"))
        if mark == "\\frac":
            above = self._group()
            return self._checked(above / self._group())
        if mark == "\\sqrt":
            degree = self._bracket("]") if self._take("[") else Fraction(2)
            return _root(self._group(), degree.numerator if degree.denominator == 1 else 0)
        raise _NoNumber

    def _number(self, token: re.Match[str]) -> Fraction:
        value = _fraction(token["value"])
        if token["period"]:
            value += _repeating(token["value"], re.sub(r"[^0-9]", "", token["period"]))
        if token["power"]:
            value *= self._raised(Fraction(10), int(token["power"]))
        if "." in token["value"] or token["power"]:
            return self._checked(value)
        if self._next() == "\\frac":  # a mixed number, as is 3 1/2
            self.place += 1
            above = self._group()
            part = above / self._group()
            if part < 0:
                raise _NoNumber
            return self._checked(value + part)
        if following := self._mixed():
            return self._checked(value + following)
        return self._checked(value)

    def _mixed(self) -> Fraction | None:
        """The `1/2` behind the `3` of `3 1/2`."""
        ahead = self.tokens[self.place : self.place + 3]
        plain = len(ahead) == 3 and ahead[0]["number"] and ahead[1][0].strip() == "/" and ahead[2]["number"]
        if not plain or not (ahead[0]["number"] + ahead[2]["number"]).isdigit() or ahead[0][0] == ahead[0]["number"]:
            return None
        self.place += 3
        return Fraction(int(ahead[0]["number"]), int(ahead[2]["number"]))

    def _group(self) -> Fraction:
        if not self._take("{"):
            raise _NoNumber
        return self._bracket("}")

    def _bracket(self, closing: str) -> Fraction:
        self.depth += 1
        if self.depth > DEEPEST:
            raise _NoNumber
        value = self._sum()
        self.depth -= 1
        if not self._take(closing):
            raise _NoNumber
        return value


def _root(value: Fraction, degree: int) -> Fraction:
    """The root of a rational number where it is one."""
    if not 2 <= degree <= 64 or value < 0:
        raise _NoNumber
    parts = [_whole_root(part, degree) for part in (value.numerator, value.denominator)]
    return Fraction(parts[0], parts[1])


def _whole_root(value: int, degree: int) -> int:
    low, high = 0, 1 << (value.bit_length() // degree + 1)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if middle**degree < value else (low, middle)
    if low**degree != value:
        raise _NoNumber
    return low


def _fraction(text: str) -> Fraction:
    plain = text.replace(",", "").replace(" ", "")
    return Fraction(plain.rstrip(".") if plain.rstrip(".") else 0)


def _repeating(start: str, period: str) -> Fraction:
    """What the repeating digits behind `start` add to it: 0.1 and 6 are 0.1666..."""
    _, point, part = start.partition(".")
    if not point:
        raise _NoNumber
    return Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(part))
