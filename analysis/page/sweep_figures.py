"""The figures. Each `draw_*` takes a tidy frame and an `Axes`, draws on it and returns it; `*_figure` lays them out."""

from __future__ import annotations

import math

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from analysis.drawing import style
from analysis.drawing.panels import Label, label_right, labels_height, panels_below, percent_axis, readable_ticks
from analysis.numbers.cells import TEST
from analysis.numbers.grid import in_order

CURVE_LABELS = {
    "train/reward": "reward: share of the sampled answers that are right",
    "train/completion_tokens": "mean response length in tokens",
    "train/prob_diff": "mean probability difference, trainer and sampler",
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
    label_right(labels, ax)
    return ax


def _draw_line(points: pd.DataFrame, ax: Axes) -> Label:
    """Draw one line; its label belongs to its last point."""
    known = points[points[TEST].notna()]
    last = known.loc[known["trained_values"].idxmax()]
    colour, precision = last["colour"], last["precision"]
    marker = style.MARKERS.get(precision, "D")
    ax.plot(
        points["trained_values"],
        points[TEST],
        color=colour,
        linestyle=style.LINE_STYLES.get(precision, "solid"),
        marker=marker,
        markerfacecolor=colour if precision == "fp32" else style.PAPER,
        zorder=3,
    )
    ax.vlines(
        known["trained_values"],
        known[f"{TEST} low"],
        known[f"{TEST} high"],
        color=colour,
        alpha=0.55,
        zorder=2,
        linewidth=2.4,
    )
    return float(last["trained_values"]), float(last[TEST]), last["line_label"], colour


def _scale_accuracy(cells: pd.DataFrame, base: pd.DataFrame, ax: Axes) -> None:
    sizes = sorted(cells["trained_values"].unique())
    ax.set_xscale("log")
    ax.set_xlim(sizes[0] / 1.5, sizes[-1] * 1.5) if len(sizes) > 1 else ax.set_xlim(sizes[0] / 4, sizes[0] * 4)
    ax.xaxis.set_major_locator(FixedLocator(readable_ticks(sizes)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    percent_axis(ax)
    values = pd.concat([cells[[TEST, f"{TEST} low", f"{TEST} high"]].stack(), base[["greedy", "sampled"]].stack()])
    margin = max(0.02, 0.05 * (values.max() - values.min()))
    ax.set_ylim(max(values.min() - margin, -0.02), min(values.max() + margin, 1.02))
    ax.grid(axis="y", color=style.MUTED, alpha=0.2, linewidth=0.6)
    ax.set_xlabel("trained parameters")


def draw_curves(curves: pd.DataFrame, ax: Axes) -> Axes:
    """A metric against the step: one line and band per `cell`, labelled with `curve_label`, coloured with `colour`."""
    labels: list[Label] = []
    for _, points in curves.groupby("cell", sort=False):
        first = points.iloc[0]
        ax.plot(
            points["step"],
            points["mean"],
            color=first["colour"],
            linestyle=style.LINE_STYLES.get(first["precision"], "solid"),
        )
        ax.fill_between(points["step"], points["low"], points["high"], color=first["colour"], alpha=0.18, linewidth=0)
        known = points[points["mean"].notna()]
        if len(known):
            end = known.iloc[-1]
            labels.append((float(end["step"]), float(end["mean"]), first["curve_label"], first["colour"]))
    steps = curves["step"]
    ax.set_xlim(steps.min(), max(steps.max(), steps.min() + 1))
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.grid(axis="y", color=style.MUTED, alpha=0.2, linewidth=0.6)
    label_right(labels, ax)
    return ax


def accuracy_figure(cells: pd.DataFrame, base: pd.DataFrame, axis: str, title: str) -> Figure:
    """Accuracy against trained parameters of one model and task."""
    texts = [*cells["line_label"].unique(), *["untrained, sampled"] * 2 * len(base)]
    with matplotlib.rc_context(style.SETTINGS):
        figure, (ax,) = panels_below(1, max(3.2, labels_height(texts)), title, "test accuracy (greedy, strict)")
        draw_accuracy(cells, base, axis, ax)
    return figure


def curve_figure(curves: pd.DataFrame, metric: str, title: str) -> Figure:
    """A training metric against the step: one panel per line of the accuracy figure, all on one scale."""
    lines = list(curves.groupby("line", sort=False))
    texts = max((list(line["curve_label"].unique()) for _, line in lines), key=len)
    with matplotlib.rc_context(style.SETTINGS):
        figure, panels = panels_below(len(lines), max(2.0, labels_height(texts)), title, CURVE_LABELS[metric])
        values = curves[["mean", "low", "high"]]
        low, high = values.min().min(), values.max().max()
        margin = 0.05 * ((high - low) or 1.0)
        for (name, line), ax in zip(lines, panels, strict=True):
            ax.set_ylim(low - margin, high + margin)
            draw_curves(line, ax)
            ax.set_title(name)
        panels[-1].set_xlabel("step")
    return figure


def metrics_figure(curves: pd.DataFrame, title: str) -> Figure:
    """Several training metrics against the step: a panel with a scale of its own for each `metric`."""
    metrics = list(curves["metric"].unique())
    texts = list(curves["curve_label"].unique())
    with matplotlib.rc_context(style.SETTINGS):
        figure, panels = panels_below(len(metrics), max(1.7, labels_height(texts)), title, "labels: trained parameters")
        for metric, ax in zip(metrics, panels, strict=True):
            own = curves[curves["metric"] == metric]
            draw_curves(own, ax)
            power = math.floor(math.log10(own["mean"].abs().max() or 1))
            unit = 10.0**power if power < -1 else 1.0
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _, unit=unit: f"{value / unit:.4g}"))
            ax.set_title(CURVE_LABELS[metric] + (f", times {unit:g}" if unit < 1 else ""))
        panels[-1].set_xlabel("step")
    return figure
