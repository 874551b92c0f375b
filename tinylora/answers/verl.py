r"""The strict rule of verl for GSM8K, stated anew: the paper's stack scores with it.

The answer is what follows the last `#### ` (with that one space) within the last 300 characters of the completion: a
minus sign or none, then digits, points and commas. Without its commas, it must be the gold answer letter by letter:
`18` is right, `18.`, `18.00`, `$18` and `**18**` are not. A fair reader would often say otherwise: that is the flexible
score.
"""

from __future__ import annotations

import re

from tinylora.answers.rewards import Outcome, compare

SEARCHED = 300  # characters at the end of a completion

_FOUND = re.compile(r"#### (-?[0-9.,]+)")
_GOLD = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]*[1-9])?")


def judge(completion: str, gold: str) -> Outcome:
    """The verdict of verl on a whole completion; `gold` is as `gold_answer` gives it."""
    return compare(answer_of(completion), gold)


def answer_of(completion: str) -> str | None:
    """What is compared; None where there is no `####` with a number."""
    found = _FOUND.findall(completion[-SEARCHED:])
    return _plain(found[-1]) if found else None


def gold_answer(text: str) -> str | None:
    """A gold answer as it is compared, without commas; None where no usual spelling of its number would be right.

    None for `025`, `18.0` and `3/4`, say.
    """
    plain = _plain(text.strip())
    return plain if _GOLD.fullmatch(plain) else None


def _plain(text: str) -> str:
    return text.replace(",", "").replace("$", "")
