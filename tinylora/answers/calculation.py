r"""Reading a formula from left to right: numbers, names, `+ - * / ^ !`, `\frac`, `\sqrt`, `|x|`, functions.

What a value is, says a subclass: an exact rational number (`exact`), or a number at a sample point (`sampling`). The
whole of a text is read or nothing: `NoNumberError` is raised for any text that is not such a formula, or can be read in
two ways, as `\sin x(x + 1)` and `f(x)` can. Ours rather than a library's, because it judges most answers, in linear
time and in less than a millisecond; the LaTeX parser that reads the rest takes a hundred times as long.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

DEEPEST = 80  # powers and brackets in each other

WHOLE = r"(?:[0-9]{1,3}(?:,[0-9]{3})++(?![0-9])|[0-9]{1,3}(?: [0-9]{3})++(?![0-9])|[0-9]++)"
DECIMAL = rf"(?:{WHOLE}(?:\.[0-9]*+)?|\.[0-9]++)"
_NAMES = r"\\(?:alpha|beta|gamma|lambda|mu|omega|sigma|theta|tau|phi)(?![a-zA-Z])"
_TOKEN = re.compile(
    rf"\s*(?:(?P<number>(?P<value>{DECIMAL})(?P<period>\\overline ?\{{ ?[0-9]++ ?\}})?"
    r"(?:[eE](?P<power>[-+]?[0-9]{1,4}))?)"
    rf"|(?P<name>(?:[a-zA-Z]|{_NAMES})(?:_(?:\w|\{{[^{{}}]*\}}))?'*+)"
    r"|(?P<command>\\[a-zA-Z]++)|(?P<mark>[-+*/^!|()\[\]{}_]))"
)
_TIMES = ("*", "\\times", "\\cdot")
_OVER = ("/", "\\div")
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_INVERSE = {"\\sin": "\\arcsin", "\\cos": "\\arccos", "\\tan": "\\arctan"}
_ROUNDINGS = {"\\lfloor": "\\rfloor", "\\lceil": "\\rceil"}
FUNCTIONS = frozenset("\\" + name for name in "sin cos tan sec csc cot arcsin arccos arctan ln log exp".split())  # noqa: SIM905
_FACTORS = FUNCTIONS | {"\\frac", "\\sqrt", "\\pi", "\\lfloor", "\\lceil", "\\binom"}
_CALLED = frozenset("fghuvFGHPS")  # letters that name functions, where a bracket follows

V = TypeVar("V")


class NoNumberError(Exception):
    """The text is no formula of this kind, or its value is too large."""


class Calculation(ABC, Generic[V]):
    """A formula, token by token, and how values of the kind V are made and combined."""

    def __init__(self, text: str) -> None:
        self.place = self.depth = 0
        self.tokens: list[re.Match[str]] = []
        end = 0
        while found := _TOKEN.match(text, end):
            self.tokens.append(found)
            end = found.end()
        if text[end:].strip():
            raise NoNumberError

    @abstractmethod
    def number(self, value: str, period: str, power: str) -> V:
        """The number that is written with these digits, repeating digits, and power of ten."""

    @abstractmethod
    def named(self, name: str) -> V:
        r"""The value of a letter, or of `\pi`."""

    @abstractmethod
    def function(self, name: str, argument: V) -> V:
        r"""`\sin` and the like."""

    @abstractmethod
    def raised(self, base: V, exponent: V) -> V:
        """A power."""

    @abstractmethod
    def root(self, value: V, degree: V) -> V:
        """A root."""

    @abstractmethod
    def factorial(self, value: V) -> V:
        """A factorial."""

    @abstractmethod
    def binomial(self, above: V, below: V) -> V:
        """A binomial coefficient."""

    @abstractmethod
    def checked(self, value: V) -> V:
        """A value, if it is not too large."""

    def exponent(self) -> V:
        """What stands behind `^`: one number, name or bracket, with its sign; 2^3^2 is 2^9."""
        negative = self._take("-") is not None
        value = self._power()
        return -value if negative else value  # type: ignore[operator]

    def value(self) -> V:
        """The value of the whole text."""
        self.place = self.depth = 0
        value = self._sum()
        if self.place < len(self.tokens):
            raise NoNumberError
        return value

    def _next(self) -> str | None:
        return self.tokens[self.place][0].strip() if self.place < len(self.tokens) else None

    def _take(self, *marks: str) -> str | None:
        mark = self._next()
        if mark is None or mark not in marks:
            return None
        self.place += 1
        return mark

    def _sum(self) -> V:
        value = self._product()
        while mark := self._take("+", "-"):
            term = self._product()
            value = self.checked(value + term if mark == "+" else value - term)  # type: ignore[operator]
        return value

    def _product(self) -> V:
        value = self._signed()
        while True:
            if self._take(*_TIMES):
                value = self.checked(value * self._signed())  # type: ignore[operator]
            elif self._take(*_OVER):
                value = self.checked(value / self._signed())  # type: ignore[operator]
            elif self._is_factor():
                value = self.checked(value * self._power())  # type: ignore[operator]
            else:
                return value

    def _is_factor(self) -> bool:
        """Whether the next token is multiplied without a sign: 2x, x(x + 1), but not 18 (20 - 2) or f(x)."""
        if self.place >= len(self.tokens):
            return False
        token, before = self.tokens[self.place], self.tokens[self.place - 1]
        mark = token[0].strip()
        if mark == "(":
            alone = self.place + 2 < len(self.tokens) and self.tokens[self.place + 2][0].strip() == ")"
            if before["name"] and (before["name"][0] in _CALLED or alone):  # I(0)
                raise NoNumberError
            return not (token[0][:1].isspace() and before["number"])
        return token["name"] is not None or mark in _FACTORS

    def _signed(self) -> V:
        negative = False
        while mark := self._take("+", "-"):
            negative ^= mark == "-"
        value = self._power()
        return self.checked(-value if negative else value)  # type: ignore[operator]

    def _power(self) -> V:
        self._descend()
        value = self._atom()
        while self._take("!"):
            value = self.factorial(value)
        if self._take("^"):
            value = self.checked(self.raised(value, self.exponent()))
        self.depth -= 1
        return value

    def _descend(self) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise NoNumberError

    def _atom(self) -> V:
        if self.place >= len(self.tokens):
            raise NoNumberError
        token = self.tokens[self.place]
        self.place += 1
        if token["number"]:
            return self._number(token)
        mark = token[0].strip()
        if token["name"] or mark == "\\pi":
            return self.named(mark)
        if mark in _CLOSING:
            return self._bracket(_CLOSING[mark])
        if mark == "|":
            return abs(self._bracket("|"))  # type: ignore[arg-type]
        if mark == "\\frac":
            above = self._group()
            return self.checked(above / self._group())  # type: ignore[operator]
        if mark == "\\sqrt":
            degree = self._bracket("]") if self._take("[") else self.number("2", "", "")
            return self.root(self._group(), degree)
        if mark == "\\binom":
            above = self._group()
            return self.binomial(above, self._group())
        if mark in _ROUNDINGS:
            return self.function(mark, self._bracket(_ROUNDINGS[mark]))
        if mark in FUNCTIONS:
            return self._called(mark)
        raise NoNumberError

    def _called(self, name: str) -> V:
        r"""A function of a bracket, or of the factors that follow: `\sin 2x`, `\log_2 8`, `\sin^2 x`, `\sin^{-1} x`."""
        base = self._base() if name == "\\log" else None
        power = self.exponent() if self._take("^") else None
        if power is not None and power == self.number("-1", "", ""):
            name, power = _INVERSE.get(name, ""), None
        elif power is not None and power != self.number("2", "", ""):
            raise NoNumberError
        value = self.function(name, self._argument())
        if base is not None:
            value = value / self.function(name, base)  # type: ignore[operator]
        return value if power is None else self.raised(value, power)

    def _base(self) -> V | None:
        """What stands below a logarithm, where something does: one digit, one letter, or a group."""
        if not self._take("_"):
            return None
        if len(self._next() or "") > 1:
            raise NoNumberError
        return self._atom()

    def _argument(self) -> V:
        if bracket := self._take("(", "{", "["):
            value = self._bracket(_CLOSING[bracket])
            if self._next() == "^":
                raise NoNumberError
            return value
        value = self._power()
        while self.place < len(self.tokens) and (self.tokens[self.place]["name"] or self._next() == "\\pi"):
            value = self.checked(value * self._power())  # type: ignore[operator]
        if self._next() in ("(", "\\frac", "\\sqrt"):
            raise NoNumberError
        return value

    def _number(self, token: re.Match[str]) -> V:
        period = re.sub(r"[^0-9]", "", token["period"] or "")
        value = self.number(token["value"].replace(",", "").replace(" ", ""), period, token["power"] or "")
        part = None if "." in token["value"] or token["power"] else self._mixed()
        return self.checked(value if part is None else value + part)  # type: ignore[operator]

    def _mixed(self) -> V | None:
        r"""The fraction behind the whole number of a mixed one: 3 1/2, or `3\frac{1}{2}`."""
        ahead = self.tokens[self.place : self.place + 7]
        marks = [each[0].strip() for each in ahead]
        if marks[:2] == ["\\frac", "{"] and [marks[3:5], marks[6:]] == [["}", "{"], ["}"]]:
            above, below = marks[2], marks[5]
            length = 7
        elif len(ahead) >= 3 and marks[1] == "/" and ahead[0][0] != marks[0]:
            above, below = marks[0], marks[2]
            length = 3
        else:
            return None
        if not (above.isdigit() and below.isdigit()):
            return None
        self.place += length
        return self.number(above, "", "") / self.number(below, "", "")  # type: ignore[operator,no-any-return]

    def _group(self) -> V:
        if not self._take("{"):
            raise NoNumberError
        return self._bracket("}")

    def _bracket(self, closing: str) -> V:
        self._descend()
        value = self._sum()
        self.depth -= 1
        if not self._take(closing):
            raise NoNumberError
        return value
