r"""Answer checking: where the final answer of a completion stands, and whether it means the same as the gold answer.

    extraction   where the final answer stands            numeric      the checker for answers that are one number
    latex        one spelling for each formula            equivalence  the rules of the checker for mathematics,
    exact        rational numbers                                      on structure (lists, intervals) and words (units)
    workers      processes with a time limit, for what    symbolic     algebra by math-verify and SymPy, in a worker
                 could hang, crash or fill the memory     worker       what such a process runs

`check_all` judges a batch, `score_entries` does so for the scorers of reasoning-gym. How long either can block stands
in `workers`. May import settings; importing this package imports neither PyTorch nor SymPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tinylora.answers import numeric
from tinylora.answers.equivalence import equivalent, readable
from tinylora.answers.extraction import TAIL, anywhere, marked, spoken
from tinylora.answers.latex import LONGEST
from tinylora.answers.rewards import Outcome, Score, compare
from tinylora.answers.workers import judge_all
from tinylora.settings.config import Checker, Template

__all__ = ["EntryJob", "check", "check_all", "gold_answer", "score_entries"]

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
) -> list[Score]:
    r"""The strict and the flexible verdict on each completion, in order; `golds` are as in the data set.

    Strict takes the final answer in the template's format alone: the last `\boxed{...}`, the last `#### ...`, or for
    `plain` any of these or "the answer is ...". Flexible also takes the other formats, or else the last number or
    formula. No text raises an error: where the gold answer cannot be parsed, the outcome is checker_error.
    """
    assert len(completions) == len(golds), (len(completions), len(golds))
    if checker is Checker.numeric:
        return [_check_number(text, gold, template) for text, gold in zip(completions, golds, strict=True)]
    cases: list[tuple[str, list[str]]] = []
    for completion, gold in zip(completions, golds, strict=True):
        text = spoken(completion)
        cases += [(gold, marked(text, template)), (gold, anywhere(text, template))]
    outcomes = _judge_math(cases)
    return [Score(strict, flexible) for strict, flexible in zip(outcomes[::2], outcomes[1::2], strict=True)]


def gold_answer(text: str, checker: Checker) -> str | None:
    """The gold answer as the checker wants it: a canonical number, or the text; None where it cannot be parsed.

    For the numeric checker, a text that is not one number cannot be parsed. For the math checker that is an empty
    text, the text `None`, and one with open braces; what is no formula is compared as text.
    """
    if checker is Checker.numeric:
        return numeric.gold_answer(text)
    return text.strip() if readable(text) else None


def score_entries(jobs: Sequence[EntryJob]) -> list[float | Outcome]:
    """The score (0.0 to 1.0) that reasoning-gym gives each answer, in order.

    Outcome.timeout where scoring took too long, Outcome.checker_error where it raised an error or its process died;
    UsageError where reasoning-gym is not installed.
    """
    shortened = (asdict(job) | {"answer": job.answer[-TAIL:]} for job in jobs)
    return judge_all([{"kind": "reasoning_gym", **job} for job in shortened])


def _check_number(completion: str, gold: str, template: Template) -> Score:
    number = numeric.gold_answer(gold)
    if number is None:
        return Score(Outcome.checker_error, Outcome.checker_error)
    text = spoken(completion)
    strict = numeric.asked_answer(text, template)
    flexible = strict or numeric.asked_answer(text, Template.plain) or numeric.flexible_answer(text)
    return Score(compare(strict, number), compare(flexible, number))


def _judge_math(cases: Sequence[tuple[str, list[str]]]) -> list[Outcome]:
    """The outcome of each gold answer and the readings of an answer to it: the best that a reading earns."""
    pairs = list(dict.fromkeys((gold, reading[-LONGEST * 2 :]) for gold, readings in cases for reading in readings))
    verdicts: dict[tuple[str, str], Outcome] = {}
    open_pairs = []
    for gold, reading in pairs:
        settled = equivalent(gold, reading, None)
        if settled is None:
            open_pairs.append((gold, reading))
        else:
            verdicts[gold, reading] = Outcome.correct if settled else Outcome.wrong
    judged = judge_all([{"kind": "math", "gold": gold, "answer": reading} for gold, reading in open_pairs])
    for pair, verdict in zip(open_pairs, judged, strict=True):
        verdicts[pair] = verdict if isinstance(verdict, Outcome) else Outcome.correct if verdict else Outcome.wrong
    return [
        _outcome(gold, [verdicts[gold, reading[-LONGEST * 2 :]] for reading in readings]) for gold, readings in cases
    ]


def _outcome(gold: str, verdicts: list[Outcome]) -> Outcome:
    if not readable(gold):
        return Outcome.checker_error
    return min(verdicts, key=_SEVERITY.index) if verdicts else Outcome.no_answer
