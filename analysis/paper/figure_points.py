"""Our cells and the paper's values as points of a figure, and what every figure of the paper is made into (`Made`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pandas as pd
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.lines import LOOK, Level, Look, Scale, lines_figure, look_columns
from analysis.options import SIZE_LABELS
from analysis.statistics.measured import GREEDY, TEST
from analysis.statistics.selection import Part, untrained_score

FLEXIBLE = "final test/sampled_flexible"
ACCURACY = "test accuracy (sampled, strict)"
HOLLOW = f"{ACCURACY}; hollow: the paper's values"
ACCURACIES = {"mean": TEST, "low": f"{TEST} low", "high": f"{TEST} high", "flexible": FLEXIBLE, "greedy": GREEDY}
OF_CELLS = {"n_seeds": f"{TEST} n", "draws": "draws", "lr": "lr", "rates_tried": "rates", "rate_at_edge": "edge"}
NUMBERS = ACCURACIES | OF_CELLS | {"trained_values": "trained_values"}
"""Of a point, and the columns of its cell that hold them."""


@dataclass(frozen=True)
class Made:
    """What was made of a part."""

    figure: Figure | None
    data: pd.DataFrame
    """The numbers behind the figure."""
    table: pd.DataFrame | None = None
    """What people read; the cells of the part where there is none."""
    notes: list[str] = field(default_factory=list)


Maker = Callable[[Part], Made]


def accuracy_figure(part: Part, points: pd.DataFrame, levels: list[Level], scales: dict[str, Scale]) -> Made:
    """A panel for each scale with the points of its name; the subtitle says where some are the paper's."""
    published = bool(points["paper"].any())
    cells = points["cell"].dropna().unique() if "cell" in points else []
    draws = {int(cell): list(map(float, part.of(cell).scores)) for cell in cells}
    subtitle = HOLLOW if published else ACCURACY
    figure = lines_figure(points, levels, scales, part.title, subtitle, draws=draws)
    return Made(figure, data_of(points, levels))


def size_scale(part: Part) -> Scale:
    """The axis of sizes: trained parameters, or what was asked for."""
    return Scale(SIZE_LABELS[part.x])


def points_of(
    cells: pd.DataFrame, x: pd.Series, panel: str, series: Sequence[str], looks: Sequence[Look]
) -> pd.DataFrame:
    """Cells as points of lines, with all that their table shows; `series` names each cell's line, on the figure too."""
    place = {"panel": panel, "series": series, "label": series, "x": x.astype(float).to_numpy()}
    numbers = {name: cells[column].to_numpy() for name, column in NUMBERS.items()}
    return pd.DataFrame({**place, "cell": cells["cell"].to_numpy(), **numbers, "paper": False, **look_columns(looks)})


def with_paper(
    ours: pd.DataFrame, table: pd.DataFrame, x: pd.Series, panel: str, looks: Sequence[Look]
) -> pd.DataFrame:
    """Our points and, below them, the published accuracies of `table` at these places, which are all that is known."""
    if table.empty:
        return ours
    names = [style.ADAPTER_NAMES.get(adapter, "") for adapter in table["adapter"]]
    theirs = pd.DataFrame(
        {
            "panel": panel,
            "series": names,
            "label": "",
            "x": x.astype(float).to_numpy(),
            "mean": table["value"].to_numpy(),
            "trained_values": table["trained_values"].to_numpy(),
            "paper": True,
            "confidence": table["confidence"].to_numpy(),
            **look_columns(looks),
        }
    )
    return pd.concat([ours, theirs], ignore_index=True)


def data_of(points: pd.DataFrame, levels: list[Level]) -> pd.DataFrame:
    """The numbers of a figure without its looks, levels last."""
    lines = pd.DataFrame([{"panel": at.panel, "series": at.label, "mean": at.value, "paper": False} for at in levels])
    return pd.concat([points.drop(columns=["label", "cell", *LOOK], errors="ignore"), lines], ignore_index=True)


def untrained_levels(part: Part, panel: str, model: str | None = None) -> list[Level]:
    """The untrained model's accuracy: by its own run, or step 0 of the trained ones."""
    value = untrained_score(part, TEST, model)
    return [] if math.isnan(value) else [Level(panel, value, "untrained")]
