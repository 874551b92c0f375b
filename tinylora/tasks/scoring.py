"""Verdicts on completions, many at a time: compared with the gold answer, or by the generator's own check.

A final answer is looked for in the form that the prompt asks for, or by a protocol's rule (strict), and wherever it may
stand (flexible).
"""

from __future__ import annotations

from collections.abc import Sequence

from tinylora.answers import EntryJob, best_of, check_all, read_answer, score_entries
from tinylora.answers.extraction import final_answers
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
        strict, flexible = final_answers(completion, config.template)
        return next(iter([*strict, *flexible]), None)
    return read_answer(completion, config.template, config.strict)


def _judge(answered: Sequence[tuple[Entry, str]], template: Template) -> list[Score]:
    """The verdicts on completions to generated problems: of an answer that can be read in several ways, the best."""
    read = [final_answers(text, template) for _, text in answered]
    jobs = [
        EntryJob(**vars(entry), answer=reading)
        for (entry, _), (strict, flexible) in zip(answered, read, strict=True)
        for reading in dict.fromkeys([*strict, *flexible])
    ]
    verdicts = iter(map(_outcome, score_entries(jobs)))
    scores = []
    for strict, flexible in read:
        of_reading = {reading: next(verdicts) for reading in dict.fromkeys([*strict, *flexible])}
        by_form, anywhere = (best_of([of_reading[reading] for reading in readings]) for readings in (strict, flexible))
        scores.append(Score(by_form, by_form if by_form is Outcome.correct else anywhere))
    return scores


def _outcome(verdict: float | Outcome) -> Outcome:
    """Generators give a part of 1 for an answer that is nearly right; only a right one counts."""
    if isinstance(verdict, Outcome):
        return verdict
    return Outcome.correct if verdict >= 1 else Outcome.wrong
