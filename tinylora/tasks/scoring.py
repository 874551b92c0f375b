r"""Verdicts on completions, many at a time: by the number or expression they end in, or by a generator's own check.

A final answer is looked for in the form that the prompt asks for (strict), and then wherever it may stand (flexible).
"""

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
from tinylora.tasks.problem import Entry, Problem

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


def score_all(
    problems: Sequence[Problem], completions: Sequence[str], checker: Checker, template: Template
) -> list[Score]:
    """The verdicts on completions, each on the problem at its place."""
    pairs = list(enumerate(zip(problems, completions, strict=True)))
    compared = [(place, problem.answer, text) for place, (problem, text) in pairs if problem.entry is None]
    generated = [(place, problem.entry, text) for place, (problem, text) in pairs if problem.entry is not None]
    checked = check_all([text for *_, text in compared], [gold for _, gold, _ in compared], checker, template)
    scores = {place: score for (place, *_), score in zip(compared, checked, strict=True)}
    judged = _judge([(entry, text) for _, entry, text in generated], template)
    scores |= {place: score for (place, *_), score in zip(generated, judged, strict=True)}
    return [scores[place] for place in range(len(problems))]


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
        strict = _canonical(_asked_for(text, template))
        flexible = strict or _canonical(_asked_for(text, None)) or answers.flexible_answer(text)
        scores.append(Score(compare(strict, gold), compare(flexible, gold)))
    return scores


@functools.lru_cache(maxsize=100_000)  # the same sets are read for the check before a sweep and for each pack
def gold_answer(text: str, checker: Checker) -> str | None:
    """The form of a gold answer that `check_all` compares with; None where it cannot be told what it means."""
    return answers.gold_answer(text) if checker is Checker.numeric else _canonical(text)


def score_entries(jobs: Sequence[EntryJob]) -> list[float | Outcome]:
    """The score (0.0 to 1.0) that each job's generator gives its answer; checker_error where it raises an error."""
    return [_score_entry(job) for job in jobs]


def final_texts(completion: str, template: Template) -> tuple[str | None, str | None]:
    """The final answer in the form that the template asks for, and in any form; None where there is none."""
    lines = completion.strip().splitlines()
    found = _asked_for(completion, None) or (lines[-1].strip() if lines else None)
    if template is Template.plain:
        return completion.strip() or None, found
    strict = _asked_for(completion, template)
    return strict, strict or found


def last_boxed(text: str) -> str | None:
    r"""The content of the last whole \boxed{...}, braces inside it matched; or the word after a `\boxed ` without."""
    start = text.rfind("\\boxed")
    while start >= 0:
        rest = text[start + len("\\boxed") :]
        if rest.startswith("{"):
            depth = 0
            for place, character in enumerate(rest):
                depth += (character == "{") - (character == "}")
                if depth == 0:
                    return rest[1:place]
        elif rest[:1].isspace() and (word := re.match(r"\s+([^\s$.,]+)", rest)):
            return word[1]
        start = text.rfind("\\boxed", 0, start)
    return None


def _asked_for(completion: str, template: Template | None) -> str | None:
    """What stands behind the last `####` or in the last box, as the template has it; either of them without one."""
    tail = completion[-answers.TAIL :]
    _, mark, after = tail.rpartition("####")
    marked = after.strip().partition("\n")[0].strip() or None if mark else None
    if template is Template.hash:
        return marked
    return last_boxed(tail) or (None if template is Template.boxed else marked)


def _canonical(text: str | None) -> str | None:
    """A number as a fraction in lowest terms, anything else without what changes no meaning; None for nothing."""
    if text is None:
        return None
    short = _SKIPPED.sub("", text).replace("{,}", "").rstrip(".")
    short = _FRACTION.sub(lambda found: f"{found[1] or found[3]}/{found[2] or found[4]}", short)
    number = re.sub(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))", "", short)
    if _PLAIN_NUMBER.fullmatch(number) and not number.endswith("/0"):
        above, _, below = number.partition("/")
        return str(Fraction(above) / (Fraction(below) if below else 1))
    return short or None


def _judge(answered: Sequence[tuple[Entry, str]], template: Template) -> list[Score]:
    """The verdicts on completions to generated problems."""
    finals = [final for _, text in answered for final in final_texts(text, template)]  # strict, flexible, strict, ...
    entries = [entry for entry, _ in answered for _ in range(2)]
    jobs = [
        EntryJob(**vars(entry), answer=final) for entry, final in zip(entries, finals, strict=True) if final is not None
    ]
    verdicts = iter(score_entries(jobs))
    outcomes = [Outcome.no_answer if final is None else _outcome(next(verdicts)) for final in finals]
    return [
        Score(strict, strict if strict is Outcome.correct else flexible)
        for strict, flexible in zip(outcomes[::2], outcomes[1::2], strict=True)
    ]


def _outcome(verdict: float | Outcome) -> Outcome:
    """Generators give a part of 1 for an answer that is nearly right; only a right one counts."""
    if isinstance(verdict, Outcome):
        return verdict
    return Outcome.correct if verdict >= 1 else Outcome.wrong


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
