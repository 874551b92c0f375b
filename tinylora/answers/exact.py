r"""Exact numbers: which rational a normal text is (`3/4` for `0.75`, `\frac{3}{4}` and `75/100`), never a float."""

from __future__ import annotations

import re
from fractions import Fraction

MOST_DIGITS = 400  # of a number and of a power of ten: beyond that, texts are compared

_WHOLE = r"(?:[0-9]{1,3}(?:,[0-9]{3})++(?![0-9])|[0-9]{1,3}(?: [0-9]{3})++(?![0-9])|[0-9]++)"
_DECIMAL = rf"(?:{_WHOLE}(?:\.[0-9]*+)?|\.[0-9]++)"
_SIGN = r"(?P<{}>[-+]?) ?"
_POWER = (
    r"(?:[eE](?P<{0}>[-+]?[0-9]{{1,3}})|(?: ?(?:\\times|\\cdot|\*) ?10 ?\^ ?\{{? ?(?P<{0}2>[-+]?[0-9]{{1,3}}) ?\}}?))?"
)
_NUMBER = re.compile(_SIGN.format("sign") + rf"(?P<value>{_DECIMAL})" + _POWER.format("power"))
_POWER_OF_TEN = re.compile(r"(?P<sign>[-+]?) ?10 ?\^ ?(?:\{ ?(?P<power>-?[0-9]{1,3}) ?\}|(?P<digit>[0-9]))")
_RATIO = re.compile(
    _SIGN.format("sign")
    + r"(?:(?P<whole>[0-9]++) ?(?=\\frac)|(?P<whole2>[0-9]++) (?=[0-9]++ ?/))?"
    + rf"(?:\\frac ?\{{ ?(?P<above>[-+]?{_DECIMAL}) ?\}} ?\{{ ?(?P<below>[-+]?{_DECIMAL}) ?\}}"
    + rf"|(?P<above2>{_DECIMAL}) ?/ ?(?P<below2>[-+]?{_DECIMAL}))"
)
_REPEATING = re.compile(
    _SIGN.format("sign") + r"(?P<whole>[0-9]*+)\.(?P<part>[0-9]*+)\\overline ?\{ ?(?P<period>[0-9]++) ?\}"
)


def exact(text: str) -> Fraction | None:
    """The rational number that the whole of a normal text is; None where it is none, or one of too many digits."""
    if len(text) > MOST_DIGITS or not any(map(str.isdigit, text)) or not text.isascii():
        return None
    if text.startswith("(") and text.endswith(")") and "," not in text:  # with a comma it is a tuple
        text = text[1:-1].strip()
    for pattern, value_of in _FORMS:
        found = pattern.fullmatch(text)
        if found:
            value = value_of(found)
            return value if value is None or found["sign"] != "-" else -value
    return None


def _number(found: re.Match[str]) -> Fraction | None:
    return _fraction(found["value"]) * Fraction(10) ** int(found["power"] or found["power2"] or 0)


def _power_of_ten(found: re.Match[str]) -> Fraction | None:
    return Fraction(10) ** int(found["power"] or found["digit"])


def _ratio(found: re.Match[str]) -> Fraction | None:
    below = _fraction(found["below"] or found["below2"])
    above = _fraction(found["above"] or found["above2"])
    whole = found["whole"] or found["whole2"]
    if not below or (whole and (above < 0 or below < 0)):
        return None
    return int(whole or 0) + above / below


def _repeating(found: re.Match[str]) -> Fraction | None:
    part, period = found["part"], found["period"]
    start = Fraction(f"{found['whole'] or 0}.{part or 0}")
    return start + Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(part))


def _fraction(text: str) -> Fraction:
    plain = text.replace(",", "").replace(" ", "")
    return Fraction(plain.rstrip(".") if plain.rstrip(".") else 0)


_FORMS = [(_NUMBER, _number), (_POWER_OF_TEN, _power_of_ten), (_RATIO, _ratio), (_REPEATING, _repeating)]
