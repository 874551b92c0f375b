"""The work that is measured: 16 prompts x 8 samples of the task `sums`, at most 64 new tokens, fp32.

`natural`: completions end where the model ends them, and are rewarded as in training. Many begin alike, as the
miniature is sure of what it says.
`full`: the worst case. All completions have 64 tokens, none begin alike for long (temperature 4), and rewards are
drawn, so that every group teaches. Nothing can be shared or left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tinylora.answers.rewards import Outcome, Score
from tinylora.records.progress import Silent
from tinylora.settings.config import GrpoConfig, ModelConfig, Precision, RolloutConfig, RunConfig
from tinylora.tasks.problem import Problem
from tinylora.tasks.sums import SumsTask
from tinylora.train.pack import LaneRun, Pack, load_pack

MODEL = "miniature-qwen2"
PROMPTS, SAMPLES, TOKENS = 16, 8, 64
LENGTHS = ("natural", "full")
TEMPERATURE = {"natural": 1.0, "full": 4.0}
SIZES = (13, 1, 120, 1000)  # u of the first, second, ... lane: the first is what the peers train
TINY_RATE = 1e-9  # so that all steps are steps of the untrained model, and cost the same


class DrawnRewards(SumsTask):
    """`sums` with rewards that a hash draws, half of them 1."""

    def score_all(self, problems: Sequence[Problem], completions: Sequence[str]) -> list[Score]:
        """Right or wrong by the hash of problem and completion."""
        return [self._drawn(problem, completion) for problem, completion in zip(problems, completions, strict=True)]

    def _drawn(self, problem: Problem, completion: str) -> Score:
        heads = hashlib.sha256(f"{problem.question}{completion}".encode()).digest()[0] < 128
        outcome = Outcome.correct if heads else Outcome.wrong
        return Score(outcome, outcome)


def points(lanes: int, lengths: str, outputs: Path) -> list[RunConfig]:
    """As many points of a sweep, of different sizes, precisions and seeds."""
    return [
        RunConfig(
            u=SIZES[lane % len(SIZES)],
            precision=Precision.bf16 if lane % 2 else Precision.fp32,
            seed=lane,
            lr=TINY_RATE,
            algorithm=GrpoConfig(prompts=PROMPTS, samples=SAMPLES),
            rollout=RolloutConfig(TOKENS, TEMPERATURE[lengths]),
            model=ModelConfig(MODEL, device="cpu"),
            outputs_dir=str(outputs),
        )
        for lane in range(lanes)
    ]


def open_lanes(lanes: int, lengths: str, outputs: Path) -> tuple[Pack, Sequence[LaneRun]]:
    """A pack of that many lanes, for completions of these lengths."""
    configs = points(lanes, lengths, outputs)
    pack = load_pack(configs, [f"lane {lane}" for lane in range(lanes)], Silent())
    if lengths == "full":
        pack = replace(pack, task=DrawnRewards(), engine=replace(pack.engine, end_tokens=frozenset()))
    return pack, pack.lanes
