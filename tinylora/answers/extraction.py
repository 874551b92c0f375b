r"""Where the final answer of a completion stands.

Marked forms are `\boxed{...}` (or `\fbox{...}`), a line `#### ...`, and "the answer is ..." or "answer: ...". What a
model thinks aloud between `<think>` and `</think>` is never its answer. Only the last `TAIL` characters are searched,
and every search takes linear time.
"""

from __future__ import annotations

import re

from tinylora.settings.config import Template

TAIL = 4000  # characters of a completion that are searched: a final answer stands at the end

_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,3}(?:\{|([-+]?[0-9]++(?:\.[0-9]++)?))")
_BOX_OR_BRACE = re.compile(_BOX.pattern + r"|\\.|[{}]", re.DOTALL)
_HASH = re.compile(r"####[ \t]*+([^\n]*+)")
_STATED = re.compile(
    r"\banswers?(?:[ \t][^\n.:=]{0,60}?)?"
    r"(?:\b(?:is|are|be|equals)\b(?:[ \t]{0,3}:)?|[*_]{0,3}[:=])[\s*_]{0,6}([^\n]*+)",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?](?=[\s*]|\Z)")
_REASON = re.compile(r"[,;]?\s(?:because|since|as|which|where|when|so)\s.*", re.DOTALL)
_SPAN = re.compile(r"\$\$?([^$]++)\$|\\\(((?:[^\\]|\\[^)])*+)\\\)|\\\[((?:[^\\]|\\[^\]])*+)\\\]")
_LAST_RESORT = re.compile(
    _SPAN.pattern
    + r"|(?:(?<![\w)])[-\u2212])?\\?\$?(?<![\w.])(?:[0-9]++(?:,[0-9]{3}(?![0-9]))*+(?:\.[0-9]++)?|\.[0-9]++)"
    r"(?:[eE][-+]?[0-9]++|/[0-9]++)?%?"
)
_BETWEEN_BOXES = re.compile(r"[^.!?\n]{0,40}\Z")


def spoken(completion: str) -> str:
    """The end of what a completion says after its thinking; empty where it never stopped thinking."""
    said = completion[completion.rfind("</think>") + len("</think>") :] if "</think>" in completion else completion
    return said.partition("<think>")[0][-TAIL:] if "<think>" in said else said[-TAIL:]


def boxes(text: str) -> list[tuple[int, int, str]]:
    r"""Start, end and content of each outermost `\boxed{...}` that is closed and not empty, in order."""
    open_braces: list[re.Match[str] | None] = []
    found: list[tuple[int, int, str]] = []
    for token in _BOX_OR_BRACE.finditer(text):
        if token[1]:
            found.append((token.start(), token.end(), token[1]))
        elif token[0].endswith("{") and (token[0] == "{" or len(token[0]) > 2):
            open_braces.append(None if token[0] == "{" else token)
        elif token[0] == "}" and open_braces:
            opening = open_braces.pop()
            if opening is None:
                continue
            while found and found[-1][0] > opening.start():  # what stands inside is part of this box
                found.pop()
            found.append((opening.start(), token.end(), text[opening.end() : token.start()]))
    return [box for box in found if box[2].strip()]


def last_box(text: str) -> str | None:
    r"""The content of the last `\boxed{...}` of a text that is closed and not empty."""
    found = boxes(text)
    return found[-1][2].strip() if found else None


def final_texts(completion: str, template: Template) -> tuple[str | None, str | None]:
    """The likeliest final answer in the asked-for format, and in any or else the last line; None where there is none.

    For answers of any kind, words and grids too: `plain` asks for nothing but the answer, so there it is all that is
    said.
    """
    text = spoken(completion).strip()
    whole = [text] if text else []
    strict = whole if template is Template.plain else marked(text, template)
    flexible = (
        marked(text, template) or marked(text, Template.plain) or [line.strip() for line in text.splitlines()[-1:]]
    )
    return next(iter(strict), None), next(iter(flexible), None)


def marked(text: str, template: Template) -> list[str]:
    """The readings of the final answer in the asked-for format, likeliest first; empty where there is none.

    Two readings only where the last sentence has several boxes: the last one, and all of them as a list, for a gold
    answer that lists several values.
    """
    if template is Template.hash:
        return _hashed(text)
    if template is Template.boxed:
        return _boxed(text)
    last_hash = max((line.start() for line in _HASH.finditer(text)), default=-1)
    last_box = max((start for start, _, _ in boxes(text)), default=-1)
    forms = (_hashed, _boxed) if last_hash > last_box else (_boxed, _hashed)
    return forms[0](text) or forms[1](text) or stated(text)


def anywhere(text: str, template: Template) -> list[str]:
    """The readings in the asked-for format, or else in any marked form, or else the last formula or number."""
    return marked(text, template) or marked(text, Template.plain) or _last_resort(text)


def stated(text: str) -> list[str]:
    """What stands behind the last "answer is" or "answer:", to the end of the sentence or line."""
    sentences = [found[1] for found in _STATED.finditer(text) if found[1].strip(" *_$.")]
    if not sentences:
        return []
    sentence = _SENTENCE_END.split(sentences[-1], maxsplit=1)[0]
    sentence = re.sub(r"\A(?:that|therefore|thus|simply)\s", "", sentence.strip().removeprefix(":").strip())
    readings = [sentence, _REASON.sub("", sentence)]
    spans = [next(part for part in found.groups() if part) for found in _SPAN.finditer(sentence) if any(found.groups())]
    if len(spans) == 1:
        readings.append(spans[0])
    return list(dict.fromkeys(reading for reading in readings if reading))


def _hashed(text: str) -> list[str]:
    lines = [line.strip() for line in _HASH.findall(text) if line.strip()]
    return [*lines[-1:], *stated(lines[-1])] if lines else []


def _boxed(text: str) -> list[str]:
    found = boxes(text)
    joined = [content for _, _, content in found[-1:]]
    for (_, end, content), (start, _, _) in zip(found[-2::-1], found[:0:-1], strict=True):
        if not _BETWEEN_BOXES.match(text[end:start]):
            break
        joined.insert(0, content)
    return joined[-1:] if len(joined) < 2 else [joined[-1], ", ".join(joined)]


def _last_resort(text: str) -> list[str]:
    last = None
    for found in _LAST_RESORT.finditer(text):
        last = found
    if last is None:
        return []
    span = next((part for part in last.groups() if part), last[0])
    # At the end of a calculation stands its result: `2 + 3 = 5`.
    return list(dict.fromkeys([span, span.rpartition("=")[2]]))
