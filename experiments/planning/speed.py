"""How fast runs of a model were here: read from the records of those that ended, for plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tinylora.records.folder import CONFIG, lines_of
from tinylora.settings.config import RunConfig


@dataclass(frozen=True)
class Speed:
    """Tokens per second of whole packs, and the mean length of responses; None where nothing was measured."""

    sampled_per_s: float | None
    trained_per_s: float | None
    response: float | None


def measured_speed(points: Sequence[RunConfig]) -> Speed:
    """The speed of earlier runs of the points' model and task in their outputs_dir.

    Lanes of one pack have the seconds of the pack in their records: equal times of a step count once.
    """
    config = points[0]
    seconds: dict[str, dict[tuple[int, float], None]] = {"rollout": {}, "train": {}}
    sampled = trained = completions = 0.0
    for path in sorted(Path(config.outputs_dir).glob(f"*/{CONFIG}")):
        batch = _completions_per_step(path, config)
        for line in lines_of(path.parent) if batch else []:
            metrics = line.metrics
            if "time/train_s" not in metrics or "train/completion_tokens" not in metrics:
                continue
            tokens = metrics["train/completion_tokens"] * batch
            trained, completions = trained + tokens, completions + batch
            seconds["train"][line.step, metrics["time/train_s"]] = None
            if "time/rollout_s" in metrics:
                sampled += tokens
                seconds["rollout"][line.step, metrics["time/rollout_s"]] = None
    spent = {name: sum(second for _, second in found) for name, found in seconds.items()}
    return Speed(
        sampled / spent["rollout"] if spent["rollout"] else None,
        trained / spent["train"] if spent["train"] else None,
        trained / completions if completions else None,
    )


def _completions_per_step(path: Path, config: RunConfig) -> int:
    """Completions in a step of a recorded run; 0 for one of another model or task."""
    described: Any = yaml.safe_load(path.read_text())
    settings = described.get("scientific", {}) if isinstance(described, dict) else {}
    if (settings.get("model", {}).get("name"), settings.get("task", {}).get("name")) != (
        config.model.identity,
        config.task.name,
    ):
        return 0
    algorithm = settings.get("algorithm", {})
    return int(algorithm.get("prompts", 0)) * int(algorithm.get("samples", 1))
