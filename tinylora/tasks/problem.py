"""What every task draws, asks and scores: problems, and the suites that a model is evaluated on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tinylora.settings.choices import Split


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
    """Completions per problem in the sampled evaluation: more than one where the set is small."""


def split_of(question: str) -> Split:
    """The split that owns a generated problem: an eighth test, an eighth validation, the rest training.

    More than in `sums`, since finding held-out problems means making all others, and some take 0.1 s each.
    """
    bucket = hashlib.sha256(question.encode()).digest()[0] % 8
    return {0: Split.test, 1: Split.validation}.get(bucket, Split.train)
