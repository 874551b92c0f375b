"""The tasks: what is asked, what a right answer is, and demonstrations of it; data and answer check side by side."""

from __future__ import annotations

from typing import Protocol

from tinylora.config import Demonstrations, Split, TaskConfig
from tinylora.errors import UsageError
from tinylora.rewards import Score
from tinylora.tasks.gsm8k import Gsm8kTask
from tinylora.tasks.problem import Problem
from tinylora.tasks.sums import SumsTask

TASKS = ("sums", "gsm8k")


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

    def batch(self, seed: int, step: int, count: int) -> list[Problem]:
        """The training problems of one lane's step: a pure function of the arguments."""

    def held_out(self, split: Split, count: int) -> list[Problem]:
        """The first `count` problems of the fixed validation or test set (all, where there are fewer)."""

    def prompt(self, problem: Problem) -> str:
        """The text that the model continues, or the user's message of a chat task."""

    def demonstration(self, problem: Problem, manner: Demonstrations) -> str:
        """A right answer to learn from, in the asked-for manner; UsageError where the task has none."""

    def score(self, problem: Problem, completion: str) -> Score:
        """The strict and the flexible verdict on one completion."""


def load_task(config: TaskConfig) -> Task:
    """The task of a run, with its data read; UsageError where name, folder or data are wrong."""
    if config.name == "sums":
        if config.folder is not None:
            raise UsageError(
                f"task=sums task.folder={config.folder}",
                "the problems of sums are generated and read from no folder",
                "leave task.folder out, or give task=gsm8k",
            )
        return SumsTask()
    if config.name == "gsm8k":
        if config.folder is None:
            raise UsageError(
                "task=gsm8k without task.folder",
                "its problems are read from gsm8k-train.jsonl[.gz] and gsm8k-test.jsonl[.gz]",
                "give task.folder=<folder> with these two files",
            )
        return Gsm8kTask(config.folder)
    raise UsageError(f"task.name={config.name}", "no task has this name", f"give one of: {', '.join(TASKS)}")
