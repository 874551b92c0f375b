r"""Whether two answers mean the same, by rules that need no algebra; what they leave open goes to `symbolic`.

The rules, where a choice had to be made:

    numbers      exact: 0.5 is 1/2, 0.333 is not 1/3, and a rounded number is not the number
    units        a unit behind a number does not count, but two known units must be the same: 5 cm is 5, and not 5 m
    percent      50\% is 50\%, 50 (the question asked for percent) and 0.5; where the gold answer is a plain number
                 above 1, a percent sign is a unit (50\% for 50), below it a hundredth (50\% for 0.5)
    base         1010_2 is 1010 (the question named the base) and not 1010_3
    lists        values of one list in any order, each as often; a list without brackets is also the tuple in its order
    assignment   x = 2 is 2; x = 2 is not y = 2
    options      (B), B and `B: text` are the option B
    currency     the sign does not count: $12 is 12
    ratios       as written: 6:4 is not 3:2
    text         answers with words in them are compared as text, so that `2 if x > 0` has one spelling only
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from fractions import Fraction

from tinylora.answers.exact import exact
from tinylora.answers.latex import LONGEST, balanced, compact, normal
from tinylora.answers.structure import Form, assignment, split, take_apart
from tinylora.answers.words import SCALES, is_words, number_word, option, same_words, unwrapped, without_unit

Symbolic = Callable[[str, str], bool]

MOST_UNSETTLED = 24  # elements of two collections that are compared each with each

_BASE = re.compile(r"(?P<digits>[0-9A-F]++)(?: ?_ ?(?:\{ ?(?P<base>[0-9]++|\\text\{[a-z]++\}) ?\}|(?P<digit>[0-9])))?")
_SCALED = re.compile(r"(?P<value>.*[0-9]) ?(?:\\text\{)? ?(?P<word>[a-z]++)\}?")
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_ORDERED = ("()", "[]", "[)", "(]", "row", "ratio", "matrix", "determinant")


def readable(gold: str) -> bool:
    """Whether a gold answer says anything: it is not empty, not `None`, and closes its braces."""
    text = normal(gold)
    return text not in ("", "None") and balanced(text)


def equivalent(gold: str, answer: str, symbolic: Symbolic | None) -> bool | None:
    """Whether `answer` means the same as `gold`; both as written.

    `symbolic` decides for two expressions whether they are equal; without it (None) the verdict is None where it is
    needed. Without it the time is linear in the length of the texts, apart from a bounded number of comparisons.
    """
    wanted, given = normal(gold), normal(answer)
    if compact(wanted) == compact(given):
        return bool(wanted)
    if not wanted or not given or max(len(wanted), len(given)) > LONGEST:
        return False
    if _same_numbers(wanted, given):  # before commas are read as those of a list: 1,234
        return True
    return _same(take_apart(wanted), take_apart(given), symbolic)


def _same(gold: Form, answer: Form, symbolic: Symbolic | None) -> bool | None:
    if compact(gold.text) == compact(answer.text):
        return True
    if gold.kind == answer.kind == "atom":
        return _same_atoms(gold.text, answer.text, symbolic)
    named = _without_names(gold, answer)
    if named:
        return _same(*named, symbolic)
    kinds = {gold.kind, answer.kind}
    if len(kinds) == 1 and gold.kind in _ORDERED:
        return _same_in_order(gold, answer, symbolic)
    if kinds == {"list", "()"}:
        return _same_in_order(gold, answer, symbolic)
    if kinds <= {"list", "set"} or kinds == {"union"}:
        return _same_in_any_order(gold, answer, symbolic, repeated=kinds == {"list"})
    if "atom" in kinds and kinds & {"list", "ratio"}:
        return same_words(gold.text, answer.text) if is_words(gold.text) else False
    if kinds & {"()", "list", "ratio"} or any(_quantity(form.text)[0] is not None for form in (gold, answer)):
        return False
    return None if symbolic is None else symbolic(gold.text, answer.text)


def _without_names(gold: Form, answer: Form) -> tuple[Form, Form] | None:
    """Both forms after `S = (1, 2)` has lost its name, where one of them is such an assignment."""
    parts = [assignment(form.text) if form.kind == "atom" else None for form in (gold, answer)]
    if not any(parts):
        return None
    stripped = [take_apart(part[1]) if part else form for part, form in zip(parts, (gold, answer), strict=True)]
    return stripped[0], stripped[1]


def _same_in_order(gold: Form, answer: Form, symbolic: Symbolic | None) -> bool | None:
    if len(gold.parts) != len(answer.parts):
        return False
    return _all(_same(one, other, symbolic) for one, other in zip(gold.parts, answer.parts, strict=True))


def _same_in_any_order(gold: Form, answer: Form, symbolic: Symbolic | None, repeated: bool) -> bool | None:
    """Each element has its equal on the other side: one of its own, or (`repeated` False) any."""
    wanted, given = list(gold.parts), list(answer.parts)
    if repeated and len(wanted) != len(given):
        return False
    for form in gold.parts if repeated else ():  # those that are written alike first, as most are
        if form in given:
            given.remove(form)
            wanted.remove(form)
    if len(wanted) > MOST_UNSETTLED or len(given) > MOST_UNSETTLED:
        return False
    if not repeated:
        forwards = [_any(_same(one, other, symbolic) for other in given) for one in wanted]
        return _all([*forwards, *(_any(_same(one, other, symbolic) for one in wanted) for other in given)])
    undecided = False
    for one in wanted:
        verdicts = [_same(one, other, symbolic) for other in given]
        if True in verdicts:
            del given[verdicts.index(True)]
        elif None in verdicts:
            undecided = True
        else:
            return False
    return None if undecided else True


def _same_atoms(gold: str, answer: str, symbolic: Symbolic | None) -> bool | None:
    verdict = _same_numbers(gold, answer)
    if verdict is not None:
        return verdict
    (left, *right), (other_left, *other_right) = split(gold, "="), split(answer, "=")
    if right and other_right and compact(left) == compact(other_left):
        return _same(take_apart(right[-1]), take_apart(other_right[-1]), symbolic)
    named = [assignment(text) for text in (gold, answer)]
    if any(named):
        names = {compact(found[0]) for found in named if found and found[0]}
        values = [found[1] if found else text for found, text in zip(named, (gold, answer), strict=True)]
        if len(names) > 1 and not ("y" in names and any("(" in name for name in names)):  # y = 2x is f(x) = 2x
            return False
        if all(named) or not any("=" in value for value in values):
            return _same(take_apart(values[0]), take_apart(values[1]), symbolic)
    letter = option(gold)
    if letter and letter == option(answer, explained=True) and not gold.islower():
        return True
    if compact(unwrapped(gold)) == compact(unwrapped(answer)):
        return True
    values = [without_unit(text)[0] for text in (gold, answer)]
    if any(map(is_words, values)):
        return same_words(gold, answer)
    if any(exact(value) is not None for value in values) and any(map(_has_variable, values)):
        return False
    return None if symbolic is None else symbolic(*values)


def _has_variable(text: str) -> bool:
    return bool(re.search(r"(?<![a-zA-Z])[a-df-hj-zA-Z](?![a-zA-Z])", _COMMAND.sub(" ", text)))


def _same_numbers(gold: str, answer: str) -> bool | None:
    """The verdict on two numbers, each with or without a unit; None where one of them is no plain number."""
    (value, unit, percent), (other, other_unit, other_percent) = _quantity(gold), _quantity(answer)
    if unit and other_unit and unit != other_unit:
        return False
    if value is None or other is None:
        return _same_in_base(gold, answer)
    if percent == other_percent:
        return value == other
    if percent:
        return other in (value, value / 100)
    return value == other / 100 or (abs(value) > 1 and value == other)


def _same_in_base(gold: str, answer: str) -> bool | None:
    found = [_BASE.fullmatch(text) for text in (gold, answer)]
    if not (found[0] and found[1]):
        return None
    digits = [match["digits"].lstrip("0") for match in found if match]
    bases = [match["base"] or match["digit"] for match in found if match]
    bases = [str(number_word(base) or base) if base else None for base in bases]
    return digits[0] == digits[1] and bases[1] in (None, bases[0]) if bases[0] else None


@functools.lru_cache(maxsize=1024)
def _quantity(text: str) -> tuple[Fraction | None, str, bool]:
    value, unit, percent = without_unit(text)
    scaled = _SCALED.fullmatch(value)
    scale = SCALES.get(scaled["word"]) if scaled else None
    number = exact(scaled["value"] if scaled and scale else value)
    if number is not None and scale:
        number *= scale
    word = number_word(value) if number is None else None
    return (Fraction(word) if word is not None else number), unit, percent


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    """Three-valued and: False beats None beats True."""
    found = list(verdicts)
    return False if False in found else None if None in found else True


def _any(verdicts: Iterable[bool | None]) -> bool | None:
    found = list(verdicts)
    return True if True in found else None if None in found else False
