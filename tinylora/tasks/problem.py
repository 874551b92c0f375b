"""What every task draws, asks and scores: problems, and the suites that a model is evaluated on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tinylora.settings.choices import Split

_OPERAND = r"\d\w*(?:\.\d\w*)*(?: [a-z]+)?\)*"  # 12, 0.5), 2.0i), 13 tigers
_JUNCTION = r"(?: *[-+*/\u00d7\u00f7^,][-+*/\u00d7\u00f7^,( ]*| and )"
_OPERANDS = re.compile(rf"(?<![-(])[-(]*{_OPERAND}(?:{_JUNCTION}{_OPERAND})+", re.IGNORECASE)  # of one line
_PART = re.compile(r"\d+(?:\.\d+)*|[^\W\d]+|[^\w\s]")
_SILENT = ("+", ",", "and")  # what may vanish where operands change places
_ASKED = re.compile(r"\A(?:calculate|compute|evaluate|solve|what is)\b:? *|[.?]\Z", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """Where a generated problem comes from, which is all that its generator's own check needs."""

    generator: str
    options: dict[str, Any]
    """Settings of the generator, as plain JSON values; without seed and size."""
    seed: int
    index: int
    size: int


@dataclass(frozen=True)
class Problem:
    """One question with its gold answer, and the worked solution where the source has one."""

    id: str
    question: str
    answer: str
    solution: str | None
    tolerance: float = 0.0
    """Relative distance at which a number still is the gold answer, for one that was rounded."""
    entry: Entry | None = field(default=None, hash=False, repr=False)
    """For problems that only their generator can check."""


@dataclass(frozen=True)
class Suite:
    """Problems that are evaluated together: `validation`, `test`, or a data set by its name."""

    name: str
    problems: Sequence[Problem]
    samples: int = 1
    """Completions per problem in the sampled evaluation, unless `eval.samples` is more: many where the set is small."""


def split_of(question: str) -> Split:
    """The split that owns a generated problem: an eighth test, an eighth validation, the rest training.

    More than in `sums`, since finding held-out problems means making all others, and some take 0.1 s each.
    Questions with one `canonical` form are in one split.
    """
    bucket = hashlib.sha256(canonical(question).encode()).digest()[0] % 8
    return {0: Split.test, 1: Split.validation}.get(bucket, Split.train)


def canonical(question: str) -> str:
    """What stays of a question when operands change places, or it is asked for in other words.

    Numbers that operators or commas join are taken as the multiset of their parts: 1 + 2 and 2 + 1 are one problem, and
    5 - 3 and -3 + 5. So are some that differ (3 - 5), which does no harm: they are in one split.
    """

    def sorted_parts(operands: re.Match[str]) -> str:
        return " ".join(sorted(part for part in _PART.findall(operands[0].lower()) if part not in _SILENT))

    return _OPERANDS.sub(sorted_parts, _ASKED.sub("", question.strip()))
