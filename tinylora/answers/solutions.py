r"""Sets of real numbers that must be worked out: `2x < 2` is `x < 1`, `[0, 2] \cap (1, 3)` is `(1, 2]`.

The outer form is ours (`structure`), since the parser reads `(1, 3)` as it likes; what the sets are, SymPy works out.
In a worker process alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import sympy
from sympy.core.relational import Relational

from tinylora.answers.brackets import split
from tinylora.answers.structure import INTERVALS, Form, has_relation, take_apart

HIGHEST_DEGREE = 4  # of a polynomial inequality that is solved
_OPERATIONS = {"\\cup": sympy.Union, "\\cap": sympy.Intersection, "\\setminus": sympy.Complement}

Read = Callable[[str], sympy.Basic | None]


def same_sets(gold: str, answer: str, read: Read) -> bool | None:
    """Whether two normal texts are the same set of numbers; None where they are none, or it is not known."""
    if not any(has_relation(text) or any(mark in text for mark in _OPERATIONS) for text in (gold, answer)):
        return None
    sets = [_set_of(take_apart(text), read) for text in (gold, answer)]
    if sets[0] is None or sets[1] is None:
        return None
    try:
        return sets[0] == sets[1] or bool(sympy.SymmetricDifference(*sets) == sympy.EmptySet)
    except (TypeError, ValueError, NotImplementedError):
        return None


def _set_of(form: Form, read: Read) -> sympy.Set | None:
    if form.kind in INTERVALS and len(form.parts) == 2:
        ends = [read(part.text) for part in form.parts]
        if not all(isinstance(end, sympy.Expr) and end.is_extended_real and not end.free_symbols for end in ends):
            return None
        return sympy.Interval(*map(_evaluated, ends), form.kind[0] == "(", form.kind[1] == ")")
    if form.kind == "union":
        return _combined(sympy.Union, [_set_of(part, read) for part in form.parts])
    if form.kind == "set":
        elements = [read(part.text) for part in form.parts]
        return None if None in elements else sympy.FiniteSet(*map(_evaluated, elements))
    if form.kind != "atom":
        return None
    for mark, operation in _OPERATIONS.items():
        parts = split(form.text, mark)
        if len(parts) > 1:
            return _combined(operation, [_set_of(take_apart(part), read) for part in parts])
    if form.text.strip() == "\\emptyset":
        return sympy.EmptySet
    return _solutions(form.text, read) if has_relation(form.text) else None


def _combined(operation: type[sympy.Set], parts: Iterable[sympy.Set | None]) -> sympy.Set | None:
    known = list(parts)
    if None in known or (operation is sympy.Complement and len(known) != 2):
        return None
    return operation(*known)


def _solutions(text: str, read: Read) -> sympy.Set | None:
    """Where an inequality, or a chain of them, holds: of polynomials in one variable."""
    relation = read(text)
    relations = [relation] if isinstance(relation, Relational) else list(getattr(relation, "args", ()))
    if not relations or not all(isinstance(each, Relational) for each in relations):
        return None
    names = {symbol for each in relations for symbol in each.free_symbols}
    if len(names) != 1:
        return None
    (name,) = names
    real = sympy.Symbol("x", real=True)
    found = []
    for each in relations:
        difference = _evaluated(each.lhs - each.rhs).subs(name, real)
        plain = difference.replace(sympy.Abs, lambda inner: inner)  # |x - 1| < 2, too
        if not plain.is_polynomial(real) or not 1 <= sympy.degree(plain, real) <= HIGHEST_DEGREE:
            return None
        found.append(sympy.solve_univariate_inequality(each.func(difference, 0), real, relational=False))
    return sympy.Intersection(*found)


def _evaluated(expression: sympy.Expr) -> sympy.Expr:
    """An expression that the parser left as it was written, worked out as SymPy does by itself."""
    if not expression.args:
        return expression
    return expression.func(*map(_evaluated, expression.args))
