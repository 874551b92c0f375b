"""The figures of runs that belong to no item: accuracy by size, and training by step, for one model and task."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from analysis.drawing import style
from analysis.drawing.curves import curve_figure
from analysis.drawing.panels import Label, label_right, labels_height, panels_below, percent_axis, size_axis
from analysis.page import tables
from analysis.page.formats import FigureFile, figure_file
from analysis.statistics.cells import UNTRAINED, VALIDATION, curve
from analysis.statistics.grid import in_order
from analysis.statistics.measured import TEST

CURVES = {
    "train/reward": ("reward", "Training reward"),
    "train/completion_tokens": ("length", "Length of the sampled training responses"),
}
"""Metrics drawn against the step: name of the file, and words of the caption."""
MOST_PANELS = 8  # of a figure against the step: what a reader can still compare


@dataclass(frozen=True)
class Sweep:
    """The cells of one model and task, and what their figures are called."""

    cells: pd.DataFrame
    settings: tuple[str, ...]
    title: str
    suffix: str
    """Of the file names, where there are several models or tasks."""
    formats: tuple[str, ...]


def accuracy_by_size(sweep: Sweep, base: pd.DataFrame, axis: str) -> FigureFile | None:
    """Test accuracy against trained parameters; None where no cell has any."""
    cells = sweep.cells
    chosen = cells[cells["chosen"] & (cells["method"] != UNTRAINED)]
    shown = chosen.groupby("line").filter(lambda line: line[TEST].notna().any())
    if shown.empty:
        return None
    figure = accuracy_figure(_label_lines(shown), base, axis, sweep.title + _alike(shown))
    caption = (
        f"Sampled strict test accuracy against trained parameters. Dashed grey: the untrained model. {_seeds(shown)} "
        f"{_items(sweep.settings, cells)}A line breaks where a cell is missing."
    )
    data = tables.accuracy_data(cells, base, sweep.settings)
    return figure_file(f"accuracy{sweep.suffix}", figure, data, sweep.formats, caption)


def metric_by_step(sweep: Sweep, runs: pd.DataFrame, history: pd.DataFrame, metric: str) -> FigureFile | None:
    """A metric of `CURVES` against the step; None where no GRPO run has it."""
    cells = sweep.cells[sweep.cells["chosen"] & (sweep.cells["algorithm.name"] == "grpo")]
    curves = curve(runs[runs["cell"].isin(cells["cell"])], history, metric)
    if curves["mean"].isna().all():
        return None
    cells = cells.assign(**style.size_looks(cells["trained_values"], cells["method"]))
    columns = ["cell", "line", "method", "precision", "trained_values", "colour", "curve_label"]
    curves = curves.merge(tables.sort_rows(cells, sweep.settings)[columns], on="cell", how="right")
    name, what = CURVES[metric]
    caption = f"{what} at each step (GRPO). Labels: trained parameters; a darker line has more. {_seeds(cells)}"
    lines = cells.groupby("line")[VALIDATION].max().sort_values(ascending=False, kind="stable").index
    if len(lines) > MOST_PANELS:
        caption += f" Drawn: the {MOST_PANELS} of {len(lines)} lines that are best on validation; the CSV has all."
    figure = curve_figure(curves[curves["line"].isin(lines[:MOST_PANELS])], metric, sweep.title)
    return figure_file(f"{name}{sweep.suffix}", figure, tables.curve_data(curves), sweep.formats, caption)


def _label_lines(cells: pd.DataFrame) -> pd.DataFrame:
    """Add colour and label; lines of one method and precision get shades and are named by what differs."""
    label = "extra" if _alike(cells) else "line"
    shades: dict[tuple[str, str], str] = {}
    for method, group in cells.groupby("method"):
        extras = in_order(group["extra"].unique())
        shades |= {(method, e): style.lighten(method, i / max(1, len(extras) - 1)) for i, e in enumerate(extras)}
    colours = [shades[key] for key in zip(cells["method"], cells["extra"], strict=True)]
    return cells.assign(colour=colours, line_label=cells[label])


def _alike(cells: pd.DataFrame) -> str:
    """For the title: the method and precision of all lines, where they differ in neither but in something else."""
    pairs = cells[["method", "precision"]].drop_duplicates()
    return f", {pairs.iloc[0, 0]} {pairs.iloc[0, 1]}" if len(pairs) == 1 and cells["extra"].any() else ""


def _seeds(cells: pd.DataFrame) -> str:
    fewest, most = int(cells["seeds"].min()), int(cells["seeds"].max())
    if most == 1:
        return "One run per cell, so no intervals."
    count = f"{most}" if fewest == most else f"{fewest} to {most}"
    single = "; a single run has none" if fewest == 1 else ""
    return f"Mean over {count} runs with its 95% interval{single}."


def _items(settings: tuple[str, ...], cells: pd.DataFrame) -> str:
    if "eval.test_items" not in settings or cells["eval.test_items"].nunique() != 1:
        return ""
    items = int(cells["eval.test_items"].iloc[0])
    return f"{items} test problems: their choice alone gives a standard error of up to {50 / items**0.5:.1f} points. "


def draw_accuracy(cells: pd.DataFrame, base: pd.DataFrame, axis: str, ax: Axes) -> Axes:
    """Accuracy against trained parameters, a line per `line`, with its `line_label` and `colour`.

    A line is broken at a value of `axis` (the setting that moves along lines) that its method has, but it has not.
    """
    labels: list[Label] = []
    for (method, _), line in cells.groupby(["method", "line"], sort=True):
        points = line.sort_values("trained_values")
        if axis:
            values = in_order(cells.loc[cells["method"] == method, axis].unique())
            points = points.set_index(axis).reindex(values).reset_index()
            points = points.iloc[::-1] if axis == "n_tie" else points
        labels.append(_draw_line(points, ax))
    _scale_accuracy(cells, base, ax)
    right = ax.get_xlim()[1]
    for row in base.to_dict("records"):
        for manner in ("greedy", "sampled"):
            if not math.isnan(row[manner]):
                ax.axhline(row[manner], zorder=1, **style.BASE_STYLE)
                text = f"untrained, {manner}" + (f", {row['extra']}" if row["extra"] else "")
                labels.append((right, row[manner], text, style.MUTED))
    label_right(labels, ax)
    return ax


def _draw_line(points: pd.DataFrame, ax: Axes) -> Label:
    """Draw one line; its label belongs to its last point."""
    known = points[points[TEST].notna()]
    last = known.loc[known["trained_values"].idxmax()]
    colour, precision = last["colour"], last["precision"]
    marker = style.MARKERS.get(precision, "D")
    look: dict[str, Any] = {"color": colour, "linestyle": style.LINE_STYLES.get(precision, "solid"), "marker": marker}
    inside = colour if precision == "fp32" else style.PAPER
    ax.plot(points["trained_values"], points[TEST], markerfacecolor=inside, zorder=3, **look)
    bars = (known[name] for name in ("trained_values", f"{TEST} low", f"{TEST} high"))
    ax.vlines(*bars, color=colour, alpha=0.55, zorder=2, linewidth=2.4)
    return float(last["trained_values"]), float(last[TEST]), last["line_label"], colour


def _scale_accuracy(cells: pd.DataFrame, base: pd.DataFrame, ax: Axes) -> None:
    size_axis(sorted(cells["trained_values"].unique()), 1.5, ax)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    percent_axis(ax)
    values = pd.concat([cells[[TEST, f"{TEST} low", f"{TEST} high"]].stack(), base[["greedy", "sampled"]].stack()])
    margin = max(0.02, 0.05 * (values.max() - values.min()))
    ax.set_ylim(max(values.min() - margin, -0.02), min(values.max() + margin, 1.02))
    ax.set_xlabel("trained parameters")


def accuracy_figure(cells: pd.DataFrame, base: pd.DataFrame, axis: str, title: str) -> Figure:
    """Accuracy against trained parameters of one model and task."""
    texts = [*cells["line_label"].unique(), *["untrained, sampled"] * 2 * len(base)]
    with style.applied():
        figure, (ax,) = panels_below(1, max(3.2, labels_height(texts)), title, "test accuracy (sampled, strict)")
        draw_accuracy(cells, base, axis, ax)
    return figure
