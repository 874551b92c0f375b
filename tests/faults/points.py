"""The sweep into which faults are put: two lanes, three steps, the shipped miniature; a third of a second."""

from __future__ import annotations

from pathlib import Path

from support.packs import point

from tinylora.settings.config import EvalConfig, GrpoConfig, Precision, RolloutConfig, RunConfig

STEPS = 3


def points(outputs: Path, steps: int = STEPS) -> list[RunConfig]:
    """Two points of one pack."""
    small = {
        "steps": steps,
        "algorithm": GrpoConfig(prompts=2, samples=4),
        "rollout": RolloutConfig(max_new_tokens=8),
        "eval": EvalConfig(test_items=1, validation_items=1),
    }
    return [
        point(outputs, u=13, **small),
        point(outputs, u=5, n_tie=3, precision=Precision.bf16, seed=1, **small),
    ]
