"""A problem of a task: what every task draws, asks and scores."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One question with its gold answer, and the worked solution where the source has one."""

    id: str
    question: str
    answer: str
    solution: str | None
