r"""How large an expression gets, from its tree alone: whether it may be evaluated at all.

A short text can name a number that fills the memory: `9^{9^{9^9}}`, `\binom{10^9}{5 \cdot 10^8}`, `1000000!!`. Work is
bounded here before any of it is done; a time limit is only what stands behind that. In a worker process alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import sympy

MOST_BITS = 1 << 17  # of a number, about 39,000 digits: 2004! has 19,000 bits
MOST_NODES = 2000  # of a tree
DEEPEST = 8  # functions in functions, powers in exponents as two: SymPy asks each for all inside it
MOST_TERMS = 1000  # of a finite sum or product
_HUGE = math.inf


def manageable(expression: sympy.Basic, values: Mapping[sympy.Basic, sympy.Rational] | None = None) -> bool:
    """Whether an expression stays below the bounds; `values` are what its symbols stand for, about 1000 without."""
    nodes = 0
    stack = [(expression, 0)]
    while stack:
        node, depth = stack.pop()
        nodes += 1
        depth += isinstance(node, sympy.Function) + 2 * (isinstance(node, sympy.Pow) and not node.exp.is_Rational)
        if nodes > MOST_NODES or depth > DEEPEST:
            return False
        stack += [(each, depth) for each in node.args if isinstance(each, sympy.Basic)]
    return _bits(expression, values or {}) <= MOST_BITS


def _bits(node: sympy.Basic, values: Mapping[sympy.Basic, sympy.Rational]) -> float:
    """About how many bits a node takes when it is evaluated exactly, or its exponent when it is not."""
    if isinstance(node, sympy.Symbol):
        node = values.get(node, sympy.Integer(1000))
    if isinstance(node, sympy.Rational):
        return max(int(node.p).bit_length(), int(node.q).bit_length(), 1)
    inner = [_bits(each, values) for each in node.args if isinstance(each, sympy.Basic)]
    if not inner:
        return 2
    if isinstance(node, (sympy.Pow, sympy.exp)):
        base, exponent = (inner[0], node.args[1]) if isinstance(node, sympy.Pow) else (2.0, node.args[0])
        one = abs(node.args[0]) in (0, 1) if isinstance(node, sympy.Pow) else False
        return max(inner) if one else max(*inner, base * _magnitude(exponent, inner[-1], values))
    if isinstance(node, (sympy.factorial, sympy.gamma, sympy.binomial, sympy.factorial2, sympy.subfactorial)):
        count = _magnitude(node.args[0], inner[0], values)
        if count < 1:
            return inner[0]
        return count * max(1.0, math.log2(count)) if count < _HUGE else _HUGE
    if isinstance(node, (sympy.Sum, sympy.Product)) and not all(map(_is_short, node.limits)):
        return _HUGE
    return sum(inner)


def _is_short(limits: sympy.Tuple) -> bool:
    """Whether a sum or product runs over few terms, or for ever, where it has a formula or converges."""
    ends = limits[1:]
    count = ends[1] - ends[0] if len(ends) == 2 else sympy.oo
    return not (count.is_Rational and count > MOST_TERMS) and not (ends and count.is_number and not count.is_Atom)


def _magnitude(node: sympy.Basic, bits: float, values: Mapping[sympy.Basic, sympy.Rational]) -> float:
    """About the absolute value of an exponent or the like, which takes `bits` to be evaluated."""
    if bits > MOST_BITS:
        return _HUGE  # and nothing is asked of it: SymPy would work it out
    node = values.get(node, node)
    if not isinstance(node, sympy.Rational) and node.free_symbols <= values.keys():
        try:
            node = abs(node.xreplace(dict(values)).evalf(5))
        except (TypeError, ValueError, ArithmeticError, AttributeError, NotImplementedError):
            return _HUGE
    if isinstance(node, (sympy.Rational, sympy.Float)):
        return float(min(abs(node), MOST_BITS * 2))
    return 2.0**bits if bits < 64 else _HUGE
