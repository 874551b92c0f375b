"""What a checker can say of a completion, and the reward it earns.

Five outcomes rather than a number: a wrong answer, a missing one and a checker that failed are different things, and
each is counted in the records. Only `correct` earns a reward (exact match, paper section 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """The verdict on one completion."""

    correct = "correct"
    wrong = "wrong"
    no_answer = "no answer"
    timeout = "timeout"
    checker_error = "checker error"


@dataclass(frozen=True)
class Score:
    """Two verdicts on one completion: `strict` by the rule of the task, `flexible` as a fair reader would judge."""

    strict: Outcome
    flexible: Outcome

    @property
    def reward(self) -> float:
        """1.0 for an answer that is strictly right, else 0.0."""
        return float(self.strict is Outcome.correct)

    @property
    def in_form(self) -> bool:
        """Whether there is an answer in the form that the strict rule reads, whatever its check says."""
        return self.strict is not Outcome.no_answer


def compare(answer: str | None, gold: str) -> Outcome:
    """Exact match of an extracted answer (None: none was found) with the gold answer."""
    if answer is None:
        return Outcome.no_answer
    return Outcome.correct if answer == gold else Outcome.wrong
