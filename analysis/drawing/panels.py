"""What all figures share: panels of one width, labels beside their lines, readable ticks, bytes without a date."""

from __future__ import annotations

import io
import math
import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from analysis.drawing import style

Label = tuple[float, float, str, str]
"""Of a line: x and y of its last point, text, colour."""

LABEL_WIDTH = 19  # characters before a line label is wrapped
TITLE_WIDTH = 50  # the same of a title, which is bold
TITLE_LINE = 0.19  # inches


def readable_ticks(sizes: list[float]) -> list[float]:
    """The sizes themselves, without those that would touch their neighbour's label."""
    span = math.log(sizes[-1] / sizes[0]) + math.log(2.25)
    inches = style.WIDTH - style.LABEL_SPACE - 0.5
    room = inches / span if span else math.inf  # inches of axis per unit of the logarithm
    ticks = [sizes[-1]]
    for size in reversed(sizes[:-1]):
        if math.log(ticks[-1] / size) * room > 0.042 * (len(f"{size:,.0f}") + len(f"{ticks[-1]:,.0f}")) + 0.08:
            ticks.append(size)
    return ticks[::-1]


def size_axis(sizes: list[float], margin: float, ax: Axes) -> None:
    """A logarithmic axis with ticks at the (sorted) sizes, from the first over `margin` to the last times it."""
    margin = margin if len(sizes) > 1 else 4
    ax.set_xscale("log")
    ax.set_xlim(sizes[0] / margin, sizes[-1] * margin)
    ax.xaxis.set_major_locator(FixedLocator(readable_ticks(sizes)))
    ax.xaxis.set_minor_locator(LogLocator(10, subs=range(2, 10), numticks=99))
    ax.xaxis.set_minor_formatter(NullFormatter())


def percent_axis(ax: Axes) -> None:
    """Heights that are shares, as per cent; ticks at whole numbers where there is room for several."""
    ax.yaxis.set_major_locator(MaxNLocator(9, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}%"))


def label_right(labels: list[Label], ax: Axes) -> None:
    """Write labels right of the axes, moved apart where they would overlap, with a leader to their points."""
    if not labels:
        return
    low, high = ax.get_ylim()
    ax.set_ylim(low, high)
    points = 72 * ax.get_position().height * ax.figure.bbox.height / ax.figure.dpi
    line_height = style.LABEL_SIZE * 1.2 * (high - low) / points
    labels = sorted(labels, key=lambda label: label[1])
    leader = {"arrowstyle": "-", "linewidth": 0.8, "shrinkA": 1, "shrinkB": 3, "relpos": (0, 0.5)}
    leader |= {"linestyle": ":", "color": style.MUTED}  # nothing that could be taken for data
    texts = [textwrap.fill(text, LABEL_WIDTH) for _, _, text, _ in labels]
    sizes = np.array([(text.count("\n") + 1.25) * line_height for text in texts])
    places = _spread(np.array([y for _, y, _, _ in labels]), sizes, low, high)
    for (x, y, _, colour), text, place in zip(labels, texts, places, strict=True):
        ink = style.MUTED if colour == style.MUTED else style.INK
        ax.annotate(
            text,
            xy=(x, y),
            xytext=(1.06, place),
            textcoords=ax.get_yaxis_transform(),
            va="center",
            fontsize=style.LABEL_SIZE,
            color=ink,
            annotation_clip=False,
            arrowprops=leader,
        )


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


def labels_height(texts: list[str]) -> float:
    """Inches that these labels need, one below the other."""
    lines = sum(textwrap.fill(text, LABEL_WIDTH).count("\n") + 1.35 for text in texts)
    return lines * style.LABEL_SIZE * 1.2 / 72


def panels_below(
    count: int, height: float, title: str, subtitle: str, between: float = 0.5, bottom: float = 0.5
) -> tuple[Figure, list[Axes]]:
    """Axes of this height in inches, one below the other, with room for titles, tick labels and line labels."""
    lines = textwrap.wrap(title, TITLE_WIDTH, break_on_hyphens=False)
    more = TITLE_LINE * (len(lines) - 1)
    top = (0.5 if count == 1 else 0.7) + more
    total = top + count * height + (count - 1) * between + bottom
    figure = Figure(figsize=(style.WIDTH, total))
    axes = figure.subplots(count, 1, squeeze=False)[:, 0]
    figure.subplots_adjust(
        left=0.5 / style.WIDTH,
        right=1 - style.LABEL_SPACE / style.WIDTH,
        bottom=bottom / total,
        top=1 - top / total,
        hspace=between / height,
    )
    for ax in axes:
        ax.grid(axis="y", color=style.MUTED, alpha=0.2, linewidth=0.6)
    figure.text(0.05 / style.WIDTH, 1 - 0.06 / total, "\n".join(lines), va="top", fontweight="bold")
    figure.text(0.05 / style.WIDTH, 1 - (0.25 + more) / total, subtitle, va="top")
    return figure, list(axes)


def render(figure: Figure, kind: str) -> bytes:
    """The bytes of a figure as `svg`, `pdf` or `png`, without a date."""
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    with style.applied():
        figure.savefig(buffer, format=kind, metadata=metadata, dpi=150)
    return buffer.getvalue()
