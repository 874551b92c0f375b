"""The study of a small real model: accuracy by trained parameters, a line for each algorithm, precision and sharing."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.drawing import style
from analysis.drawing.lines import Scale, lines_figure
from analysis.numbers.selection import Part
from analysis.paper.figures import ACCURACY, SIZE_LABEL, Made, data_of, points_of, untrained_levels


def by_algorithm_and_precision(part: Part) -> Made:
    """Colour = algorithm, line style = precision; other marks for structured sharing."""
    kinds = [_kind(cell) for cell in part.cells.to_dict("records")]
    names = [" ".join(word for word in kind if word != "tiled") for kind in kinds]
    points = points_of(
        part.cells,
        x=part.cells["trained_values"],
        panel="",
        series=names,
        labels=names,
        looks=[_look(*kind) for kind in kinds],
    )
    levels = untrained_levels(part, "")
    figure = lines_figure(points, levels, {"": Scale(SIZE_LABEL)}, part.title, ACCURACY)
    return Made(figure, data_of(points, levels))


def _kind(cell: dict[str, Any]) -> tuple[str, str, str]:
    """Method, precision and sharing, which has a meaning only where not everything is tied."""
    algorithm = str(cell["algorithm.name"])
    manner = cell.get("task.demonstrations")
    manner = f" {manner}" if algorithm == "sft" and not pd.isna(manner) else ""
    sharing = "tiled" if cell.get("n_tie") == "all" else str(cell.get("sharing", "tiled"))
    return algorithm.upper() + manner, str(cell["precision"]), sharing


def _look(method: str, precision: str, sharing: str) -> tuple[str, Any, str]:
    markers = style.MARKERS if sharing == "tiled" else style.STRUCTURED_MARKERS
    return style.colour(method), style.LINE_STYLES.get(precision, "solid"), markers.get(precision, "P")
