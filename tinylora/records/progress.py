"""What a pack tells of its progress, whoever shows it; and the short names of its lanes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from tinylora.settings.config import AUTO, RunConfig, flatten

SINGLE = ("u", "precision", "seed")
"""What the label of a run without company names."""


@dataclass(frozen=True)
class LaneProgress:
    """How far a lane is."""

    label: str
    step: int
    steps: int
    reward: float | None = None
    """Mean reward of the last step; None where there is none (SFT, before the first step)."""
    tokens: float | None = None
    """Mean response length of the last step, in tokens."""
    state: str = "training"
    """`training`, `finished`, `failed`, ..."""


class Progress(AbstractContextManager["Progress", None], Protocol):
    """Shows what happens; entered before the first report and left after the last."""

    def phase(self, text: str, share: float | None = None) -> None:
        """What happens now: "loading miniature-qwen2"; of what takes long also the share that is done, 0 to 1."""

    def warn(self, text: str) -> None:
        """What a person should know at once, and still see at the end; of one or more lines."""

    def lanes(self, lanes: Sequence[LaneProgress], seconds_left: float | None) -> None:
        """Where the lanes are, and how long the pack still takes (None: not known yet)."""


class Silent(Progress):
    """Progress that nobody watches."""

    def __exit__(self, *error: object) -> None:
        pass

    def phase(self, text: str, share: float | None = None) -> None:
        """Say nothing."""

    def warn(self, text: str) -> None:
        """Say nothing."""

    def lanes(self, lanes: Sequence[LaneProgress], seconds_left: float | None) -> None:
        """Say nothing."""


def labels(configs: Sequence[RunConfig]) -> list[str]:
    """A short name for each point: the settings that vary among them; u, precision and seed where none does."""
    points = [_named_settings(config) for config in configs]
    names = _varying(points) or list(SINGLE)
    return [" ".join(_part(name, point[name]) for name in names if name in point) for point in points]


def _named_settings(config: RunConfig) -> dict[str, Any]:
    settings = flatten(config.scientific()) | {"lr": config.lr}
    if not config.trains:
        unused = ("lr", "seed", "steps", "algorithm.name")
        return {name: value for name, value in settings.items() if name not in unused}
    if config.projection_seed == AUTO:
        settings.pop("projection_seed", None)
    if config.lr == AUTO:
        settings["model.lr_constant"] = config.model.lr_constants[config.lr_key]
    return settings


def _varying(points: Sequence[dict[str, Any]]) -> list[str]:
    """The settings that vary; those of a group only where they vary under one name of it (between two GRPO runs)."""
    varying = []
    for name in dict.fromkeys(name for point in points for name in point):
        group, _, leaf = name.rpartition(".")
        values = defaultdict(set)
        for point in (point for point in points if name in point):
            owner = point.get(f"{group}.name") if leaf != "name" else None
            values[owner].add(point.get(name))
        if any(len(of_owner) > 1 for of_owner in values.values()):
            varying.append(name)
    return varying


def _part(name: str, value: Any) -> str:
    return str(value) if name == "precision" else f"{name.removesuffix('.name')}={value}"
