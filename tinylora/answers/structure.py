r"""The outer form of an answer: lists, sets, tuples, intervals, unions, matrices, assignments; inside are atoms.

1, 2         list: several answers, in any order      \{1, 2\}     set: any order, repetitions do not count
(1, 2)       tuple, or open interval                   [1, 2)       interval; `1 \le x < 2` is read as one
A \cup B     union: any order                          \begin{pmatrix}...   matrix
2 \pm 3      list of 2 + 3 and 2 - 3                   x = 2        assignment: to be compared as 2

Ours, since a parser of LaTeX cannot know that (1, 2) is an interval in one answer and a point in the other, and since
most lists are compared without one. What takes solving or set algebra is left to SymPy (`solutions`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tinylora.answers.brackets import closed, split
from tinylora.answers.naming import assignment
from tinylora.answers.words import is_words

DEEPEST = 12  # levels of brackets that are told apart: what is nested deeper is an atom

_AND = re.compile(r",? ?\\text\{ ?(?:and|or) ?\},?|,? (?:and|or) |;", re.IGNORECASE)
_MATRIX = re.compile(
    r"[\[(]? ?\\begin ?\{(?P<kind>(?:[pbB]|small)?matrix|[vV]matrix|array)\}(?: ?\{[^{}]*\})?(?P<body>.*)"
    r"\\end ?\{(?P=kind)\} ?[\])]?",
    re.DOTALL,
)
_VARIABLE = re.compile(r"[a-zA-Z](?: ?\( ?[a-zA-Z] ?\))?|\\(?:theta|alpha|beta|lambda|mu|phi)")
_UNKNOWN = re.compile(r"(?<![a-zA-Z])[xyz](?![a-zA-Z])")  # y < 2 - x is no interval
_RELATION = re.compile(r"(\\le(?![a-z])|\\ge(?![a-z])|<|>)")
_UNEQUAL = re.compile(r"(?P<name>[a-zA-Z]) ?\\ne(?![a-z])(?P<value>[^,;]*)")
INTERVALS = ("()", "[]", "[)", "(]")
_POINT = re.compile(r"[A-Z] ?\([^()]*,[^()]*\)\Z")
_OF_ONE_VALUE = re.compile(r"\\cup(?![a-z])|:")
_BUILDER = re.compile(r"[a-zA-Z](?: ?\\in[^|:]*)? ?(?:\||\\mid(?![a-z])|:)(?P<condition>[^|:]*)")
_EITHER_SIGN = re.compile(r"\\(?:pm|mp)(?![a-z])")
_ELEMENT = re.compile(r"(?:[a-zA-Z]|\\[a-z]+) ?\\in(?![a-z])")


@dataclass(frozen=True)
class Form:
    """An answer taken apart: `kind` is atom, list, set, union, matrix, or the two brackets, such as `(]`."""

    kind: str
    text: str
    parts: tuple[Form, ...] = ()


def take_apart(text: str, depth: int = 0) -> Form:
    """The form of a normal text."""
    text = _ELEMENT.sub("", text, count=1).strip() if _ELEMENT.match(text) else text.strip()
    if _POINT.match(text):
        text = text[1:].strip()
    if depth >= DEEPEST:
        return Form("atom", text)
    for attempt in (_matrix, _beside_its_condition, _several, _bracketed, _inequality, _both_signs):
        form = attempt(text, depth)
        if form is not None:
            return form
    return Form("atom", text)


def has_relation(text: str) -> bool:
    """Whether a text is an inequality, or holds one."""
    return _RELATION.search(text) is not None


def _matrix(text: str, depth: int) -> Form | None:
    found = _MATRIX.fullmatch(text)
    if found is None or "\\begin" in found["body"]:
        return None
    kind = "determinant" if found["kind"] in ("vmatrix", "Vmatrix") else "matrix"
    body = found["body"].replace("\\hline", "").strip().removesuffix("\\\\")
    rows = [
        Form("row", row, tuple(take_apart(cell, depth + 1) for cell in split(row, "&"))) for row in split(body, "\\\\")
    ]
    return Form(kind, text, tuple(rows))


def _beside_its_condition(text: str, depth: int) -> Form | None:
    """The interval of `x > 1 : (1, \\infty)`, as textbooks give both."""
    condition, *others = split(text, ":")
    if len(others) != 1 or not has_relation(condition) or others[0][:1] not in ("(", "["):
        return None
    form = take_apart(others[0], depth + 1)
    return form if form.kind in (*INTERVALS, "union") else None


def _several(text: str, depth: int) -> Form | None:
    if text.count("=") == 1 and len(split(text, "=", ",")) == 2 and _OF_ONE_VALUE.search(text):
        return None  # |A \cup B| = 5, AB : CD = 2 : 3
    for kind, separators in (("union", ("\\cup",)), ("list", (",",)), ("ratio", (":",))):
        whole = text if kind != "list" else _AND.sub(",", text)
        parts = split(whole, *separators)
        if kind == "ratio" and any(map(is_words, parts)):
            continue
        if len(parts) > 1 and all(parts[:-1]):
            parts = [part for part in parts if part]
            if kind == "list":
                parts = _shared_name(parts)
            forms = [take_apart(part, depth + 1) for part in parts]
            if kind == "list" and all(_RELATION.search(form.text) and form.kind in INTERVALS for form in forms):
                kind = "union"  # x < 1 or x > 3
            return forms[0] if len(forms) == 1 else Form(kind, text, tuple(_flat(forms, kind)))
    return None


def _shared_name(parts: list[str]) -> list[str]:
    """`x = 1, 2` and `x = 1, x = 2` without the name; `x = 1, y = 2` as it is."""
    named = [assignment(part) for part in parts]
    names = {found[0] for found in named if found}
    if len(names) == 1 and named[0] and (all(named) or not any(named[1:])):
        return [found[1] if found else part for found, part in zip(named, parts, strict=True)]
    return parts


def _flat(forms: list[Form], kind: str) -> list[Form]:
    return [part for form in forms for part in (form.parts if form.kind == kind and kind == "list" else (form,))]


def _bracketed(text: str, depth: int) -> Form | None:
    opening = next((mark for mark in ("\\{", "(", "[") if text.startswith(mark)), None)
    closing = next((mark for mark in ("\\}", ")", "]") if text.endswith(mark)), None)
    if opening is None or closing is None or (opening == "\\{") != (closing == "\\}"):
        return None
    inner = text[len(opening) : -len(closing)].strip()
    if not closed(inner):
        return None
    kind = "set" if opening == "\\{" else opening + closing
    builder = _BUILDER.fullmatch(inner) if kind == "set" else None
    if builder:
        condition = take_apart(builder["condition"], depth + 1)
        return condition if condition.kind in (*INTERVALS, "union") else None
    parts = split(inner, ",", ";") if inner else []
    if kind == "()" and len(parts) == 1:
        return take_apart(inner, depth + 1)
    if len(parts) == 1 and kind != "set":
        return None
    return Form(kind, text, tuple(take_apart(part, depth + 1) for part in parts))


def _inequality(text: str, depth: int) -> Form | None:
    r"""`a < x \le b`, `x > a`, `a > x` and so on, for one variable, as an interval."""
    unequal = _UNEQUAL.fullmatch(text)
    if unequal:
        sides = (f"{unequal['name']} < {unequal['value']}", f"{unequal['name']} > {unequal['value']}")
        return Form("union", text, tuple(take_apart(side, depth + 1) for side in sides))
    pieces = [piece.strip() for piece in _RELATION.split(text)] if len(text) < 200 else []
    if len(pieces) not in (3, 5) or not all(pieces):
        return None
    if any(piece in ("\\ge", ">") for piece in pieces[1::2]):
        flip = {"\\ge": "\\le", ">": "<"}
        pieces = [flip.get(piece, piece if place % 2 == 0 else "") for place, piece in enumerate(pieces)][::-1]
    if not all(pieces):
        return None
    if len(pieces) == 3:
        if _VARIABLE.fullmatch(pieces[0]):
            pieces = ["-\\infty", "<", *pieces]
        elif _VARIABLE.fullmatch(pieces[2]):
            pieces = [*pieces, "<", "\\infty"]
    if len(pieces) != 5 or not _VARIABLE.fullmatch(pieces[2]) or any(map(_UNKNOWN.search, pieces[::4])):
        return None
    kind = ("[" if pieces[1] == "\\le" else "(") + ("]" if pieces[3] == "\\le" else ")")
    return Form(kind, text, (take_apart(pieces[0], depth + 1), take_apart(pieces[4], depth + 1)))


def _both_signs(text: str, depth: int) -> Form | None:
    if not _EITHER_SIGN.search(text) or len(text) > 300:
        return None
    value = assignment(text)
    text = value[1] if value else text
    both = [_with_signs(text, *signs) for signs in ("+-", "-+")]
    return Form("list", text, tuple(take_apart(one, depth + 1) for one in both))


def _with_signs(text: str, upper: str, lower: str) -> str:
    signed = re.sub(r"\\mp(?![a-z])", lower, re.sub(r"\\pm(?![a-z])", upper, text))
    return signed.strip().removeprefix("+").strip()
