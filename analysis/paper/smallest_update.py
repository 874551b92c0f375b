"""Figure 3: the smallest update that reaches a share of the best accuracy, by model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from analysis.drawing import style
from analysis.drawing.lines import Scale, lines_figure, look_columns, short_number
from analysis.paper import published as paper
from analysis.paper.figure_points import Made
from analysis.statistics import compare
from analysis.statistics.bootstrap import nearest_interval, resampled_means
from analysis.statistics.measured import TEST
from analysis.statistics.selection import Part
from analysis.statistics.text import GAP

SHARES = (0.9, 0.95, 0.975)
HEIGHT = "smallest update that is nearly the best: trained parameters"


def smallest_updates(part: Part) -> Made:
    """A line for each share, a place on the axis for each model, from the smallest model to the largest."""
    found = [update for model in part.models for update in _updates_of(part, model)]
    table = pd.DataFrame(found).sort_values(["parameters", "share"], kind="stable", ignore_index=True)
    models = tuple(dict.fromkeys(table["model"]))
    published = _published_updates(part)
    scales = {"": Scale("model, by size", models)}
    figure = lines_figure(_points(table, published, models), [], scales, part.title, HEIGHT, percent=False)
    with style.applied():
        _count_axis(figure)
    return Made(figure, table, _updates_table(table, published))


def _updates_of(part: Part, model: str) -> Iterator[dict[str, Any]]:
    """For each share the smallest size of a model that reaches it, with its interval over resampled seeds."""
    cells = part.cells[(part.cells["model.name"] == model) & part.cells[TEST].notna()].sort_values("trained_values")
    if cells.empty:
        return
    sizes = cells["trained_values"].to_numpy(dtype=float)
    groups = [part.of(cell) for cell in cells["cell"]]
    means = np.array([[cell.scores.mean() for cell in groups]])
    several = min(len(cell.scores) for cell in groups) > 1
    resampled = resampled_means(groups) if several else np.empty((0, len(groups)))
    for share in SHARES:
        low, high = nearest_interval(compare.smallest_reaching(sizes, resampled, share))
        yield {
            "model": model,
            "parameters": float(cells["model.parameters"].iloc[0]),
            "share": share,
            "size": float(compare.smallest_reaching(sizes, means, share)[0]),
            "low": low,
            "high": high,
            "sizes_tried": len(sizes),
        }


def _percent(share: float) -> str:
    return f"{100 * share:g}%"


def _points(ours: pd.DataFrame, published: pd.DataFrame, models: tuple[str, ...]) -> pd.DataFrame:
    """Points with the logarithm of the size as height."""
    frames = []
    for theirs, frame in ((False, ours), (True, published)):
        frame = frame[frame["model"].isin(models)]
        if frame.empty:
            continue
        logs = np.log10(frame[["size", "low", "high"]].astype(float))
        names = [_percent(share) for share in frame["share"]]
        looks = [style.look_of_place(SHARES.index(share), len(SHARES)) for share in frame["share"]]
        labels, places = [f"{name} of best" for name in names], [models.index(model) for model in frame["model"]]
        points = logs.rename(columns={"size": "mean"}).assign(panel="", series=names, label=labels, x=places)
        frames.append(points.assign(paper=theirs, **look_columns(looks)))
    return pd.concat(frames, ignore_index=True).astype({"paper": bool})


def _count_axis(figure: Figure) -> None:
    """The height is a logarithm; its ticks are counts."""
    ax = figure.axes[0]
    low, high = ax.get_ylim()
    ax.set_yticks([tick for tick in range(math.floor(low), math.ceil(high) + 1) if low <= tick <= high])
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(10.0**value)))  # a tick may be an integer


def _published_updates(part: Part) -> pd.DataFrame:
    table = paper.values_of(part.item, part.models, part.task)
    shares = table["metric"].str.extract(r"reach ([0-9.]+) x", expand=False).astype(float)
    return table[["model"]].assign(share=shares, size=table["value"], low=np.nan, high=np.nan)


def _updates_table(table: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    theirs = published.set_index(["model", "share"])["size"]
    ends = zip(table["low"], table["high"], strict=True)
    keys = zip(table["model"], table["share"], strict=True)
    return pd.DataFrame(
        {
            "model": table["model"],
            "share of best": table["share"].map(_percent),
            "smallest update": table["size"].map("{:,.0f}".format),
            "95% interval": [GAP if low != low else f"{low:,.0f} to {high:,.0f}" for low, high in ends],
            "sizes tried": table["sizes_tried"].map(str),
            "paper": [f"{theirs[key]:,.0f}" if key in theirs.index else "" for key in keys],
        }
    )
