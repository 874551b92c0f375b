r"""Whether two answers mean the same, by rules that need no algebra; what they leave open goes to `symbolic`.

The rules, where a choice had to be made (those of numbers stand in `quantities`):

    lists        values of one list in any order, each as often; a list without brackets is also the tuple in its order
    assignment   x = 2 is 2; x = 2 is not y = 2
    quantity     what is no name can have a value, too: \sin A = 1/2 and x + y = 5 are 1/2 and 5. An equation has none:
                 x + 3 = 5 is not 5, 0 = x^2 - 4 is not x^2 - 4; nor has a gold answer x + y = 5, which may be a line
    rounding     \sqrt{2} \approx 1.41 is \sqrt{2}; it is 1.41 for a gold answer that says 1.41
    options      (B), B and `B: text` are the option B
    currency     the sign does not count: $12 is 12
    ratios       as written: 6:4 is not 3:2
    text         answers with words in them are compared as text, so that `2 if x > 0` has one spelling only
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction
from typing import Protocol

from tinylora.answers import sampling
from tinylora.answers.brackets import balanced, split
from tinylora.answers.exact import exact
from tinylora.answers.latex import LONGEST, compact, normal
from tinylora.answers.naming import assignment, before_rounding, quantity_value
from tinylora.answers.quantities import quantity, same_numbers
from tinylora.answers.structure import INTERVALS, Form, has_relation, take_apart
from tinylora.answers.words import chosen_option, is_words, option, same_words, unwrapped, without_unit

MOST_UNSETTLED = 24  # elements of two collections that are compared each with each

_BINDS = re.compile(r"\\(?:sum|prod|int|lim)(?![a-z])")
_VARIABLE = re.compile(r"(?<![a-zA-Z])[a-df-hj-zA-Z](?![a-zA-Z])")
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_ORDERED = (*INTERVALS, "row", "ratio", "matrix", "determinant")
_DECIMALS = re.compile(r"[0-9]\.([0-9]{1,30})")
_SET_OPERATION = re.compile(r"\\(?:cap|cup|setminus)(?![a-z])")


class Symbolic(Protocol):
    """Algebra: whether two normal texts are equal, up to a relative `tolerance`."""

    def __call__(self, gold: str, answer: str, tolerance: float) -> bool:
        """The verdict."""


def readable(gold: str) -> bool:
    """Whether a gold answer says anything: it is not empty, not `None`, and closes its braces."""
    text = normal(gold)
    return text not in ("", "None") and balanced(text)


def equivalent(gold: str, answer: str, symbolic: Symbolic | None, tolerance: float = 0.0) -> bool | None:
    """Whether `answer` means the same as `gold`; both as written.

    `symbolic` decides for two expressions whether they are equal; without it (None) the verdict is None where it is
    needed. Without it the time is linear in the length of the texts, apart from a bounded number of comparisons.
    `tolerance` is the relative distance at which a number still counts as the gold answer.
    """
    wanted, given = normal(gold), normal(answer)
    if compact(wanted) == compact(given):
        return bool(wanted)
    if not wanted or not given or max(len(wanted), len(given)) > LONGEST:
        return False
    if same_numbers(wanted, given, tolerance):  # before commas are read as those of a list: 1,234
        return True
    letter = option(wanted)
    if letter and not wanted.islower() and chosen_option(given) == letter:
        return True
    return _Comparison(symbolic, tolerance).rounded(wanted, given)


class _Comparison:
    """The comparison of two answers: what decides where rules end, and how near is near enough."""

    def __init__(self, symbolic: Symbolic | None, tolerance: float) -> None:
        self._symbolic, self._tolerance = symbolic, tolerance

    def rounded(self, gold: str, answer: str) -> bool | None:
        """The verdict on two texts either of which may end in its decimal, `\\approx 1.41`."""
        (exact_gold, decimal), (exact_answer, other) = before_rounding(gold), before_rounding(answer)
        verdict = self.same(take_apart(exact_gold), take_apart(exact_answer))
        if verdict:
            return True
        if decimal and not other and same_numbers(decimal, exact_answer):
            return True
        if other and not decimal and same_numbers(exact_gold, other):
            return self._is_rounding(exact_answer, other)
        return verdict

    def _is_rounding(self, text: str, decimal: str) -> bool | None:
        """Whether a decimal is what a text comes to: an answer may not give two numbers."""
        text = text.rpartition("=")[2].strip()
        value, rounded = exact(text), quantity(decimal)[0]
        digits = _DECIMALS.search(decimal)
        half = Fraction(1, 2 * 10 ** (len(digits[1]) if digits else 0))  # of a unit of its last digit
        if not rounded or rounded.denominator == 1:  # 5.2 \\approx 5 is no 5
            return False
        if value is not None:
            return abs(value - rounded) <= half
        return self._ask(decimal, text, float(half / abs(rounded)))

    def _ask(self, gold: str, answer: str, tolerance: float | None = None) -> bool | None:
        """The verdict of algebra: at sample points, or else by the packages for it, where they may be asked."""
        near = self._tolerance if tolerance is None else tolerance
        verdict = sampling.same(gold, answer, near)
        return self._symbolic(gold, answer, near) if verdict is None and self._symbolic else verdict

    def same(self, gold: Form, answer: Form) -> bool | None:
        """The verdict on two forms."""
        if compact(gold.text) == compact(answer.text):
            return True
        if gold.kind == answer.kind == "atom":
            return self._same_atoms(gold.text, answer.text)
        named = _without_names(gold, answer)
        if named:
            return self.same(*named)
        kinds = {gold.kind, answer.kind}
        if len(kinds) == 1 and gold.kind in _ORDERED:
            return self._same_in_order(gold, answer)
        if kinds == {"list", "()"}:
            return self._same_in_order(gold, answer)
        if kinds <= {"list", "set"} or (kinds == {"union"} and not _SET_OPERATION.search(gold.text + answer.text)):
            return self._same_in_any_order(gold, answer, repeated=kinds == {"list"})
        return self._same_kinds_of_set(gold, answer)

    def _same_kinds_of_set(self, gold: Form, answer: Form) -> bool | None:
        """The verdict on two forms of different kinds, or on two unions."""
        kinds = {gold.kind, answer.kind}
        if kinds <= set(INTERVALS):  # [0, 1) and [0, 1]
            return False
        if kinds == {"union"} and self._same_in_any_order(gold, answer, repeated=False):
            return True
        if _are_sets(gold, answer):
            return self._ask(gold.text, answer.text)
        if "atom" in kinds and kinds & {"list", "ratio"}:
            return same_words(gold.text, answer.text) if is_words(gold.text) else False
        if kinds & {"()", "list", "ratio"} or any(quantity(form.text)[0] is not None for form in (gold, answer)):
            return False
        return self._ask(gold.text, answer.text)

    def _same_in_order(self, gold: Form, answer: Form) -> bool | None:
        if len(gold.parts) != len(answer.parts):
            return False
        return _all(self.same(one, other) for one, other in zip(gold.parts, answer.parts, strict=True))

    def _same_in_any_order(self, gold: Form, answer: Form, repeated: bool) -> bool | None:
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
            forwards = [_any(self.same(one, other) for other in given) for one in wanted]
            return _all([*forwards, *(_any(self.same(one, other) for one in wanted) for other in given)])
        undecided = False
        for one in wanted:
            verdicts = [self.same(one, other) for other in given]
            if True in verdicts:
                del given[verdicts.index(True)]
            elif None in verdicts:
                undecided = True
            else:
                return False
        return None if undecided else True

    def _same_atoms(self, gold: str, answer: str) -> bool | None:
        verdict = same_numbers(gold, answer, self._tolerance)
        if verdict is not None:
            return verdict
        if (named := self._same_named(gold, answer)) is not None:
            return named[0]
        letter = option(gold)
        if letter and not gold.islower() and letter == chosen_option(answer):
            return True
        if compact(unwrapped(gold)) == compact(unwrapped(answer)):
            return True
        values = [without_unit(text)[0] for text in (gold, answer)]
        if any(map(is_words, values)):
            return same_words(gold, answer)
        if any(exact(value) is not None for value in values) and any(map(_has_variable, values)):
            return False
        return self._ask(values[0], values[1])

    def _same_named(self, gold: str, answer: str) -> tuple[bool | None] | None:
        """The verdict on two texts of which one is `x = 2` or the like, in a tuple; None where no name decides."""
        (left, *right), (other_left, *other_right) = split(gold, "="), split(answer, "=")
        if right and other_right and compact(left) == compact(other_left):
            return (self.same(take_apart(right[-1]), take_apart(other_right[-1])),)
        named = [assignment(text) for text in (gold, answer)]
        if any(named):
            names = {compact(found[0]) for found in named if found and found[0]}
            values = [found[1] if found else text for found, text in zip(named, (gold, answer), strict=True)]
            if len(names) > 1 and not ("y" in names and any("(" in name for name in names)):  # y = 2x is f(x) = 2x
                return (False,)
            if all(named) or not any("=" in value for value in values):
                return (self.same(take_apart(values[0]), take_apart(values[1])),)
        if bool(right) is not bool(other_right):
            text, plain, of_gold = (gold, answer, True) if right else (answer, gold, False)
            value = quantity_value(text, of_gold)
            if value is None or has_relation(plain):
                return (False,) if not is_words(plain) else None
            forms = (take_apart(value), take_apart(plain))
            return (self.same(*(forms if of_gold else forms[::-1])),)
        return None


def _without_names(gold: Form, answer: Form) -> tuple[Form, Form] | None:
    """Both forms after `S = (1, 2)` has lost its name, where one of them is such an assignment."""
    values = [_value(form, other, form is gold) for form, other in ((gold, answer), (answer, gold))]
    if not any(values):
        return None
    stripped = [take_apart(value) if value else form for value, form in zip(values, (gold, answer), strict=True)]
    return stripped[0], stripped[1]


def _value(form: Form, other: Form, of_gold: bool) -> str | None:
    """What a form is the value of, or a quantity's, where the other form is a value alone."""
    if form.kind != "atom":
        return None
    if named := assignment(form.text):
        return named[1]
    return quantity_value(form.text, of_gold) if "=" in form.text and "=" not in other.text else None


def _are_sets(gold: Form, answer: Form) -> bool:
    """Whether two forms are sets of numbers, at least one of which must be worked out: 2x < 2, [0, 2] \\cap (1, 3)."""
    sets = [
        form.kind in (*INTERVALS, "union", "set") or has_relation(form.text) or bool(_SET_OPERATION.search(form.text))
        for form in (gold, answer)
    ]
    worked_out = [form.kind in ("atom", "union") for form in (gold, answer)]
    return all(sets) and any(worked_out)


def _has_variable(text: str) -> bool:
    """Whether a text has a variable that no sum, integral or limit binds."""
    return not _BINDS.search(text) and bool(
        re.search(r"(?<![a-zA-Z])[a-df-hj-zA-Z](?![a-zA-Z])", _COMMAND.sub(" ", text))
    )


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    """Three-valued and: False beats None beats True."""
    found = list(verdicts)
    return False if False in found else None if None in found else True


def _any(verdicts: Iterable[bool | None]) -> bool | None:
    found = list(verdicts)
    return True if True in found else None if None in found else False
