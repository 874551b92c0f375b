"""The checkers: whether a final answer is the gold one, as a number or an expression, or by a generator's own check."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from tinylora import answers
from tinylora.choices import Checker, Template
from tinylora.rewards import Outcome, Score, compare
from tinylora.tasks.finals import asked_for

_SKIPPED = re.compile(r"\s+|\\[!,;: ]|\\left|\\right|\\?\$|\\%|\^\{?\\circ\}?")
_FRACTION = re.compile(r"\\[dt]?frac\{(-?[0-9]+)\}\{([0-9]+)\}|\\[dt]?frac([0-9])([0-9])")
_PLAIN_NUMBER = re.compile(r"[-+]?[0-9]*\.?[0-9]+(?:/[0-9]+)?")


@dataclass(frozen=True)
class EntryJob:
    """One answer to entry `index` of reasoning-gym's data set `generator`, made with `options`, `seed` and `size`."""

    generator: str
    options: dict[str, Any]
    seed: int
    index: int
    size: int
    answer: str


def check_all(completions: Sequence[str], golds: Sequence[str], checker: Checker, template: Template) -> list[Score]:
    """Compare final answers with gold ones, which are as `gold_answer` gives them."""
    if checker is Checker.numeric:
        numeric = zip(completions, golds, strict=True)
        return [
            Score(compare(answers.strict_answer(text), gold), compare(answers.flexible_answer(text), gold))
            for text, gold in numeric
        ]
    scores = []
    for text, gold in zip(completions, golds, strict=True):
        strict = _canonical(asked_for(text, template))
        flexible = strict or _canonical(asked_for(text, None)) or answers.flexible_answer(text)
        scores.append(Score(compare(strict, gold), compare(flexible, gold)))
    return scores


@functools.lru_cache(maxsize=100_000)  # the same sets are read for the check before a sweep and for each pack
def gold_answer(text: str, checker: Checker) -> str | None:
    """The form of a gold answer that `check_all` compares with; None where it cannot be told what it means."""
    return answers.gold_answer(text) if checker is Checker.numeric else _canonical(text)


def score_entries(jobs: Sequence[EntryJob]) -> list[float | Outcome]:
    """The score (0.0 to 1.0) that each job's generator gives its answer; checker_error where it raises an error."""
    return [_score_entry(job) for job in jobs]


def _canonical(text: str | None) -> str | None:
    """A number as a fraction in lowest terms, anything else without what changes no meaning; None for nothing."""
    if text is None:
        return None
    short = _SKIPPED.sub("", text).replace("{,}", "").rstrip(".")
    short = _FRACTION.sub(lambda found: f"{found[1] or found[3]}/{found[2] or found[4]}", short)
    number = re.sub(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))", "", short)
    above, _, below = number.partition("/")
    if _PLAIN_NUMBER.fullmatch(number) and int(below or 1):
        return str(Fraction(above) / int(below or 1))
    return short or None


@functools.lru_cache(maxsize=16)
def _generator(name: str, options: str, seed: int, size: int) -> Any:
    import reasoning_gym

    return reasoning_gym.create_dataset(name, seed=seed, size=size, **json.loads(options))


def _score_entry(job: EntryJob) -> float | Outcome:
    generator = _generator(job.generator, json.dumps(job.options), job.seed, job.size)
    try:
        return float(generator.score_answer(job.answer, generator[job.index]))
    except Exception:  # the hundred generators raise what they like on an answer that has no sense
        return Outcome.checker_error
