"""Task `sums`: add three to six numbers below 100, the graded task that the miniature models were made for.

A problem is `12+7+35=`. Its level, 1 to 4, is how many numbers it has beyond two. It can be answered in three manners:

    short    #54                       at once: the miniatures mostly do this, and mostly get it wrong
    worked   12+7=19;19+35=54;#54      step by step: the miniatures' own manner, mostly right
    foreign  35+7=42;42+12=54;#54      from the last number backwards: a manner they have never seen

The miniatures have learnt from people who slip: who works a sum out sometimes forgets a carry. So more than one thing
is there to be learnt, to work sums out and to slip no more, and sampled accuracy is no switch between two states.

The splits are disjoint by construction: a stable hash of the numbers, whatever their order, says which split a problem
belongs to. Validation and test have as many problems of each level.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence

from tinylora.answers.rewards import Score, compare
from tinylora.settings.choices import Demonstrations, Split
from tinylora.settings.config import EvalConfig
from tinylora.settings.seeds import python_stream
from tinylora.tasks.problem import Problem, Suite
from tinylora.tasks.prompts import prompt_digest

LEVELS = range(1, 5)  # numbers beyond two
LIMIT = 100  # every number is below it

_STRICT = re.compile(r"#(\d+)\Z")
_LAST_NUMBER = re.compile(r"\d+")


def split_of(numbers: Sequence[int]) -> Split:
    """The split that owns a problem: 5% test, 5% validation, the rest training; the same for a+b and b+a."""
    bucket = hashlib.sha256(question_of(sorted(numbers)).encode()).digest()[0] % 20
    return {0: Split.test, 1: Split.validation}.get(bucket, Split.train)


def draw_numbers(rng: random.Random, split: Split, level: int | None = None) -> list[int]:
    """The numbers of one random problem of `split`, of this level or of any."""
    while True:
        numbers = [rng.randrange(LIMIT) for _ in range((level or rng.choice(LEVELS)) + 2)]
        if split_of(numbers) is split:
            return numbers


def question_of(numbers: Sequence[int]) -> str:
    """The text of a problem: `12+7+35=`."""
    return "+".join(map(str, numbers)) + "="


def short_answer(numbers: Sequence[int]) -> str:
    """The answer at once: `#54`."""
    return f"#{sum(numbers)}"


def worked_answer(numbers: Sequence[int], slips: random.Random | None = None, share: float = 0.0) -> str:
    """The answer step by step, from the first number on: `12+7=19;19+35=54;#54`.

    With `slips`, of the additions whose last digits carry this share is made without the carry: 19+35=44.
    """
    total, steps = numbers[0], []
    for number in numbers[1:]:
        carries = total % 10 + number % 10 >= 10
        found = total + number - (10 if carries and slips is not None and slips.random() < share else 0)
        steps.append(f"{total}+{number}={found};")
        total = found
    return "".join(steps) + f"#{total}"


class SumsTask:
    """Generated sums, scored by exact match of the number after the final `#`."""

    name = "sums"
    chat = False
    data_digest = hashlib.sha256(b"sums, version 2").hexdigest()[:16]  # raise it when other problems are drawn
    prompt_digest = prompt_digest("", chat)
    data_commits: dict[str, str] = {}  # noqa: RUF012 - as in the other tasks, and nothing to change
    notes: tuple[str, ...] = ()

    def batch(self, seed: int, step: int, count: int) -> list[Problem]:
        """The training problems of one lane's step: a pure function of its seed and step."""
        rng = python_stream(seed, self.name, "train", step)
        return [self._draw(rng, Split.train) for _ in range(count)]

    def held_out(self, split: Split, count: int) -> list[Problem]:
        """The first `count` problems of the fixed validation or test set, all different, the levels in turn."""
        rng, drawn = python_stream(0, self.name, split.name), dict[str, Problem]()
        while len(drawn) < count:
            problem = self._draw(rng, split, LEVELS[len(drawn) % len(LEVELS)])
            drawn.setdefault(problem.question, problem)
        return list(drawn.values())

    def known_problems(self) -> list[Problem]:
        """None: all are made."""
        return []

    def suites(self, settings: EvalConfig) -> list[Suite]:
        """Validation and test."""
        return [
            Suite("validation", self.held_out(Split.validation, settings.validation_items)),
            Suite("test", self.held_out(Split.test, settings.test_items)),
        ]

    def prompt(self, problem: Problem) -> str:
        """The text that the model continues."""
        return problem.question

    def demonstration(self, problem: Problem, manner: Demonstrations) -> str:
        """A right answer to learn from: in the model's `own` worked manner, or backwards (`foreign`)."""
        assert manner is not Demonstrations.sampled, "these are completions of the model"
        numbers = [int(part) for part in problem.question.rstrip("=").split("+")]
        return worked_answer(numbers if manner is Demonstrations.own else numbers[::-1])

    def score_all(self, problems: Sequence[Problem], completions: Sequence[str]) -> list[Score]:
        """Strict: the completion ends in `#` and the number. Flexible: its last number, wherever it is."""
        return [self._score(problem, completion) for problem, completion in zip(problems, completions, strict=True)]

    def answer_of(self, problem: Problem, completion: str) -> str | None:
        """The number behind the `#` at the end, or else the last one; None where there is none."""
        strict = _STRICT.search(completion)
        return strict.group(1) if strict else next(iter(_LAST_NUMBER.findall(completion)[::-1]), None)

    def _score(self, problem: Problem, completion: str) -> Score:
        strict = _STRICT.search(completion)
        numbers = _LAST_NUMBER.findall(completion)
        return Score(
            strict=compare(strict.group(1) if strict else None, problem.answer),
            flexible=compare(numbers[-1] if numbers else None, problem.answer),
        )

    def _draw(self, rng: random.Random, split: Split, level: int | None = None) -> Problem:
        """One random problem."""
        numbers = draw_numbers(rng, split, level)
        question = question_of(numbers)
        return Problem(id=f"{self.name}/{question}", question=question, answer=str(sum(numbers)), solution=None)
