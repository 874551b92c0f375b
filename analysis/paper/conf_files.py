"""What `conf/` says, read without Hydra: the points of the paper's presets, the sizes of models."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path

import yaml

from tinylora.settings.choices import Adapter
from tinylora.settings.config import ShapeConfig

CONF = Path(__file__).resolve().parents[2] / "conf"
DEFAULTS = {"adapter": "tinylora", "u": "13", "n_tie": "all", "sharing": "tiled", "precision": "fp32", "rank": "2"}
"""What a grid does not name, as `RunConfig` has it; a test holds the two against each other."""


@functools.cache
def points(preset: str) -> tuple[tuple[str, dict[str, str]], ...]:
    """The trained points of a preset, without rates and seeds: model ("" for the preset's own) and settings."""
    path = CONF / "paper" / f"{preset}.yaml"
    if not path.is_file():
        return ()
    grids = yaml.safe_load(path.read_text(encoding="utf-8"))["hydra"]["sweeper"]["grids"]
    found = []
    for grid in grids:
        values = [[(name, value.strip()) for value in str(given).split(",")] for name, given in grid.items()]
        for chosen in itertools.product(*values):
            point = DEFAULTS | {name: value for name, value in chosen if name not in ("lr", "seed")}
            model, adapter = point.pop("model", ""), Adapter(point.pop("adapter"))
            if adapter is not Adapter.none:
                kept = {name: value for name, value in point.items() if name not in adapter.unused}
                found.append((model, {"adapter.name": adapter.value, **kept}))
    return tuple(found)


@functools.cache
def shape_of(model: str) -> ShapeConfig | None:
    """The sizes of a model of `conf/model`; None for others."""
    path = CONF / "model" / f"{model}.yaml"
    if not path.is_file():
        return None
    shape = yaml.safe_load(path.read_text(encoding="utf-8")).get("shape")
    return ShapeConfig(**shape) if shape else None
