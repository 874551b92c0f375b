"""The tasks: what is asked, what a right answer is, and demonstrations of it; data and answer check side by side.

    question_sets  gsm8k, math and the evaluation sets      sources   the data sets and where they are
    generated      reasoning_gym                            reading   rows of a set, from a folder
    sums           the sums of the miniature models         download  or from the Hugging Face hub
    problem        problems, and suites of them             prompts   the named templates
    scoring        verdicts on completions

`task_of` makes the task of a run. May import settings and answers, and needs no PyTorch. Read `sums` first: it is a
whole task in one file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from tinylora.answers.rewards import Score
from tinylora.settings.choices import Adapter, Algorithm, Demonstrations, Split
from tinylora.settings.config import EvalConfig, RunConfig, TaskConfig
from tinylora.settings.errors import UsageError
from tinylora.tasks.generated import NAME as REASONING_GYM
from tinylora.tasks.generated import GeneratedTask
from tinylora.tasks.problem import Problem, Suite
from tinylora.tasks.question_sets import QuestionTask
from tinylora.tasks.sources import TESTS
from tinylora.tasks.sums import SumsTask

TASKS = ("sums", *TESTS, REASONING_GYM)


class Task(Protocol):
    """What the training loops and the evaluation ask of a task."""

    @property
    def name(self) -> str:
        """Name in the records."""

    @property
    def chat(self) -> bool:
        """Whether prompts are messages for the model's chat template, rather than text to continue."""

    @property
    def data_digest(self) -> str:
        """16 hex digits that identify the problems: two runs with one digest drew from the same data."""

    @property
    def prompt_digest(self) -> str:
        """16 hex digits that identify how problems are asked."""

    @property
    def data_commits(self) -> Mapping[str, str]:
        """The commit of each data set that was read from the hub; `unknown` where its cache does not say."""

    @property
    def notes(self) -> Sequence[str]:
        """Sentences on what was left out of the data, and on test questions that are also trained on."""

    def batch(self, seed: int, step: int, count: int) -> list[Problem]:
        """The training problems of one lane's step, the first of which is 1: a pure function of the arguments.

        UsageError where the task has none.
        """

    def held_out(self, split: Split, count: int) -> list[Problem]:
        """The first `count` problems of a split, the same ones always; all, where there are fewer."""

    def known_problems(self) -> Sequence[Problem]:
        """All problems of the data sets that were read; none of those that are made as they are asked for."""

    def suites(self, settings: EvalConfig) -> list[Suite]:
        """What is evaluated: `validation` (where problems are trained on), `test`, and each set of settings.suites."""

    def prompt(self, problem: Problem) -> str:
        """The text that the model continues, or the user's message of a chat task."""

    def demonstration(self, problem: Problem, manner: Demonstrations) -> str:
        """A right answer to learn from, `own` or `foreign`; UsageError where the task has none."""

    def score_all(self, problems: Sequence[Problem], completions: Sequence[str]) -> list[Score]:
        """The strict and the flexible verdict on each completion, which answers the problem at its place."""

    def answer_of(self, problem: Problem, completion: str) -> str | None:
        """What is read as the answer of a completion, to be shown: in the strict form, or else wherever it stands."""


def task_of(config: RunConfig) -> Task:
    """The task of a run, with all that the run needs of it."""
    teaches = config.algorithm.name is Algorithm.sft and config.adapter.name is not Adapter.none
    return load_task(config.task, config.eval.suites, solutions=teaches)


def load_task(config: TaskConfig, suites: Sequence[str] = (), solutions: bool = False) -> Task:
    """A task with its data read, and the evaluation sets `suites` beside it.

    `solutions`: train on nothing but problems that have a solution, for SFT. Raises UsageError where name, folder, data
    or suites are wrong, FailureError where the hub does not answer.
    """
    if config.name in TESTS or (config.name == REASONING_GYM and config.training_set is not None):
        return QuestionTask(config, suites, solutions)
    if config.name not in TASKS:
        raise UsageError(f"task.name={config.name}", "no task has this name", f"give one of: {', '.join(TASKS)}")
    if config.name == REASONING_GYM:
        return GeneratedTask(config, suites)
    if config.folder is not None or suites:
        raise UsageError(
            f"task=sums task.folder={config.folder} eval.suites=[{','.join(suites)}]",
            "the problems of sums are generated and read from no folder, and its prompts are text to continue, which "
            "those of the suites are not",
            "leave task.folder and eval.suites out, or give another task, such as task=gsm8k",
        )
    return SumsTask()
