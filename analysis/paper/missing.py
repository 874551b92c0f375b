"""What of an item's grid has not been run: the points of its preset that have no cell."""

from __future__ import annotations

import math

import pandas as pd

from analysis.paper.conf_files import DEFAULTS, points, shape_of
from analysis.statistics.text import show
from tinylora.models.shapes import adapted_shapes


def missing_points(preset: str, cells: pd.DataFrame, model: str) -> list[str]:
    """The points of a preset that fit a model and have no cell, in words."""
    own = cells[cells["model.name"] == model]
    models = {name for name, _ in points(preset)}
    wanted = [point for name, point in points(preset) if name == model or model not in models]
    have = {_key({name: show(row.get(name)) for name in ("adapter.name", *DEFAULTS)}) for row in own.to_dict("records")}
    lacking = []
    for point in wanted:
        if _key(point) not in have and _fits(point, own, model):
            lacking.append(_words(point))
    return list(dict.fromkeys(lacking))


def _key(point: dict[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset((name, value) for name, value in point.items() if value and name != "adapter")


def _fits(point: dict[str, str], cells: pd.DataFrame, model: str) -> bool:
    """Whether ties and rank are within the model, as far as its sizes are known."""
    shape = shape_of(model)
    modules = float(cells["modules"].iloc[0]) if "modules" in cells and len(cells) else math.nan
    tie = point.get("n_tie", "all")
    tied = modules / 7 if point.get("sharing") == "structured" else modules
    if tie != "all" and int(tie) > tied:
        return False
    narrowest = min(min(module.d_out, module.d_in) for module in adapted_shapes(shape)) if shape else math.inf
    has_basis = point["adapter.name"] in ("tinylora", "lora_xs")
    return not (has_basis and int(point["rank"]) > narrowest)


def _words(point: dict[str, str]) -> str:
    words = [f"{name}={value}" for name, value in point.items() if name != "adapter.name" and value != DEFAULTS[name]]
    return " ".join([point["adapter.name"], *words])
