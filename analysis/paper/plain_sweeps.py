"""What no other item shows, one model and task at a time: accuracy by trained parameters, and training by step.

Settings may differ in anything here, so lines are apart in all that does: nothing unlike is averaged or joined.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd

from analysis.drawing import style
from analysis.drawing.lines import Level, Look
from analysis.paper.figure_points import Made, accuracy_figure, data_of, points_of, size_scale
from analysis.paper.training_curves import SIZES, curves_of, made_of
from analysis.statistics.cells import VALIDATION, base_accuracy, name_lines
from analysis.statistics.grid import in_order, varying_within
from analysis.statistics.measured import TEST
from analysis.statistics.selection import Part

MOST_CURVES = 12
"""Of a panel: what a reader can still tell apart."""
APART_BY = ("method", "precision", "extra")
"""Columns of cells on lines, which together tell the lines apart."""


def accuracy(part: Part) -> Made:
    """Accuracy by trained parameters; a line is broken where it has no cell, but others of its method have."""
    cells, axis = name_lines(part.cells, part.settings)
    cells = cells.assign(x=cells[part.x].astype(float)).sort_values(["line", "x"], kind="stable")
    labels, alike = _labels(cells)
    points = points_of(cells, cells["x"], "", cells["line"], _looks(cells))
    shown = [name for name in varying_within(cells, part.settings) if name not in points]
    settings = {name: cells[name].to_numpy() for name in ("method", "precision", "trained_bytes", *shown)}
    points = points.assign(label=labels, **settings)
    levels = _untrained_levels(part)
    if points["mean"].isna().all():
        return Made(None, data_of(points, levels))
    drawn = points.assign(after_gap=_after_gaps(cells, axis).to_numpy())
    figure = accuracy_figure(_titled(part, alike), drawn, levels, {"": size_scale(part)}).figure
    return Made(figure, data_of(points, levels), notes=_notes(part, bool(drawn["after_gap"].any())))


def training(part: Part) -> Made:
    """Reward and what else is recorded at each step, a curve for each cell; the CSV has those that are not drawn."""
    cells, _ = name_lines(part.cells, part.settings)
    labels, alike = _labels(cells)
    looks = style.size_looks(cells["trained_values"], cells["method"])
    several = cells["line"].nunique() > 1
    names = [f"{size}, {label}" if several else size for size, label in zip(looks["curve_label"], labels, strict=True)]
    cells = cells.assign(**looks | {"curve_label": names}).sort_values(["trained_values", "line"], kind="stable")
    curves = curves_of(part, cells)
    if curves.empty:
        return Made(None, curves)
    few = _few(cells)
    more = f"Drawn: {len(few)} of {len(cells)} cells, of the lines that are best on validation; the CSV has all."
    what = f"{SIZES}, and what differs" if several else SIZES
    drawn = curves[curves["cell"].isin(few)]
    made = made_of(_titled(part, alike), curves, drawn, what, ["line"] if several else [])
    return replace(made, notes=[more] if len(few) < len(cells) else [])


def _few(cells: pd.DataFrame) -> list[int]:
    """The cells of the lines that are best on validation, as far as whole lines have room; of a longer line some."""
    best = cells.groupby("line")[VALIDATION].max().sort_values(ascending=False, kind="stable").index
    chosen: list[int] = []
    for line in best:
        own = list(cells.loc[cells["line"] == line, "cell"])[::-1]
        if chosen and len(chosen) + len(own) > MOST_CURVES:
            break
        chosen += own
    return chosen[:: math.ceil(len(chosen) / MOST_CURVES)]


def _titled(part: Part, alike: list[str]) -> Part:
    return replace(part, title=", ".join([part.title, *alike]))


def _labels(cells: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Of each cell what tells its line apart, and what all lines have alike; the label of a single line is its name."""
    apart = [name for name in APART_BY if cells[name].nunique() > 1]
    alike = [str(cells[name].iloc[0]) for name in APART_BY[:2] if len(cells) and apart and name not in apart]
    texts = [", ".join(filter(None, words)) for words in cells[apart].to_numpy().tolist()]
    return [text or line for text, line in zip(texts, cells["line"], strict=True)], alike


def _looks(cells: pd.DataFrame) -> list[Look]:
    """Colour = method, line style = precision; lines that differ in more have shades and markers of their own."""
    found = {}
    for method, group in cells.groupby("method", sort=True):
        ways = {(extra, precision): _way(extra, precision) for extra, precision in _pairs(group)}
        places = sorted(set(ways.values()))
        for (extra, precision), way in ways.items():
            place = places.index(way)
            colour = style.lighten(str(method), place / max(1, len(places) - 1))
            own = style.MARKERS.get(precision, "D")
            marker = own if len(places) == 1 else style.SERIES_MARKERS[place % len(style.SERIES_MARKERS)]
            found[method, extra, precision] = colour, style.LINE_STYLES.get(precision, "solid"), marker
    return [found[key] for key in zip(cells["method"], cells["extra"], cells["precision"], strict=True)]


def _pairs(cells: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(cells["extra"], cells["precision"], strict=True))


def _way(extra: str, precision: str) -> tuple[str, str]:
    """What a line's shade and marker stand for: what its line style does not say."""
    return extra, "" if precision in style.LINE_STYLES else precision


def _after_gaps(cells: pd.DataFrame, axis: str) -> pd.Series:
    """Of cells in the order of their lines: whether a line lacks a value of `axis` between a cell and the last one."""
    if not axis:
        return pd.Series(False, index=cells.index)
    places = pd.Series(0, index=cells.index)
    for _, group in cells.groupby("method"):
        values = in_order(group[axis].unique())
        places[group.index] = group[axis].map(values.index)
    steps: pd.Series = places.groupby(cells["line"]).diff().abs()
    return steps > 1


def _untrained_levels(part: Part) -> list[Level]:
    """The untrained model's sampled accuracy, for each setting that changes it."""
    rows = base_accuracy(part.runs).to_dict("records")
    found = [(", ".join(filter(None, ("untrained", row["extra"]))), float(row["sampled"])) for row in rows]
    return [Level("", value, name) for name, value in found if not math.isnan(value)]


def _notes(part: Part, gaps: bool) -> list[str]:
    sizes = part.cells.loc[part.cells[TEST].notna(), "eval.test_items"] if "eval.test_items" in part.cells else None
    said = []
    if sizes is not None and sizes.nunique() == 1:
        items = int(sizes.iloc[0])
        error = f"their choice alone gives a standard error of up to {50 / items**0.5:.1f} points"
        said.append(f"{items} test problems: {error}.")
    return said + (["A line is broken where a cell is missing."] if gaps else [])
