r"""Where the final answer of a completion stands.

Marked forms are `\boxed{...}` (or `\fbox{...}`), a line `#### ...`, and "the answer is ..." or "answer: ...". What a
model thinks aloud between `<think>` and `</think>` is never its answer. Only the last `TAIL` characters are searched,
and every search takes linear time.

    asked      in the form that a prompt asks for: the last of its marks
    anywhere   the last mark of any form, or else the last formula or number

What a mark holds may be said in several ways, `x = 5` and `she has 5 apples`: these are readings of one answer. A
reading is a whole expression, and a mark that cannot be read is no reason to look further up: the answer was given.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tinylora.answers.prose import Piece, joined, pieces
from tinylora.answers.words import chosen_option
from tinylora.settings.config import Template

TAIL = 4000  # characters of a completion that are searched: a final answer stands at the end
BESIDE = 40  # characters beside a value that can make it another: half of 18
SHORT = 200  # characters of a text that is nothing but its answer

_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,3}(?:\{|([-+]?[0-9]++(?:\.[0-9]++)?))")
_BOX_OR_BRACE = re.compile(_BOX.pattern + r"|\\.|[{}]", re.DOTALL)
_HASH = re.compile(r"#{4,}([^\n#][^\n]*+|)")
_STATED = re.compile(
    r"\banswers?(?:[ \t][^\n.:=]{0,60}?)?[\"'*_]{0,3}"
    r"(?:\b(?:is|are|be|equals)\b(?:[ \t]{0,3}:)?|[*_]{0,3}[:=\uff1a])[\s*_\"']{0,6}([^\n]*+)"
    r"|\u7b54\u6848(?:\u662f|\u4e3a|[:\uff1a])\s*([^\n]*+)|<answer>\s*([^<]*+)",
    re.IGNORECASE,
)
_CALCULATOR_NOTE = re.compile(r"<<[^<>\n]*>>(?=\s?-?\$?[0-9])")
_SENTENCE_END = re.compile(r"(?<!\bRs)(?<!\bsq)[.?\u3002](?=[\s*]|\Z)|(?<![0-9)}\\])!(?=[\s*]|\Z)|</|\n")
_REASON = re.compile(
    r"[,;]?\s(?:because|since|as|which|where|when|so)\s.*|,? (?:and )?(?:not|rather than|instead of) .*"
    r"|, (?:out of|and not) .*"
    r"|(?<=[0-9$}]) \((?=[^()]*[a-z]{3}).*|(?<=[0-9$}]) \([^()]*\)\Z",
    re.DOTALL,
)
_LEADING = re.compile(
    r"(?:(?:that|therefore|thus|hence|simply|so|then|exactly|precisely|just|equal to),?\s+)+", re.IGNORECASE
)
_ABOUT = re.compile(r"(?:about|approximately|roughly|around|nearly|almost)\s+", re.IGNORECASE)
_HEDGED = re.compile(
    r"\b(?:not|no|never|neither|nor|cannot|\w+n't|unknown|undetermined|less|more than|fewer|greater"
    r"|at least|at most|between|wrong|incorrect|either|(?<!left )over|under|above|below|up to|minus|negative|plus"
    r"|times|divided|mod|log|half|twice|double|triple|thirds?|quarters?|squared|cubed|maybe|perhaps)\b",
    re.IGNORECASE,
)
_CHANGED_BEFORE = re.compile(rf"{_HEDGED.pattern}(?:[ ](?!is\b|are\b|was\b|were\b)[a-z]+){{0,2}}[ ]*\Z", re.IGNORECASE)
_CHANGED_AFTER = re.compile(r"\s+(?:squared|cubed|minus|plus|times(?=\s+[^\sa-z])|divided by|mod)\b", re.IGNORECASE)
_CONCLUDES = re.compile(
    r"\b(?:so|thus|therefore|hence|then|giving|gives|leaving|leaves|which|total|answer|is|are|was|were|and|but|or)\b|[.;\n]",
    re.IGNORECASE,
)
_CHECKED = re.compile(r"\b(?:check|verify|confirm|test)\w*\s+(?:\w+\s+)?\Z", re.IGNORECASE)
_NEXT_QUESTION = re.compile(
    r"\n[ \t*#]*(?:Question|Q|Human|User|Problem|Instruction)[ \t]?[0-9]{0,3}[*]*:", re.IGNORECASE
)
_IS_THE_ANSWER = re.compile(
    r"(?P<value>.*?),? is (?:the|my|our) (?:final |correct |right )?(?:answer|result)\b.*", re.DOTALL
)
_COPULA = re.compile(r"\b(?:is|are|was|were|be|equals|comes to|remains?|totals?)\b", re.IGNORECASE)
_ANSWER_HEADING = re.compile(r"(?:the )?(?:final )?(?:answer)?", re.IGNORECASE)
_BETWEEN_BOXES = re.compile(r"[$\s]*(?:,|;|,?\s*(?:and|or)|\\text\{\s*(?:and|or)\s*\})[$\s]*")
_LONE_NAME = re.compile(r"\\?[a-zA-Z]+(?:_\w)?|[^\w\\]*")
_VALUE = re.compile(r"[-+(]?\s?(?:\\?[$\u20ac\u00a3]\s?)?[-+]?(?:[0-9.]|\\(?!text)[a-zA-Z(\[]|[A-J](?![\w'])|[a-z] ?=)")


@dataclass(frozen=True)
class Mark:
    """A place where a text says what its answer is; `readings` are how that can be understood, likeliest first."""

    start: int
    readings: tuple[str, ...]
    is_heading: bool = False
    """Whether it is a title of what follows, rather than an answer."""


def spoken(completion: str) -> str:
    """The end of what a completion says after its thinking; empty where it never stopped thinking.

    Without the notes of GSM8K's calculator, <<10+8=18>>18.
    """
    said = completion[completion.rfind("</think>") + len("</think>") :] if "</think>" in completion else completion
    return _CALCULATOR_NOTE.sub("", said.partition("<think>")[0][-TAIL:])


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


def final_answers(completion: str, template: Template) -> tuple[list[str], list[str]]:
    """The readings of the final answer in the asked-for form, and of that in any form; likeliest first, empty: none.

    For answers of any kind, words and grids too, which their own check compares to the letter: so the last line is read
    as well, and of `5 + 3 = 8` what it comes to. `plain` asks for nothing but the answer: it is all that is said, or
    what is read in it as the answer.
    """
    text = spoken(completion).strip()
    lines = [line.strip() for line in _before_next_question(text).splitlines()[-1:]]
    marked = asked(text, template) or asked(text, Template.plain)
    loose = marked or [*lines, *anywhere(text)]
    strict = [text, *loose] if template is Template.plain and text else asked(text, template)
    return _with_results(strict), _with_results(loose)


def _with_results(readings: list[str]) -> list[str]:
    """Readings, each once, and what stands behind the last `=` of each."""
    results = [result for reading in readings if (result := reading.rpartition("=")[2].strip(" $."))]
    return list(dict.fromkeys([*readings, *results]))


def asked(text: str, template: Template) -> list[str]:
    """The readings of the final answer in the asked-for format, likeliest first; empty where there is none.

    `plain` asks for none: there it is the last mark of any.
    """
    text = _before_next_question(text)
    if template is Template.plain:
        mark = last_mark(text)
    else:
        mark = _hashed(text) if template is Template.hash else _boxed(text)
    return list(mark.readings) if mark and not mark.is_heading else []


def anywhere(text: str) -> list[str]:
    """The readings of the last mark of any form, or else of the last formula or number."""
    text = _before_next_question(text)
    mark = last_mark(text)
    if mark is None:
        return _last_piece(text)
    return _last_piece(text[mark.start :].partition("\n")[2]) if mark.is_heading else list(mark.readings)


def _before_next_question(text: str) -> str:
    """A text up to where it goes on with a question of its own, as models do that do not stop: its answer is given."""
    found = _NEXT_QUESTION.search(text)
    return text[: found.start()] if found and last_mark(text[: found.start()]) else text


def last_mark(text: str) -> Mark | None:
    """The last mark of any form.

    A sentence with the word "answer" behind a box or a `####` line counts where it begins with a value: "the answer is
    4", and not "the answer is reasonable".
    """
    placed = [mark for mark in (_hashed(text), _boxed(text)) if mark]
    last = max(placed, key=lambda mark: mark.start, default=None)
    said = _stated(text)
    if said is None or (last and (said.start < last.start or not _VALUE.match(said.readings[0]))):
        return last
    return said


def _stated(text: str) -> Mark | None:
    """What stands behind the last "answer is" or "answer:", to the end of the sentence or line."""
    found = None
    for each in _STATED.finditer(text):
        said = next(filter(None, each.groups()), "").strip(" *_$.")
        if said and not _CHECKED.search(text[max(0, each.start() - BESIDE) : each.start()]):
            found = each
    if found is None:
        return None
    sentence = _SENTENCE_END.split(next(filter(None, found.groups())).strip(), maxsplit=1)[0]
    read = _readings(sentence.strip().removeprefix(":"))
    return Mark(found.start(), tuple(read)) if read else None


def _hashed(text: str) -> Mark | None:
    """The last `####` line that holds something, or the line below it where it is a mere title, "Final answer"."""
    lines = [(found.start(), found.end(), found[1].strip(" \t*:#")) for found in _HASH.finditer(text)]
    for start, end, line in reversed(lines[-200:]):
        below = next(filter(None, (each.strip() for each in text[end : end + TAIL].split("\n")[:4])), "")
        if _ANSWER_HEADING.fullmatch(line):
            line = "" if below.startswith("#") else below
        elif below and line[:1].isalpha() and "=" not in line and not _STATED.match(line) and not _tells_alone(line):
            return Mark(start, (line,), is_heading=True)
        if line.strip("$ ."):
            return Mark(start, tuple(_readings(_first_sentence(line))))
    return None


def _first_sentence(line: str) -> str:
    """The first sentence of a line; all of it where what follows holds another value: 18. No, 20."""
    first, *others = _SENTENCE_END.split(line + " ", maxsplit=1)
    return line if any(pieces(other) for other in others) else first


def _tells_alone(line: str) -> bool:
    """Whether a line is one value with at most two words beside it, `x is 5`, and no title."""
    return len(joined(line, pieces(line))) == 1 and len(line.split()) <= 3 and not line.lower().startswith(_TITLES)


_TITLES = ("step", "part", "case", "question", "problem", "example", "section", "chapter", "note")


def _boxed(text: str) -> Mark | None:
    r"""The last box; the last boxes, where an `and` or a comma joins them: `\boxed{1} and \boxed{2}`."""
    found = boxes(text)
    if not found:
        return None
    first, contents = found[-1][0], [found[-1][2]]
    for (start, end, content), (following, _, _) in zip(found[-2::-1], found[:0:-1], strict=True):
        if following - end > 40 or not _BETWEEN_BOXES.fullmatch(text[end:following]):
            break
        first = start
        contents.insert(0, content)
    return Mark(first, (", ".join(contents),))


def _boxed_readings(line: str) -> tuple[str, ...]:
    mark = _boxed(line)
    return mark.readings if mark else ()


def _readings(sentence: str) -> list[str]:
    """How what was said of the answer can be understood: as it stands, without its reason, or as the value in it.

    The value in it is read where there is one alone, and nothing denies it or makes it a bound.
    """
    sentence = _LEADING.sub("", sentence.strip(), count=1) if _LEADING.match(sentence.strip()) else sentence.strip()
    if boxed := _boxed_readings(sentence):
        return list(boxed)
    said = _REASON.sub("", sentence).strip()
    if answered := _IS_THE_ANSWER.fullmatch(said):
        said = answered["value"]
    readings = [sentence, said]
    if not _HEDGED.search(said):
        readings.append(_ABOUT.sub("", said, count=1) if _ABOUT.match(said) else said)
        readings += _values_in(said)
    return list(dict.fromkeys(reading for reading in readings if reading))


def _values_in(sentence: str) -> list[str]:
    """The only value that a sentence holds, or that stands behind its last verb: `the value of $n$ is $34$`."""
    found = joined(sentence, pieces(sentence))
    verb = max((each.end() for each in _COPULA.finditer(sentence)), default=0)
    behind = [piece for piece in found if piece.start >= verb]
    chosen = behind if verb and behind else _telling(found)
    return [chosen[0].text] if len(chosen) == 1 else []


def _last_piece(text: str) -> list[str]:
    """The last value of a text without marks; or all of a short one that begins with an option: `A. Since B is not`.

    None where words beside the value make it another: not 18, half of 18.
    """
    found = _telling(joined(text, pieces(text)))
    chosen = [text.strip()] if len(text) < SHORT and chosen_option(text.strip()) else []
    if not found:
        return chosen
    last = _result(text, found)
    before, after = text[max(0, last.start - BESIDE) : last.start], text[last.end : last.end + BESIDE]
    if _CHANGED_BEFORE.search(before) or _CHANGED_AFTER.match(after):
        return chosen
    return [*chosen, last.text]


def _result(text: str, found: list[Piece]) -> Piece:
    """The last piece, or the result of a calculation before it in the same clause: `12 - 4 = 8 rows of 5 stars`."""
    for piece in reversed(found[-4:]):
        if _CONCLUDES.search(text[piece.end : found[-1].end]) and piece is not found[-1]:
            break
        if "=" in piece.text or text[: piece.start].rstrip(" $").endswith("="):
            return piece
    return found[-1]


def _telling(found: list[Piece]) -> list[Piece]:
    """The pieces, without lone names where there are others: the 34 of "34 is the largest value of $n$"."""
    return [piece for piece in found if not _LONE_NAME.fullmatch(piece.text)] or found
