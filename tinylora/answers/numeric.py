r"""Numeric answers in free text: where the final one stands, and what number it is.

An answer comes back as one canonical text (`18` for `$18.00`, `1234` for `1,234`, `3/4` for `0.75`), so that answers
are compared exactly and never as floats. Digits are ASCII; signs, `$`, `%`, thousands separators and units around a
number do not count. Only the last `TAIL` characters are searched, and every pattern takes linear time, so that no
completion can stall a run: this checker works in the training process itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

from tinylora.answers.extraction import TAIL, boxes, stated
from tinylora.settings.config import Template

_NUMBER = (
    r"(?:(?<![\w)])(?P<sign>[-\u2212]))?"  # a minus, but not that of `10-5` or `x-5`
    r"(?:\\?\$)?"
    r"(?:(?<![\w)])(?P<inner>[-\u2212]))?"  # or behind the currency: `$-5`
    r"(?P<whole>[0-9]{1,3}(?:,[0-9]{3})++(?![0-9])|[0-9]++|(?<![0-9.])(?=\.[0-9]))"
    r"(?P<part>\.[0-9]++)?"
    r"(?:/(?P<below>[0-9]++))?"
)
_ANY = re.compile(_NUMBER)
_MARKED = re.compile(r"####[ \t]{0,8}" + _NUMBER)
_FRACTION = re.compile(r"\\[dt]?frac\{([-\u2212]?[0-9]++)\}\{([0-9]++)\}")
_SPACING = re.compile(r"\\[!,;: ]|\{,\}")  # LaTeX puts these into 1{,}234 and 10\,000


def strict_answer(completion: str) -> str | None:
    r"""The number after the last `#### `, as the prompt asks; without one, that of the last `\boxed{...}`."""
    return asked_answer(completion, Template.hash) or asked_answer(completion, Template.boxed)


def flexible_answer(completion: str) -> str | None:
    """The strict answer, or else the last number, wherever it stands."""
    return strict_answer(completion) or _last(map(_value, _ANY.finditer(completion[-TAIL:])))


def asked_answer(completion: str, template: Template) -> str | None:
    """The number in the format that the template asks for; `plain` takes either mark, or "the answer is ..."."""
    tail = completion[-TAIL:]
    if template is Template.hash:
        return _last(map(_value, _MARKED.finditer(tail)))
    if template is Template.boxed:
        return _last(_boxed_value(content) for _, _, content in boxes(tail))
    return strict_answer(completion) or next(filter(None, map(_stated_value, stated(tail))), None)


def gold_answer(text: str) -> str | None:
    """The number that the whole of a gold answer is, up to signs and units; None where it is not one number."""
    return _only_value(text.strip()[-TAIL:])


def _boxed_value(content: str) -> str | None:
    thousands = _SPACING.sub(lambda found: "," if found[0] == "{,}" else "", content)
    return _only_value(_FRACTION.sub(r"\1/\2", thousands))


def _stated_value(sentence: str) -> str | None:
    """The first number that a sentence states, or that its calculation ends in: `12 + 6 = 18`."""
    return next(filter(None, map(_value, _ANY.finditer(sentence.rpartition("=")[2]))), None)


def _only_value(text: str) -> str | None:
    found = list(_ANY.finditer(text))
    return _value(found[0]) if len(found) == 1 else None


def _value(found: re.Match[str]) -> str | None:
    """The canonical text of a matched number; None for a division by zero."""
    whole, part, below = (found[name] or "" for name in ("whole", "part", "below"))
    if below and not int(below):
        return None
    value = Fraction(f"{whole.replace(',', '') or 0}{part}") / (int(below) if below else 1)
    return str(-value if found["sign"] or found["inner"] else value)


def _last(values: Iterator[str | None]) -> str | None:
    last = None
    for value in values:
        last = value if value is not None else last
    return last
