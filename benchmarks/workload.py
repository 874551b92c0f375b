"""The work that is measured: completions of a miniature on the task `sums`, or of SmolLM2 on sums of a few digits.

`natural`: completions end where the model ends them, and are rewarded as in training. Many begin alike, as the
miniature is sure of what it says.
`full`: the worst case. All completions have the most tokens, none begin alike for long (temperature 4), and rewards are
drawn, so that every group teaches. Nothing can be shared or left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from tinylora.answers.rewards import Outcome, Score
from tinylora.records.progress import Silent
from tinylora.settings.choices import Attention, Template
from tinylora.settings.config import GrpoConfig, ModelConfig, Precision, RolloutConfig, RunConfig, TaskConfig
from tinylora.tasks import Task, task_of
from tinylora.tasks.problem import Problem
from tinylora.train.pack import LaneRun, Pack, load_pack

LENGTHS = ("natural", "full")
SIZES = (13, 1, 120, 1000)  # u of the first, second, ... lane: the first is what the peers train
TINY_RATE = 1e-9  # so that all steps are steps of the untrained model, and cost the same


@dataclass(frozen=True)
class Work:
    """What one lane does in a step: `prompts` x `samples` completions of at most `tokens` tokens."""

    model: str
    prompts: int
    samples: int
    tokens: int
    temperature: float
    """Of natural lengths; 4 where nothing is to begin alike."""
    task: TaskConfig = field(default_factory=TaskConfig)
    dtype: Precision = Precision.fp32
    attention: Attention = Attention.sdpa

    def temperature_of(self, lengths: str) -> float:
        """The temperature at which completions of these lengths are sampled."""
        return 4.0 if lengths == "full" else self.temperature

    def points(self, lanes: int, lengths: str, outputs: Path) -> list[RunConfig]:
        """As many points of a sweep, of different sizes, precisions and seeds."""
        return [
            RunConfig(
                u=SIZES[lane % len(SIZES)],
                precision=Precision.bf16 if lane % 2 else Precision.fp32,
                seed=lane,
                lr=TINY_RATE,
                task=self.task,
                algorithm=GrpoConfig(prompts=self.prompts, samples=self.samples),
                rollout=RolloutConfig(self.tokens, self.temperature_of(lengths)),
                model=ModelConfig(self.model, device="cpu", dtype=self.dtype, attention=self.attention),
                outputs_dir=str(outputs),
            )
            for lane in range(lanes)
        ]

    def task_for(self, lengths: str) -> Task:
        """The task, with drawn rewards where completions have full lengths."""
        task = task_of(self.points(1, lengths, Path("unused"))[0])
        return cast(Task, DrawnRewards(task)) if lengths == "full" else task


MINIATURE = Work("miniature-qwen2", prompts=16, samples=8, tokens=64, temperature=1.0)
SMOLLM2 = Work(
    "smollm2-135m",
    prompts=8,
    samples=8,
    tokens=24,
    temperature=0.5,
    task=TaskConfig(
        name="reasoning_gym",
        generator="chain_sum",
        generator_options={"min_terms": 2, "max_terms": 3, "min_digits": 1, "max_digits": 1},
        template=Template.plain,
    ),
)


class DrawnRewards:
    """A task whose `score_all` draws rewards by a hash, half of them 1; all else is the task's."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def __getattr__(self, name: str) -> Any:
        if name == "_task":  # of a copy that is not made yet
            raise AttributeError(name)
        return getattr(self._task, name)

    def score_all(self, problems: Sequence[Problem], completions: Sequence[str]) -> list[Score]:
        """Right or wrong by the hash of problem and completion."""
        return [self._drawn(problem, completion) for problem, completion in zip(problems, completions, strict=True)]

    def _drawn(self, problem: Problem, completion: str) -> Score:
        heads = hashlib.sha256(f"{problem.question}{completion}".encode()).digest()[0] < 128
        outcome = Outcome.correct if heads else Outcome.wrong
        return Score(outcome, outcome)


def open_lanes(lanes: int, lengths: str, outputs: Path, work: Work = MINIATURE) -> tuple[Pack, Sequence[LaneRun]]:
    """A pack of that many lanes, for completions of these lengths."""
    configs = work.points(lanes, lengths, outputs)
    pack = load_pack(configs, [f"lane {lane}" for lane in range(lanes)], Silent())
    if lengths == "full":
        pack = replace(pack, task=work.task_for(lengths), engine=replace(pack.engine, end_tokens=frozenset()))
    return pack, pack.lanes
