r"""The formulas and numbers that stand in prose: `$...$`, `\(...\)`, and what is written without such marks.

A piece is the whole of what is written there, `\frac{5}{12}`, `3:7`, `10 + 8 = 18`, never a digit out of it. Pieces
that an `and`, an `or` or a comma joins are one: `$x = 1$ or $x = 2$`. A dollar sign in front of an amount opens no
formula. Every search takes linear time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tinylora.answers.words import SCALES

_DISPLAY = re.compile(r"\\\(((?:[^\\]|\\[^)])*+)\\\)|\\\[((?:[^\\]|\\[^\]])*+)\\\]|\$\$([^$]++)\$\$")
_DOLLAR = re.compile(r"(?<!\\)\$")
_PROSE = re.compile(  # between two dollar signs: so the first of them is a currency
    r"(?<![\\a-zA-Z{])[a-zA-Z]{2,}[.,;:?!]*\s+(?:[a-zA-Z]{2,}|[$0-9])|[.?!;]\s+[A-Z]|\n\s*\n|\A[?!,;]|\A\s*\Z"
)
_TEXT_COMMAND = re.compile(r"\\(?:text|mathrm|mbox|textbf|operatorname)[a-z]*\*?\s*\{[^{}]*\}")
_TOKEN = re.compile(
    r"(?P<tag></?[a-zA-Z]{1,10}>)|(?P<command>\\[a-zA-Z]++|\\[{}%$!,;: |\\])"
    r"|(?P<number>(?:[0-9]++(?:,[0-9]{3}(?![0-9]))*+(?:\.[0-9]++)?|(?<![.0-9])\.[0-9]++)(?:[eE][-+]?[0-9]++)?(?P<attached>[a-zA-Z]*+))"
    r"|(?P<word>(?:[^\W\d_]|')++)"
    r"|(?P<operator>[-+*/^=<>|%!:\u2212\u2013\u00d7\u00f7\u00b7\u2248\u221a\u03c0\u00b0\u2260\u2264\u2265\u00b1])"
    r"|(?P<bracket>[(\[{}\])_]|&(?![a-zA-Z]))"
    r"|(?P<comma>[,;](?=\S)|\.(?=[0-9]))|(?P<money>[$\u20ac\u00a3\u00a5](?=\s?[-\u2212]?[0-9.]))"
    r"|(?P<space>[ \t\u00a0]++)|(?P<other>.)",
    re.DOTALL,
)
_LINK = re.compile(r"\s*(?:,?\s*(?:and|or|and also)\s+(?:also\s+)?|,\s*|\\text\{\s*(?:and|or)\s*\})\s*")
_RANGE = re.compile(r"\s+to\s+")
_SPOKEN_SCALE = re.compile(
    rf"\s(?:{'|'.join(SCALES)}|and a half|and a quarter|and a third|half|halves|thirds|quarters)\b"
)
_EDGE_LEFT = re.compile(r"(?:\\(?:boxed|fbox)\s?\{?|(?<=\.)\.|[-=]?>(?<=[-=]>)|[\s,:;*_|&=/)\]}]|[aI]\s+(?=[\d\\$(]))+")
_EDGE_RIGHT = re.compile(r"(?:[\s,:;*_|&=<>/+(\[{-]|\s[aI])+\Z")
_TELLS = re.compile(r"[0-9]|\\(?!text)[a-zA-Z]|\u03c0|\u221a")


@dataclass(frozen=True)
class Piece:
    """A formula or number in a text, from `start` to `end`."""

    start: int
    end: int
    text: str
    marked: bool
    """Whether it stood in dollar signs or the like."""


def pieces(text: str) -> list[Piece]:
    """All formulas and numbers of a text, in order; those in marks whatever they hold, the others where they tell."""
    found, end = [], 0
    for span in [*_spans(text), Piece(len(text), len(text), "", True)]:
        found += _unmarked(text, end, span.start)
        if span.text:
            found.append(span)
        end = span.end
    return found


def joined(text: str, found: list[Piece]) -> list[Piece]:
    """The pieces, those that a word or comma joins as one list."""
    together: list[Piece] = []
    for piece in found:
        last = together[-1] if together else None
        between = text[last.end : piece.start] if last else ""
        if last and len(between) < 20 and (_LINK.fullmatch(between) or _RANGE.fullmatch(between)):
            sign = ", " if _LINK.fullmatch(between) else r" \text{ to } "
            together[-1] = Piece(last.start, piece.end, last.text + sign + piece.text, last.marked or piece.marked)
        else:
            together.append(piece)
    return together


def _spans(text: str) -> Iterator[Piece]:
    """The formulas in marks; a dollar sign whose partner lies behind prose is a currency."""
    display = [
        (found.start(), found.end(), next(filter(None, found.groups()), "")) for found in _DISPLAY.finditer(text)
    ]
    spans = [Piece(start, end, content.strip(), True) for start, end, content in display]
    taken = {place for start, end, _ in display for place in range(start, end)}
    free = [found.start() for found in _DOLLAR.finditer(text) if found.start() not in taken]
    place = 0
    while place + 1 < len(free):
        start, end = free[place], free[place + 1]
        content = text[start + 1 : end]
        if _PROSE.search(_TEXT_COMMAND.sub("", content)):
            place += 1
            continue
        spans.append(Piece(start, end + 1, content.strip(), True))
        place += 2
    return iter(sorted(spans, key=lambda piece: piece.start))


def _unmarked(text: str, start: int, end: int) -> list[Piece]:
    """The formulas and numbers between two places where no marks are."""
    found: list[Piece] = []
    first, depth = -1, 0
    for token in _TOKEN.finditer(text, start, end):
        if first >= 0:
            depth = max(0, depth + (token[0] in ("{", "\\{")) - (token[0] in ("}", "\\}")))
        if _ends_piece(text, token, depth):
            found += _trimmed(text, first, token.end() if token[0] == "!" else token.start())
            first, depth = (token.end() if token["money"] else -1), 0
        elif first < 0 and not token["space"]:
            first = token.start()
    return found + _trimmed(text, first, end)


def _ends_piece(text: str, token: re.Match[str], depth: int) -> bool:
    """Whether a token belongs to prose, and to no formula: a word outside of braces, punctuation."""
    if token["word"]:
        return depth == 0 and not (len(token[0]) == 1 and token[0].isascii() and token[0].isalpha())
    if token["other"] or token["money"] or token["tag"]:
        return True
    return token[0] in (":", "!") and _closes(text, token.end())


def _closes(text: str, place: int) -> bool:
    """Whether a colon or exclamation mark that ends at a place is punctuation, and no part of a ratio or factorial."""
    if text[place - 1] == "!":
        return place > 1 and not (text[place - 2].isdigit() or text[place - 2] in ")}")
    return text[place : place + 1] in ("", " ", "\n", "*") and not (
        text[place - 2 : place - 1] == " " and text[place + 1 : place + 2].isdigit()  # 3 : 7
    )


def _trimmed(text: str, start: int, end: int) -> list[Piece]:
    """The piece between two places without what does not belong to it; none where it tells nothing."""
    if start < 0:
        return []
    if (left := _EDGE_LEFT.match(text, start, end)) is not None:
        start = left.end()
    if text.startswith("- ", start, end) and not text[text.rfind("\n", 0, start) + 1 : start].strip():
        start += 2  # of a list: - 5 apples
    if (right := _EDGE_RIGHT.search(text, max(start, end - 40), end)) is not None:
        end = right.start()
    if (scale := _SPOKEN_SCALE.match(text, end)) is not None:
        end = scale.end()
    start, end = _without_lone_bracket(text, start, end)
    content = text[start:end]
    return [Piece(start, end, content, False)] if _TELLS.search(content) else []


def _without_lone_bracket(text: str, start: int, end: int) -> tuple[int, int]:
    """The places without a bracket at an edge whose partner stands outside: (18 apples), {"answer": 18}."""
    if start < end and text[start] in "([" and text[end - 1] in ")]":
        return start, end  # [2, 3)
    for opening, closing in (("(", ")"), ("[", "]"), ("{", "}")):
        more = text.count(opening, start, end) - text.count(closing, start, end)
        if more == 1 and text.startswith(opening, start, end):
            start += 1
        if more == -1 and text.endswith(closing, start, end):
            end -= 1
    return start, end
