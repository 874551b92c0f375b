"""Verdicts on completions, many at a time: compared with the gold answer, or by the generator's own check.

A final answer is looked for in the form that the prompt asks for, or by a protocol's rule (strict), and wherever it may
stand (flexible).
"""

from __future__ import annotations

from collections.abc import Sequence

from tinylora.answers import EntryJob, check_all, read_answer, score_entries
from tinylora.answers.extraction import final_texts
from tinylora.answers.rewards import Outcome, Score
from tinylora.settings.config import TaskConfig, Template
from tinylora.tasks.problem import Entry, Problem


def score_all(problems: Sequence[Problem], completions: Sequence[str], config: TaskConfig) -> list[Score]:
    """The verdicts on completions, each on the problem at its place, as the settings of the task say."""
    pairs = list(enumerate(zip(problems, completions, strict=True)))
    compared = [(place, problem, text) for place, (problem, text) in pairs if problem.entry is None]
    generated = [(place, problem.entry, text) for place, (problem, text) in pairs if problem.entry is not None]
    checked = check_all(
        [text for *_, text in compared],
        [problem.answer for _, problem, _ in compared],
        config.checker,
        config.template,
        config.strict,
        [problem.tolerance for _, problem, _ in compared],
    )
    scores = {place: score for (place, *_), score in zip(compared, checked, strict=True)}
    judged = _judge([(entry, text) for _, entry, text in generated], config.template)
    scores |= {place: score for (place, *_), score in zip(generated, judged, strict=True)}
    return [scores[place] for place in range(len(problems))]


def answer_of(problem: Problem, completion: str, config: TaskConfig) -> str | None:
    """What is read as the answer of a completion: by the rule of the task, or else wherever it stands; None: nothing.

    The likeliest reading, to be shown: a verdict may rest on another one.
    """
    if problem.entry is not None:
        return next(filter(None, final_texts(completion, config.template)), None)
    return read_answer(completion, config.template, config.strict)


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
