"""Leaving out those points of a preset that do not fit the model, such as one that is smaller than the paper's.

There is no basis of a higher rank than the model's narrowest linear map. And where n_tie is more than the maps (tiled)
or blocks (structured) of the model, all are tied, which the preset has as `n_tie=all`, too. Outside of presets such
points are errors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tinylora.models.find import path_folder
from tinylora.models.shapes import adapted_shapes, shape_of_folder
from tinylora.settings.config import ALL, ModelConfig, RunConfig, ShapeConfig, Sharing


def fitting(points: Sequence[RunConfig]) -> tuple[list[RunConfig], list[str]]:
    """The points without those of presets that do not fit their model, and a sentence for each reason."""
    kept, left_out = [], Counter[str]()
    for point in points:
        reason = misfit(point) if point.paper is not None else None
        if reason is None:
            kept.append(point)
        else:
            left_out[f"{point.paper} on {point.model.identity}: {reason}"] += 1
    return kept, [f"{reason}: {count} points left out" for reason, count in left_out.items()]


def shape_of(model: ModelConfig) -> ShapeConfig | None:
    """The sizes of a model that are known without loading it."""
    return shape_of_folder(path_folder(model.path)) if model.path is not None else model.shape


def misfit(point: RunConfig) -> str | None:
    """Why a point does not fit its model; None where it does, or where its sizes are not known."""
    shape = shape_of(point.model)
    if shape is None or not point.adapter.name.has_basis:
        return None
    maps = adapted_shapes(shape)
    narrowest = min(min(module.d_out, module.d_in) for module in maps)
    if point.rank > narrowest:
        return f"rank={point.rank} is beyond its narrowest map ({narrowest})"
    tied = len(maps) if point.sharing is Sharing.tiled else shape.blocks
    if point.n_tie != ALL and int(point.n_tie) > tied:
        what = "maps" if point.sharing is Sharing.tiled else "blocks"
        return f"n_tie={point.n_tie} sharing={point.sharing.value} is beyond its {tied} {what}"
    return None
