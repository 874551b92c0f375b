"""Figures of metrics against the step: a line and its band for each size, panel below panel.

A frame of curves says all: `step`, `mean`, `low`, `high`, and for each `cell` its `precision`, `curve_label`, `colour`.
"""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.drawing import style
from analysis.drawing.panels import Label, label_right, labels_height, panels_below

CURVE_LABELS = {
    "train/reward": "reward: share of the sampled answers that are right",
    "train/completion_tokens": "mean response length in tokens",
    "train/prob_diff": "mean probability difference, trainer and sampler",
}


def draw_curves(curves: pd.DataFrame, ax: Axes) -> Axes:
    """Draw one line and one band for each `cell` on `ax`, and return it."""
    labels: list[Label] = []
    for _, points in curves.groupby("cell", sort=False):
        first = points.iloc[0]
        dashes = style.LINE_STYLES.get(first["precision"], "solid")
        ax.plot(points["step"], points["mean"], color=first["colour"], linestyle=dashes)
        ax.fill_between(points["step"], points["low"], points["high"], color=first["colour"], alpha=0.18, linewidth=0)
        known = points[points["mean"].notna()]
        if len(known):
            end = known.iloc[-1]
            labels.append((float(end["step"]), float(end["mean"]), first["curve_label"], first["colour"]))
    steps = curves["step"]
    if steps.notna().any():  # else no run of this panel has the metric
        ax.set_xlim(steps.min(), max(steps.max(), steps.min() + 1))
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    label_right(labels, ax)
    return ax


def metrics_figure(curves: pd.DataFrame, title: str, labels: str) -> Figure:
    """Several training metrics against the step: a panel with a scale of its own for each `metric`.

    `labels` says below the title what the labels of the curves are.
    """
    metrics = list(curves["metric"].unique())
    texts = list(curves["curve_label"].unique())
    with style.applied():
        figure, panels = panels_below(len(metrics), max(1.7, labels_height(texts)), title, f"labels: {labels}")
        for metric, ax in zip(metrics, panels, strict=True):
            own = curves[curves["metric"] == metric]
            draw_curves(own, ax)
            power = math.floor(math.log10(own["mean"].abs().max() or 1))
            unit = 10.0**power if power < -1 else 1.0
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _, unit=unit: f"{value / unit:.4g}"))
            ax.set_title(CURVE_LABELS[metric] + (f", times {unit:g}" if unit < 1 else ""))
        panels[-1].set_xlabel("step")
    return figure
