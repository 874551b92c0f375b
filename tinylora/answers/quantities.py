r"""Numbers with what stands around them: whether two are the same quantity, by exact arithmetic.

numbers      exact: 0.5 is 1/2, 0.333 is not 1/3, and a rounded number is not the number
units        a unit behind a number does not count, but two known units must be the same: 5 cm is 5, and not 5 m
percent      50\% is 50\%, 50 (the question asked for percent) and 0.5; where the gold answer is a plain number
             above 1, a percent sign is a unit (50\% for 50), below it a hundredth (50\% for 0.5)
base         1010_2 is 1010 (the question named the base) and not 1010_3
scales       5 thousand is 5000
tolerance    of a gold answer that was rounded (`ROUNDED`), where the data set says so
"""

from __future__ import annotations

import functools
import re
from fractions import Fraction

from tinylora.answers.exact import exact
from tinylora.answers.words import SCALES, number_word, without_unit

ROUNDED = 1e-4
"""Relative distance within which an answer is a decimal gold answer of a set with rounded answers, as in the grader of
Qwen2.5-Math, by which the paper's scores on such a set were made."""

_BASE = re.compile(r"(?P<digits>[0-9A-F]++)(?: ?_ ?(?:\{ ?(?P<base>[0-9]++|\\text\{[a-z]++\}) ?\}|(?P<digit>[0-9])))?")
_SCALED = re.compile(r"(?P<value>.*[^ ]) ?(?:\\text\{)? ?\b(?P<word>[a-z]++)\}?")
_DECIMAL = re.compile(r".*[0-9]\.[0-9].*|.*[0-9][eE][-+]?[0-9].*|.*\\(?:times|cdot) ?10 ?\^.*")


def same_numbers(gold: str, answer: str, tolerance: float = 0.0) -> bool | None:
    """The verdict on two normal texts as numbers, with or without units; None where one of them is no number.

    `tolerance` is the relative distance that still counts as the same.
    """
    (value, unit, percent), (other, other_unit, other_percent) = quantity(gold), quantity(answer)
    if unit and other_unit and unit != other_unit:
        return False
    if value is None or other is None:
        return _same_in_base(gold, answer)
    near = functools.partial(_near, tolerance=tolerance)
    if percent == other_percent:
        return near(value, other)
    if percent:
        return near(value, other) or near(value / 100, other)
    return near(value, other / 100) or (abs(value) > 1 and near(value, other))


def is_rounded(gold: str) -> bool:
    """Whether a gold answer is a decimal, and so may be a rounded number: 0.33 and 4.5e33, but not 3 or 1/3."""
    return _DECIMAL.fullmatch(gold) is not None


@functools.lru_cache(maxsize=1024)
def quantity(text: str) -> tuple[Fraction | None, str, bool]:
    """The number that a whole normal text is, its unit (empty: none or unknown), and whether it is percent.

    The number is None where the text is none.
    """
    value, unit, percent = without_unit(text)
    scaled = _SCALED.fullmatch(value)
    scale = SCALES.get(scaled["word"]) if scaled else None
    bare = scaled["value"] if scaled and scale else value
    number = exact(bare)
    if number is None and (word := number_word(bare)) is not None:
        number = Fraction(word)
    if number is None or not scale:
        return number, unit, percent
    return number * scale, unit, percent


def _near(one: Fraction, other: Fraction, tolerance: float) -> bool:
    return one == other or (tolerance > 0 and abs(one - other) <= abs(one) * Fraction(str(tolerance)))


def _same_in_base(gold: str, answer: str) -> bool | None:
    found = [_BASE.fullmatch(text) for text in (gold, answer)]
    if not (found[0] and found[1]):
        return None
    digits = [match["digits"].lstrip("0") for match in found if match]
    bases = [match["base"] or match["digit"] for match in found if match]
    bases = [str(number_word(base) or base) if base else None for base in bases]
    return digits[0] == digits[1] and bases[1] in (None, bases[0]) if bases[0] else None
