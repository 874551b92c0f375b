r"""What an equation names: `x = 2` gives x a value, `\sin A = \frac12` a quantity its, `x + 3 = 5` neither.

An answer may say what its value is the value of, and a fair reader takes the value. An equation that leaves something
to be solved, and one that is the answer itself (a line, a circle), must not be read so.
"""

from __future__ import annotations

import re

from tinylora.answers.brackets import split

_NAME = re.compile(
    r"(?:[a-zA-Z]|\\(?!text|frac|sqrt|pi(?![a-z])|infty)[a-zA-Z]{2,9})(?:_(?:\w|\{[^{}]*\})|')?"
    r"(?: ?\( ?[a-zA-Z](?:, ?[a-zA-Z])* ?\))?"
)
_OTHER_NAME = re.compile(
    r"m? ?\\angle ?[A-Z]{1,3}|\\text\{[^{}]*\}|[a-zA-Z][a-zA-Z ]*|\( ?[a-zA-Z](?: ?, ?[a-zA-Z])+ ?\)"
)
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_LETTER = re.compile(r"[a-zA-Z]")
_VARIABLE = re.compile(r"(?<![a-zA-Z])[a-df-hj-zA-Z](?![a-zA-Z])|[a-zA-Z]{2,}")
_SYMBOL = re.compile(r"[a-zA-Z](?:_(?:\w|\{[^{}]*\}))?")
_UNKNOWN = re.compile(r"[xyztn]")
_CALLED = re.compile(r"[a-zA-Z]'*(?:_(?:\w|\{[^{}]*\}))? ?\(")
_TRIGONOMETRY = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
_MEASURED = re.compile(  # lengths, angles, sizes of sets, limits, ratios of lengths
    r"\||\\(?:angle|triangle|overline|lim|max|min|det|sum|prod|int|gcd|lcm|text)(?![a-z])"
    r"|(?<![a-zA-Z\\])[A-Z]{2,}|[A-Za-z0-9}] ?: ?[A-Za-z]"
)
_CONGRUENT = re.compile(r"(?P<left>[^=]*?) ?\\equiv(?![a-z]) ?(?P<value>[^\\(]*?) ?(?:\(? ?\\[bp]?mod(?![a-z]).*)?")


def assignment(text: str) -> tuple[str, str] | None:
    """The name and the value of `x = 2`, `f(x) = 3` or `Area = 5`; None where a text is no assignment to a name.

    The name of a calculation, `2 + 3 = 5`, is empty.
    """
    congruent = _CONGRUENT.fullmatch(text)
    if congruent and _NAME.fullmatch(congruent["left"]) and congruent["value"]:
        return congruent["left"], congruent["value"]
    sides = split(text, "=")
    if len(sides) < 2 or not sides[-1]:
        return None
    if len(sides) == 2 and _NAME.fullmatch(sides[1]) and not _NAME.fullmatch(sides[0]):
        sides.reverse()  # 3 = x
    name = sides[0]
    if _NAME.fullmatch(name) or _OTHER_NAME.fullmatch(name):
        return name, sides[-1]
    # A calculation has no name, only its result: 2 + 3 = 5. With a variable it is an equation: 0 = x^2 - 4.
    return None if any(map(_has_letter, sides)) else ("", sides[-1])


def quantity_value(text: str, of_gold: bool) -> str | None:
    r"""The 5 of `x + y = 5` or `|AB| = 5`; None for an equation to be solved, such as x + 3 = 5, or another text.

    Of a gold answer, `of_gold`, only what is measured counts: x + y = 5 may be the line that was asked for.
    """
    sides = split(text, "=")
    if len(sides) < 2:
        return None
    left, value = sides[0], sides[-1]
    if _VARIABLE.search(_COMMAND.sub(" ", value)) and not _has_letter(left):
        left, value = value, left
    if not value or _VARIABLE.search(_COMMAND.sub(" ", value)):
        return None
    letters = set(_SYMBOL.findall(_COMMAND.sub(" ", left)))
    called, unknown = _CALLED.search(left), len(letters) == 1 and _UNKNOWN.fullmatch(next(iter(letters)))
    if called or (_MEASURED.search(left) and not unknown):
        return value
    if _TRIGONOMETRY.search(left) and not (of_gold and unknown):
        return value
    curve = letters & set("xyzt") and re.search(r"[\^0-9]", left)  # x^2 + y^2 = 1, 3x - y = 2
    return value if len(letters) > 1 and not of_gold and not curve else None


def before_rounding(text: str) -> tuple[str, str]:
    r"""A text without the decimal that it ends in, and the decimal: `\sqrt{2} \approx 1.41`; empty where there is none.

    `x \approx 1.41` is the assignment x = 1.41.
    """
    before, sign, decimal = text.partition("\\approx")
    if not sign:
        return text, ""
    before, decimal = before.strip(), decimal.strip()
    if not before or _NAME.fullmatch(before) or _OTHER_NAME.fullmatch(before):
        return f"{before} = {decimal}".removeprefix(" = "), ""
    return before, decimal


def _has_letter(text: str) -> bool:
    return _LETTER.search(_COMMAND.sub(" ", text)) is not None
