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
DEEPEST = 8  # functions in functions: SymPy asks each for all inside it
_HUGE = math.inf


def manageable(expression: sympy.Basic, values: Mapping[sympy.Basic, sympy.Rational] | None = None) -> bool:
    """Whether an expression stays below the bounds; `values` are what its symbols stand for, about 1000 without."""
    nodes = 0
    stack = [(expression, 0)]
    while stack:
        node, depth = stack.pop()
        nodes += 1
        depth += isinstance(node, sympy.Function)
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
    if isinstance(node, sympy.Pow) or isinstance(node, sympy.exp):
        base, exponent = (inner[0], node.args[1]) if isinstance(node, sympy.Pow) else (2.0, node.args[0])
        one = abs(node.args[0]) in (0, 1) if isinstance(node, sympy.Pow) else False
        return max(inner) if one else max(*inner, base * _magnitude(exponent, inner[-1], values))
    if isinstance(node, (sympy.factorial, sympy.gamma, sympy.binomial, sympy.factorial2, sympy.subfactorial)):
        count = _magnitude(node.args[0], inner[0], values)
        return count * max(1.0, math.log2(count)) if 1 <= count < _HUGE else inner[0] if count < 1 else _HUGE
    if isinstance(node, (sympy.Sum, sympy.Product)):
        return sum(inner) * 64
    return sum(inner)


def _magnitude(node: sympy.Basic, bits: float, values: Mapping[sympy.Basic, sympy.Rational]) -> float:
    """About the absolute value of an exponent or the like, which takes `bits` to be evaluated."""
    node = values.get(node, node)
    if not isinstance(node, sympy.Rational) and bits <= MOST_BITS and node.free_symbols <= values.keys():
        try:
            node = abs(node.xreplace(dict(values)).evalf(5))
        except (TypeError, ValueError, ArithmeticError, AttributeError, NotImplementedError):
            return _HUGE
    if node.is_number and node.is_real and node.is_finite:
        return float(min(abs(node), MOST_BITS * 2))
    return 2.0**bits if bits < 64 else _HUGE
