"""Brackets in a formula: where a text can be cut, whether each is closed, and which say nothing."""

from __future__ import annotations

import re

_OPEN = ("(", "[", "\\{", "{")
_CLOSE = (")", "]", "\\}", "}")
_TOKEN = re.compile(r"\\[{}]|\\[a-zA-Z]+|\\.|.", re.DOTALL)


def split(text: str, *separators: str) -> list[str]:
    """A text cut at the separators (single LaTeX tokens) that stand in no bracket; brackets need not be of one kind."""
    parts, start, depth = [], 0, 0
    for token in _TOKEN.finditer(text):
        if token[0] in _OPEN:
            depth += 1
        elif token[0] in _CLOSE:
            depth -= 1
        elif token[0] in separators and depth == 0:
            parts.append(text[start : token.start()].strip())
            start = token.end()
    return [*parts, text[start:].strip()]


def closed(inner: str) -> bool:
    """Whether no bracket closes inside that was not opened inside: not so in `(1, 2) + (3`."""
    depth = 0
    for token in _TOKEN.findall(inner):
        depth += (token in _OPEN) - (token in _CLOSE)
        if depth < 0:
            return False
    return depth == 0


def balanced(text: str) -> bool:
    """Whether every brace and bracketing of LaTeX in a text is closed."""
    depth = 0
    for token in re.findall(r"\\.|[{}]", text, re.DOTALL):
        depth += (token == "{") - (token == "}")
        if depth < 0:
            return False
    return depth == 0


def without_double_brackets(text: str) -> str:
    """((x)) as (x): a parser would take its time for each bracket."""
    partners: dict[int, int] = {}
    opened: list[int] = []
    for place, mark in enumerate(text):
        if mark == "(":
            opened.append(place)
        elif mark == ")" and opened:
            partners[opened.pop()] = place
    double = {place for place, end in partners.items() if partners.get(place + 1) == end - 1}
    gone = double | {partners[place] for place in double}
    return "".join(mark for place, mark in enumerate(text) if place not in gone)
