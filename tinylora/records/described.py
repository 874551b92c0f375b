"""What MLflow is told of a run: its name, its parameters and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinylora.records.measured import WARNINGS
from tinylora.settings.choices import Adapter
from tinylora.settings.config import RunConfig, flatten

TIED = ("n_tie", "sharing")
SIZES: dict[Adapter, tuple[str, ...]] = {
    Adapter.tinylora: ("u", *TIED),
    Adapter.lora_xs: ("rank", *TIED),
    Adapter.lora: ("rank",),
}
"""The settings that say how large an update is, by adapter; others have none."""
PLAIN = {"n_tie": "all", "sharing": "tiled"}
"""What a name leaves out."""

LONGEST_TAG = 5000  # characters, of all versions of MLflow


def name_of(config: RunConfig) -> str:
    """The name of a run in MLflow's own pages: short, and another one for another point of most sweeps.

    Nothing reads it.
    """
    settings = flatten(config.scientific())
    words = [config.model.identity, config.task.name, config.algorithm.name.value]
    words += [config.adapter.name.value] if config.adapter.name is not Adapter.tinylora else []
    sizes = {name: str(settings[name]) for name in SIZES.get(config.adapter.name, ()) if name in settings}
    words += [f"{name}={value}" for name, value in sizes.items() if value != PLAIN.get(name)]
    rate = [f"lr={config.learning_rate:.3g}"] if config.trains else []
    return " ".join([*words, config.precision.value, *rate, f"seed={config.seed}"])


def parameters(config: RunConfig, provenance: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a run: its scientific settings by dotted name, its recipe, and its provenance.

    What has no value is left out: MLflow would show it as "None", or as nothing.
    """
    origin = {name: value for name, value in provenance.items() if name != "scale_model"}
    every = flatten(config.scientific()) | {"recipe": config.recipe} | origin
    return {name: value for name, value in every.items() if value is not None and value != ""}


def tags_of(config: RunConfig, status: str, reason: str | None, warnings: Sequence[str]) -> dict[str, str | None]:
    """How a run ended; a tag without a text, which is not to be there, is None."""
    tags = {"status": status, "label": name_of(config)}
    return tags | {"reason": reason or None, WARNINGS: "\n".join(warnings)[:LONGEST_TAG] or None}
