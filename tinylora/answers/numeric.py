r"""Answers that are one number: compared as exact numbers, in the training process itself.

The whole of an answer is a number or there is none: `2x`, `\sqrt{2}`, `18 or 20` and `3 of 4` are none, and no digit is
taken out of them. Calculations are numbers (`15 + 3`, `15 + 3 = 18`, `1.08 \times 10^3`), and so is what names its
value (`x = 18`) or its unit (`18 apples`). Numbers in words are not. What number a text is stands in `quantities` and
`exact`; here is no pattern of its own. Every step takes linear time, so that no completion can stall a run.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from tinylora.answers.latex import LONGEST, normal
from tinylora.answers.naming import assignment, before_rounding, quantity_value
from tinylora.answers.quantities import quantity, same_numbers
from tinylora.answers.rewards import Outcome


def judge(readings: Sequence[str], gold: str, tolerance: float = 0.0) -> Outcome:
    """The verdict on the readings of an answer: on the first of them that is a number."""
    wanted = number(gold)
    if wanted is None:
        return Outcome.checker_error
    answer = next(filter(None, map(number, readings)), None)
    if answer is None:
        return Outcome.no_answer
    return Outcome.correct if same_numbers(wanted, answer, tolerance) else Outcome.wrong


@functools.lru_cache(maxsize=4096)  # a gold answer comes with each completion of its group
def number(text: str) -> str | None:
    """The normal text of the number that the whole of a text is, with its unit; None where it is not one number."""
    if len(text) > LONGEST:
        return None
    value, _ = before_rounding(normal(text))
    if value.startswith("(") and value.endswith(")"):  # (10 + 8 = 18)
        value = value[1:-1].strip()
    named = assignment(value)
    if named:
        value = named[1]
    elif "=" in value:
        value = quantity_value(value, of_gold=False) or ""
    return value if any(map(str.isdigit, value)) and quantity(value)[0] is not None else None
