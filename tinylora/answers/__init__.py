r"""Answer checking: where the final answer of a completion stands, and whether it means the same as the gold answer.

    where it stands      extraction, prose
    what it is           latex (one spelling for each formula), brackets, structure (lists, intervals), naming
                         (x = 2), words (units, options), exact and quantities (numbers)
    whether it is equal  numeric, for answers that are one number; equivalence, for mathematics, by rules; what these
                         leave open: symbolic, solutions, sizes, by SymPy and math-verify in a worker process
    protocols            the strict rules of other stacks: verl, simplerl
    workers, worker      processes with a time limit, for what could hang, crash or fill the memory

`check_all` judges a batch, `score_entries` does so for the scorers of reasoning-gym. How long either can block stands
in `workers`. May import settings; importing this package imports neither PyTorch nor SymPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tinylora.answers import numeric, simplerl, verl
from tinylora.answers.equivalence import equivalent, readable
from tinylora.answers.extraction import TAIL, anywhere, asked, spoken
from tinylora.answers.latex import LONGEST
from tinylora.answers.quantities import quantity
from tinylora.answers.rewards import Outcome, Score
from tinylora.answers.workers import Job, judge_all
from tinylora.settings.config import Checker, Strict, Template

__all__ = ["VERSION", "EntryJob", "best_of", "check", "check_all", "gold_answer", "read_answer", "score_entries"]

VERSION = 3
"""Of the checker, for the records: raised by 1 when an answer gets another verdict. 1: before verdicts had versions; 3:
sentences that hold the answer to a generated problem."""

_SEVERITY = (Outcome.correct, Outcome.timeout, Outcome.checker_error, Outcome.wrong)


@dataclass(frozen=True)
class EntryJob:
    """One answer to entry `index` of reasoning-gym's data set `generator`, made with `options`, `seed` and `size`."""

    generator: str
    options: dict[str, Any]
    """Settings of the generator, as plain JSON values; without seed and size."""
    seed: int
    index: int
    size: int
    """Entries of the data set, more than `index`: some generators depend on it."""
    answer: str

    def __post_init__(self) -> None:
        assert 0 <= self.index < self.size, (self.index, self.size)


def check(
    completion: str,
    gold: str,
    checker: Checker = Checker.math,
    template: Template = Template.boxed,
    strict: bool = False,
) -> Outcome:
    """The verdict on one completion (see check_all); `strict` wants the answer in the template's format."""
    score = check_all([completion], [gold], checker, template)[0]
    return score.strict if strict else score.flexible


def check_all(
    completions: Sequence[str],
    golds: Sequence[str],
    checker: Checker = Checker.math,
    template: Template = Template.boxed,
    strict: Strict = Strict.form,
    tolerances: Sequence[float] | None = None,
) -> list[Score]:
    r"""The strict and the flexible verdict on each completion, in order; `golds` are as `gold_answer` gives them.

    Flexible is what a fair reader would say of the final answer, wherever it stands. Strict is the same for answers in
    the template's form alone (`Strict.form`): the last `\boxed{...}`, the last `#### ...`, or for `plain` any of these
    or "the answer is ..."; or it is the rule of a protocol, exactly. `tolerances` are the relative distances at which a
    number counts as the gold answer; none: only exact ones do. No text raises an error: where the gold answer cannot be
    parsed, the outcome is checker_error.
    """
    near = [0.0] * len(golds) if tolerances is None else tolerances
    assert len(completions) == len(golds) == len(near), (len(completions), len(golds), len(near))
    texts = [spoken(completion) for completion in completions]
    judged = _numbers if checker is Checker.numeric else _formulas
    answers = [anywhere(text) for text in texts]
    if strict is Strict.form:  # in one go: most answers are judged once for both
        answers += [asked(text, template) for text in texts]
        outcomes = judged(answers, [*golds, *golds], [*near, *near])
        flexible, by_rule = outcomes[: len(texts)], outcomes[len(texts) :]
    else:
        flexible = judged(answers, golds, near)
        by_rule = _judge_verl(completions, golds) if strict is Strict.verl else _judge_simplerl(completions, golds)
    return [Score(first, second) for first, second in zip(by_rule, flexible, strict=True)]


def gold_answer(text: str, checker: Checker, strict: Strict = Strict.form) -> str | None:
    """The gold answer as it is compared: a canonical number, or the text; None where it cannot be.

    For the numeric checker, a text that as a whole is not one number cannot: `2x`, `\\sqrt{2}`, `5 or 6`. For the math
    checker that is an empty text, the text `None`, and one with open braces; what is no formula is compared as text.
    verl's rule compares numbers as text, and needs them in their usual spelling.
    """
    if strict is Strict.verl:
        return verl.gold_answer(text)
    if checker is Checker.numeric:
        number = numeric.number(text)
        return None if number is None else str(quantity(number)[0])
    return text.strip() if readable(text) else None


def read_answer(completion: str, template: Template, strict: Strict = Strict.form) -> str | None:
    """The likeliest reading of a completion's final answer: by the strict rule, or else wherever it stands.

    None where there is none. For people to read: a verdict may rest on another reading.
    """
    text = spoken(completion)
    if strict is Strict.form:
        by_rule = next(iter(asked(text, template)), None)
    else:
        by_rule = verl.answer_of(completion) if strict is Strict.verl else simplerl.answer_of(completion)
    return by_rule if by_rule is not None else next(iter(anywhere(text)), None)


def score_entries(jobs: Sequence[EntryJob]) -> list[float | Outcome]:
    """The score (0.0 to 1.0) that reasoning-gym gives each answer, in order.

    Outcome.timeout where scoring took too long, Outcome.checker_error where it raised an error or its process died;
    UsageError where reasoning-gym is not installed.
    """
    shortened = (asdict(job) | {"answer": job.answer[-TAIL:]} for job in jobs)
    return judge_all([{"kind": "reasoning_gym", **job} for job in shortened])


def _numbers(answers: Sequence[Sequence[str]], golds: Sequence[str], near: Sequence[float]) -> list[Outcome]:
    """The outcome of the readings of each answer, each as a number."""
    return [
        numeric.judge(readings, gold, tolerance) for readings, gold, tolerance in zip(answers, golds, near, strict=True)
    ]


def _formulas(answers: Sequence[Sequence[str]], golds: Sequence[str], near: Sequence[float]) -> list[Outcome]:
    """The outcome of the readings of each answer: the best that one of them earns."""
    cases = [
        (gold, tolerance, [reading[-LONGEST * 2 :] for reading in readings])
        for readings, gold, tolerance in zip(answers, golds, near, strict=True)
    ]
    verdicts: dict[tuple[str, float, str], Outcome] = {}
    left_open: list[tuple[str, float, str]] = []
    for gold, tolerance, readings in cases:
        for pair in ((gold, tolerance, reading) for reading in readings):
            if pair not in verdicts:
                settled = equivalent(gold, pair[2], None, tolerance)
                verdicts[pair] = Outcome.correct if settled else Outcome.wrong
                left_open += [pair] if settled is None else []
    jobs: list[Job] = [
        {"kind": "math", "gold": gold, "answer": reading, "tolerance": tolerance}
        for gold, tolerance, reading in left_open
    ]
    verdicts |= zip(left_open, map(_outcome, judge_all(jobs)), strict=True)
    return [
        _best(gold, [verdicts[gold, tolerance, reading] for reading in readings]) for gold, tolerance, readings in cases
    ]


def _judge_verl(completions: Sequence[str], golds: Sequence[str]) -> list[Outcome]:
    return [verl.judge(completion, gold) for completion, gold in zip(completions, golds, strict=True)]


def _judge_simplerl(completions: Sequence[str], golds: Sequence[str]) -> list[Outcome]:
    answers = [simplerl.answer_of(completion) for completion in completions]
    jobs: list[Job] = [
        {"kind": "simplerl", "gold": gold, "answer": answer}
        for gold, answer in zip(golds, answers, strict=True)
        if answer is not None and len(answer) <= simplerl.LONGEST
    ]
    verdicts = iter(judge_all(jobs))

    def outcome(answer: str | None) -> Outcome:
        if answer is None:
            return Outcome.no_answer
        return Outcome.wrong if len(answer) > simplerl.LONGEST else _outcome(next(verdicts))

    return [outcome(answer) for answer in answers]


def _outcome(verdict: Any) -> Outcome:
    if isinstance(verdict, Outcome):
        return verdict
    return Outcome.correct if verdict else Outcome.wrong


def _best(gold: str, verdicts: Sequence[Outcome]) -> Outcome:
    return best_of(verdicts) if readable(gold) else Outcome.checker_error


def best_of(verdicts: Sequence[Outcome]) -> Outcome:
    """The verdict on an answer from those on its readings; no_answer where there is none."""
    return min(verdicts, key=_SEVERITY.index) if verdicts else Outcome.no_answer
