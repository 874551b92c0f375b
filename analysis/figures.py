"""The figures. Each `draw_*` takes a tidy frame and an `Axes`, draws on it and returns it; `*_figure` lays them out."""

from __future__ import annotations

import io
import math
import textwrap
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator, PercentFormatter

from analysis import style
from analysis.grid import in_order
from analysis.stats import TEST

Label = tuple[float, float, str, str]
"""Of a line: x and y of its last point, text, colour."""

LABEL_WIDTH = 19  # characters before a line label is wrapped
CURVE_LABELS = {
    "train/reward": "reward: share of the sampled answers that are right",
    "train/completion_tokens": "mean response length in tokens",
}


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
    _label_right(labels, ax)
    return ax


def _draw_line(points: pd.DataFrame, ax: Axes) -> Label:
    """Draw one line; its label belongs to its last point."""
    known = points[points[TEST].notna()]
    last = known.loc[known["trained_values"].idxmax()]
    colour, precision = last["colour"], last["precision"]
    marker = style.MARKERS.get(precision, "D")
    ax.plot(points["trained_values"], points[TEST], color=colour, linestyle=style.LINE_STYLES.get(precision, "solid"),
            marker=marker, markerfacecolor=colour if precision == "fp32" else style.PAPER, zorder=3)  # fmt: skip
    ax.vlines(known["trained_values"], known[f"{TEST} low"], known[f"{TEST} high"], color=colour, alpha=0.55, zorder=2,
              linewidth=2.4)  # fmt: skip
    return float(last["trained_values"]), float(last[TEST]), last["line_label"], colour


def _scale_accuracy(cells: pd.DataFrame, base: pd.DataFrame, ax: Axes) -> None:
    sizes = sorted(cells["trained_values"].unique())
    ax.set_xscale("log")
    ax.set_xlim(sizes[0] / 1.5, sizes[-1] * 1.5) if len(sizes) > 1 else ax.set_xlim(sizes[0] / 4, sizes[0] * 4)
    ax.xaxis.set_major_locator(FixedLocator(_readable_ticks(sizes)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    values = pd.concat([cells[[TEST, f"{TEST} low", f"{TEST} high"]].stack(), base[["greedy", "sampled"]].stack()])
    margin = max(0.02, 0.05 * (values.max() - values.min()))
    ax.set_ylim(max(values.min() - margin, -0.02), min(values.max() + margin, 1.02))
    ax.grid(axis="y", color=style.MUTED, alpha=0.2, linewidth=0.6)
    ax.set_xlabel("trained parameters")


def _readable_ticks(sizes: list[float]) -> list[float]:
    """The sizes themselves, without those that would touch their neighbour's label."""
    span = math.log(sizes[-1] / sizes[0]) + math.log(2.25)
    room = (
        (style.WIDTH - style.LABEL_SPACE - 0.5) / span if span else math.inf
    )  # inches of axis per unit of the logarithm
    ticks = [sizes[-1]]
    for size in reversed(sizes[:-1]):
        if math.log(ticks[-1] / size) * room > 0.042 * (len(f"{size:,.0f}") + len(f"{ticks[-1]:,.0f}")) + 0.08:
            ticks.append(size)
    return ticks[::-1]


def draw_curves(curves: pd.DataFrame, ax: Axes) -> Axes:
    """A metric against the step: one line and band per `cell`, labelled with `curve_label`, coloured with `colour`."""
    labels: list[Label] = []
    for _, points in curves.groupby("cell", sort=False):
        first = points.iloc[0]
        ax.plot(points["step"], points["mean"], color=first["colour"],
                linestyle=style.LINE_STYLES.get(first["precision"], "solid"))  # fmt: skip
        ax.fill_between(points["step"], points["low"], points["high"], color=first["colour"], alpha=0.18, linewidth=0)
        known = points[points["mean"].notna()]
        if len(known):
            end = known.iloc[-1]
            labels.append((float(end["step"]), float(end["mean"]), first["curve_label"], first["colour"]))
    steps = curves["step"]
    ax.set_xlim(steps.min(), max(steps.max(), steps.min() + 1))
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.grid(axis="y", color=style.MUTED, alpha=0.2, linewidth=0.6)
    _label_right(labels, ax)
    return ax


def _label_right(labels: list[Label], ax: Axes) -> None:
    """Write labels right of the axes, moved apart where they would overlap, with a leader to their points."""
    if not labels:
        return
    low, high = ax.get_ylim()
    ax.set_ylim(low, high)
    points = 72 * ax.get_position().height * ax.figure.bbox.height / ax.figure.dpi
    line_height = style.LABEL_SIZE * 1.2 * (high - low) / points
    labels = sorted(labels, key=lambda label: label[1])
    texts = [textwrap.fill(text, LABEL_WIDTH) for _, _, text, _ in labels]
    sizes = np.array([(text.count("\n") + 1.25) * line_height for text in texts])
    places = _spread(np.array([y for _, y, _, _ in labels]), sizes, low, high)
    for (x, y, _, colour), text, place in zip(labels, texts, places, strict=True):
        ink = style.MUTED if colour == style.MUTED else style.INK
        ax.annotate(text, xy=(x, y), xytext=(1.06, place),
                    textcoords=ax.get_yaxis_transform(), va="center", fontsize=style.LABEL_SIZE, color=ink,
                    annotation_clip=False,
                    arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.8, "alpha": 0.7, "shrinkA": 1,
                                "shrinkB": 3, "relpos": (0, 0.5)})  # fmt: skip


def _spread(heights: np.ndarray[Any, Any], sizes: np.ndarray[Any, Any], low: float, high: float) -> list[float]:
    """Places near the sorted heights where labels of these sizes do not overlap, inside low..high if they fit."""
    places: list[float] = []
    floor = -math.inf
    for height, size in zip(heights, sizes, strict=True):
        places.append(max(height, floor + size / 2, low + size / 2))
        floor = places[-1] + size / 2
    ceiling = high
    for i in reversed(range(len(places))):
        places[i] = min(places[i], ceiling - sizes[i] / 2)
        ceiling = places[i] - sizes[i] / 2
    return places


def accuracy_figure(cells: pd.DataFrame, base: pd.DataFrame, axis: str, title: str) -> Figure:
    """Accuracy against trained parameters of one model and task."""
    texts = [*cells["line_label"].unique(), *["untrained, sampled"] * 2 * len(base)]
    with matplotlib.rc_context(style.SETTINGS):
        figure, (ax,) = _panels(1, max(3.2, _labels_height(texts)), title, "test accuracy (greedy, strict)")
        draw_accuracy(cells, base, axis, ax)
    return figure


def curve_figure(curves: pd.DataFrame, metric: str, title: str) -> Figure:
    """A training metric against the step: one panel per line of the accuracy figure, all on one scale."""
    lines = list(curves.groupby("line", sort=False))
    texts = max((list(line["curve_label"].unique()) for _, line in lines), key=len)
    with matplotlib.rc_context(style.SETTINGS):
        figure, panels = _panels(len(lines), max(2.0, _labels_height(texts)), title, CURVE_LABELS[metric])
        values = curves[["mean", "low", "high"]]
        low, high = values.min().min(), values.max().max()
        margin = 0.05 * ((high - low) or 1.0)
        for (name, line), ax in zip(lines, panels, strict=True):
            ax.set_ylim(low - margin, high + margin)
            draw_curves(line, ax)
            ax.set_title(name)
        panels[-1].set_xlabel("step")
    return figure


def _labels_height(texts: list[str]) -> float:
    """Inches that these labels need, one below the other."""
    lines = sum(textwrap.fill(text, LABEL_WIDTH).count("\n") + 1.35 for text in texts)
    return lines * style.LABEL_SIZE * 1.2 / 72


def _panels(count: int, height: float, title: str, subtitle: str) -> tuple[Figure, list[Axes]]:
    """Axes of this height in inches, one below the other, with room for titles, tick labels and line labels."""
    top, between, bottom = 0.5 if count == 1 else 0.7, 0.5, 0.5
    total = top + count * height + (count - 1) * between + bottom
    figure = Figure(figsize=(style.WIDTH, total))
    axes = figure.subplots(count, 1, squeeze=False)[:, 0]
    figure.subplots_adjust(left=0.5 / style.WIDTH, right=1 - style.LABEL_SPACE / style.WIDTH, bottom=bottom / total,
                           top=1 - top / total, hspace=between / height)  # fmt: skip
    figure.text(0.05 / style.WIDTH, 1 - 0.06 / total, title, va="top", fontweight="bold")
    figure.text(0.05 / style.WIDTH, 1 - 0.25 / total, subtitle, va="top")
    return figure, list(axes)


def render(figure: Figure, kind: str) -> bytes:
    """The bytes of a figure as `svg`, `pdf` or `png`, without a date."""
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    with matplotlib.rc_context(style.SETTINGS):
        figure.savefig(buffer, format=kind, metadata=metadata, dpi=150)
    return buffer.getvalue()
