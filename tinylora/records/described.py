"""What MLflow is told of a run: its name and its parameters."""

from __future__ import annotations

from typing import Any

from tinylora.settings.config import RunConfig, flatten


def name_of(config: RunConfig) -> str:
    """The name of a run in MLflow's own pages; nothing reads it."""
    what = f"{config.model.identity} {config.task.name} {config.algorithm.name.value}"
    return f"{what} u={config.u} {config.precision.value} seed={config.seed}"


def parameters(config: RunConfig, provenance: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a run: its scientific settings by dotted name, its recipe, and its provenance."""
    origin = {name: value for name, value in provenance.items() if name != "scale_model"}
    return flatten(config.scientific()) | {"recipe": config.recipe} | origin
