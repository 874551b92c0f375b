"""Figures of lines with intervals, panel below panel: what most figures of the paper are.

A frame of points says all: `panel`, `series`, `label`, `x`, `mean`, `low`, `high`, and the look (`colour`, `linestyle`,
`marker`). Points with `paper` true are published values: hollow, never joined with ours. A line is broken before points
with `after_gap` true, where there is such a column.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from analysis.drawing import style
from analysis.drawing.panels import Label, label_right, labels_height, panels_below, percent_axis, size_axis

Draws = Mapping[int, Sequence[float]]
"""By the `cell` of a point, the scores of the runs whose mean it is."""
NONE: Draws = {}
LOOK = ("colour", "linestyle", "marker")
Look = tuple[str, Any, str]
"""Of a line: its colour, line style (as matplotlib takes it) and marker."""
DECADES = 3.5  # from this span on, ticks are powers of ten
PLACE_CHARACTERS = 46  # that fit below a panel, side by side
ASIDE = 0.008  # of the width, between the points of two lines at one place
HEIGHT = 2.6  # inches of a panel, unless its labels need more


@dataclass(frozen=True)
class Scale:
    """A horizontal axis: logarithmic, or (with `places`) one place for each setting."""

    label: str
    places: tuple[str, ...] = ()


@dataclass(frozen=True)
class Level:
    """A horizontal line across a panel, such as the untrained model."""

    panel: str
    value: float
    label: str
    colour: str = style.MUTED
    linestyle: Any = style.BASE_STYLE["linestyle"]


def look_columns(looks: Sequence[Look]) -> dict[str, list[Any]]:
    """The columns of `LOOK` for points with these looks."""
    return {name: [look[place] for look in looks] for place, name in enumerate(LOOK)}


def lines_figure(
    points: pd.DataFrame,
    levels: list[Level],
    scales: dict[str, Scale],
    title: str,
    subtitle: str,
    percent: bool = True,
    draws: Draws = NONE,
) -> Figure:
    """One panel for each scale, in its order; panels have one vertical axis. `draws` are behind the means."""
    texts = [_texts(points[points["panel"] == panel], levels, panel) for panel in scales]
    height = max(HEIGHT if len(scales) == 1 else 2.1, *(labels_height(of_panel) for of_panel in texts))
    with style.applied():
        different = len({scale.label for scale in scales.values()}) > 1
        named = [_place_names(scale) for scale in scales.values()]
        bottom = 0.5 + 0.16 * max((name.count("\n") for names in named for name in names), default=0)
        between = 0.75 if different else 0.5
        figure, axes = panels_below(len(scales), height, title, subtitle, between, bottom)
        limits = _limits(points, levels, percent, [score for scores in draws.values() for score in scores])
        for (panel, scale), ax in zip(scales.items(), axes, strict=True):
            ax.set_ylim(*limits)
            own = points[points["panel"] == panel]
            _scale(own if different else points, scale, ax)
            _draw(own, [level for level in levels if level.panel == panel], draws, ax)
            if percent:
                percent_axis(ax)
            ax.set_title(panel if len(scales) > 1 else "")
            ax.set_xlabel(scale.label if different or ax is axes[-1] else "")
    return figure


def _texts(points: pd.DataFrame, levels: list[Level], panel: str) -> list[str]:
    return [*points["label"].unique(), *(level.label for level in levels if level.panel == panel)]


def _limits(points: pd.DataFrame, levels: list[Level], percent: bool, scores: list[float]) -> tuple[float, float]:
    others = pd.Series([level.value for level in levels] + scores, dtype=float)
    values = pd.concat([points[["mean", "low", "high"]].stack(), others])
    values = values.astype(float).dropna()
    margin = max(0.02 if percent else 0.0, 0.06 * (values.max() - values.min())) or 1.0
    low, high = values.min() - margin, values.max() + margin
    return (max(low, -0.02), min(high, 1.02)) if percent else (low, high)


def _scale(points: pd.DataFrame, scale: Scale, ax: Axes) -> None:
    if scale.places:
        ax.set_xlim(-0.3, len(scale.places) - 0.7)
        ax.set_xticks(range(len(scale.places)), _place_names(scale))
        return
    sizes = sorted(points["x"].unique())
    size_axis(sizes, 1.6, ax)
    wide = math.log10(sizes[-1] / sizes[0]) > DECADES
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value, from_k=1e3 if wide else 1e4)))
    if wide:
        ax.xaxis.set_major_locator(LogLocator(10, numticks=7))


def _place_names(scale: Scale) -> list[str]:
    return [textwrap.fill(place, PLACE_CHARACTERS // len(scale.places)) for place in scale.places]


def short_number(value: float, from_k: float = 1e3) -> str:
    """1, 13, 1k, 12.5k, 51.4M: a count that fits below a tick."""
    for least, size, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (from_k, 1e3, "k")):
        if value >= least:
            return f"{value / size:.3g}{letter}"
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _draw(points: pd.DataFrame, levels: list[Level], draws: Draws, ax: Axes) -> None:
    labels: list[Label] = []
    lines = [line for _, line in points[~points["paper"]].groupby("series", sort=False)]
    for place, line in enumerate(lines):
        line = line.sort_values("x", kind="stable")
        x = _aside(line["x"], place - (len(lines) - 1) / 2, ax)
        first, known = line.iloc[0], line["mean"].notna()
        colour, low, high = first["colour"], line["low"].astype(float), line["high"].astype(float)
        for cell, at in zip(line.get("cell", []), x, strict=False):
            scores = draws.get(cell, ())
            ax.plot([at] * len(scores), scores, color=colour, linestyle="none", zorder=1, **style.DRAWS)
        gaps = np.flatnonzero(line["after_gap"]) if "after_gap" in line else np.array([], dtype=int)
        path = [np.insert(column.to_numpy(dtype=float), gaps, math.nan) for column in (x, line["mean"])]
        ax.plot(*path, color=colour, linestyle=first["linestyle"], marker=first["marker"], zorder=3)
        ax.vlines(x, low, high, color=colour, alpha=0.5, linewidth=1.4, zorder=2)
        if known.any() and first["label"]:
            labels.append((float(x[known].iloc[-1]), float(line["mean"][known].iloc[-1]), first["label"], colour))
    hollow: dict[str, Any] = {"linestyle": "none", "markerfacecolor": style.PAPER, "zorder": 2.5}
    for (colour, marker), group in points[points["paper"]].groupby(["colour", "marker"]):
        ax.plot(group["x"], group["mean"], marker=marker, markeredgecolor=colour, **hollow)
    right = ax.get_xlim()[1]
    for level in levels:
        if not math.isnan(level.value):
            ax.axhline(
                level.value, zorder=1, **style.BASE_STYLE | {"color": level.colour, "linestyle": level.linestyle}
            )
            labels.append((right, level.value, level.label, level.colour))
    label_right(labels, ax)


def _aside(x: pd.Series, places: float, ax: Axes) -> pd.Series:
    """The points moved a little sideways, so that the intervals of several lines do not cover each other."""
    low, high = ax.get_xlim()
    if ax.get_xscale() == "log":
        return x * (high / low) ** (ASIDE * places)
    return x + (high - low) * ASIDE * places
