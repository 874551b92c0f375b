"""The fixed look of every figure: colour = method, line and marker = precision.

Shades of a colour tell lines of one method apart: by trained parameters, or by a further setting. Colours are the
colour-blind-safe set of Okabe and Ito. `INK`, `MUTED` and `PAPER` occur nowhere else in a figure, so the report can
swap them for the colours of the reader's light or dark page.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.colors import to_hex, to_rgb

INK = "#1b1e24"
MUTED = "#767d88"
PAPER = "#fefefe"

METHOD_COLOURS = {
    "GRPO": "#0072b2",
    "SFT own": "#e69f00",
    "SFT foreign": "#d55e00",
    "LoRA-XS GRPO": "#009e73",
    "LoRA GRPO": "#cc79a7",
    "full GRPO": "#56b4e9",
}
OTHER_COLOUR = "#999999"
LINE_STYLES: dict[str, Any] = {"fp32": "solid", "bf16": (0, (5, 2)), "fp16": (0, (1, 1.4))}
MARKERS = {"fp32": "o", "bf16": "s", "fp16": "^"}
STRUCTURED_MARKERS = {"fp32": "D", "bf16": "X", "fp16": "v"}  # told apart in grey, too
BASE_STYLE: dict[str, Any] = {"color": MUTED, "linewidth": 1.0, "linestyle": (0, (8, 4))}

FULL_STYLE: Any = (0, (2, 1.5))
"""Dash of the level of full fine-tuning, unlike that of the untrained model."""
DRAWS: dict[str, Any] = {"marker": "_", "markersize": 4, "markeredgewidth": 0.7, "alpha": 0.45}
"""Of the single draws behind a mean."""

WIDTH = 4.7  # inches: readable when a phone shrinks the figure to its width
FONT_SIZE = 9.0
LABEL_SIZE = 8.5
LABEL_SPACE = 1.45  # inches right of the axes, for the labels of the lines

SETTINGS: Any = {
    "font.family": "DejaVu Sans",
    **dict.fromkeys(("font.size", "axes.labelsize", "axes.titlesize"), FONT_SIZE),
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.labelcolor", "ytick.labelcolor"), INK),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), MUTED),
    **dict.fromkeys(("figure.facecolor", "savefig.facecolor"), PAPER),
    "axes.facecolor": "none",
    **dict.fromkeys(("axes.spines.top", "axes.spines.right"), False),
    "axes.titlelocation": "left",
    "text.parse_math": False,  # a `$` in a name is a dollar
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "svg.fonttype": "none",  # text stays text: small files, searchable, takes the page's colours
    "svg.hashsalt": "tinylora",  # the same records give the same bytes
}


def applied() -> AbstractContextManager[None]:
    """Inside, figures look as `SETTINGS` say and as Matplotlib has it by default, whatever the user has set."""
    defaults = {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}
    context: AbstractContextManager[None] = matplotlib.rc_context(defaults | SETTINGS)
    return context


def colour(method: str) -> str:
    """The colour of a method."""
    return METHOD_COLOURS.get(method, OTHER_COLOUR)


def shade_of_size(method: str, size: float, smallest: float, largest: float) -> str:
    """The method's colour, lightened for few trained parameters: the logarithm of the count sets the shade."""
    span = math.log(largest / smallest) if largest > smallest else 0.0
    return lighten(method, 1 - math.log(size / smallest) / span if span else 0.0)


def size_looks(sizes: pd.Series, methods: pd.Series) -> dict[str, list[str]]:
    """Columns for curves of cells with these numbers of trained values: `colour` and `curve_label`."""
    ends = sizes.min(), sizes.max()
    shades = [shade_of_size(method, size, *ends) for method, size in zip(methods, sizes, strict=True)]
    return {"colour": shades, "curve_label": [f"{size:,.0f}" for size in sizes]}


def lighten(method: str, amount: float) -> str:
    """The method's colour itself (0) up to its lightest shade (1)."""
    lightness = 0.6 * amount
    red, green, blue = (part + (1 - part) * lightness for part in to_rgb(colour(method)))
    return to_hex((red, green, blue))


ADAPTER_COLOURS = {
    "tinylora": METHOD_COLOURS["GRPO"],
    "lora_xs": METHOD_COLOURS["LoRA-XS GRPO"],
    "lora": METHOD_COLOURS["LoRA GRPO"],
    "full": "#444a53",
}
ADAPTER_NAMES = {"tinylora": "TinyLoRA", "lora_xs": "LoRA-XS", "lora": "LoRA", "full": "full fine-tuning"}
ADAPTER_MARKERS = {"tinylora": "o", "lora_xs": "D", "lora": "^", "full": "s"}
SERIES_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""Of lines of one method, which shades alone would not tell apart in grey."""


def look_of_place(place: int, count: int) -> tuple[str, Any, str]:
    """Colour, line style and marker of one of `count` lines of GRPO; the last has the full colour."""
    shade = lighten("GRPO", 1 - place / max(1, count - 1))
    return shade, "solid", SERIES_MARKERS[place % len(SERIES_MARKERS)]
