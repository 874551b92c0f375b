"""Figures of accuracy by the number of trained values: the paper's 1, 2, 4 and 6, and the study of a real model."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.drawing import style
from analysis.drawing.lines import Level, Look, Scale
from analysis.options import SIZE_LABELS
from analysis.paper import published as paper
from analysis.paper.figure_points import (
    Made,
    accuracy_figure,
    points_of,
    size_scale,
    untrained_levels,
    with_paper,
)
from analysis.paper.ratios import best_of_each_size
from analysis.statistics.cells import ALGORITHM_NAMES, END_BIAS, VALIDATION
from analysis.statistics.measured import TEST
from analysis.statistics.selection import Part
from analysis.statistics.text import show

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


def accuracy_by_size(part: Part) -> Made:
    """Figures 1 and 2: accuracy by trained parameters, a line for each adapter, full fine-tuning as a level."""
    points = _by_adapter(part, part.cells, "")
    levels = untrained_levels(part, "") + _full_levels(part.cells, "")
    return accuracy_figure(part, points, levels, {"": size_scale(part)})


def by_backbone(part: Part) -> Made:
    """Figure 6: the same, a panel for each model."""
    points, levels = [], []
    for model in part.models:
        own = part.cells[part.cells["model.name"] == model]
        points.append(_by_adapter(part, own, model))
        levels += untrained_levels(part, model, model) + _full_levels(own, model)
    scales = {model: size_scale(part) for model in part.models}
    return accuracy_figure(part, pd.concat(points, ignore_index=True), levels, scales)


def _by_adapter(part: Part, cells: pd.DataFrame, panel: str) -> pd.DataFrame:
    """Points of one model: a series for each adapter; TinyLoRA with several values per group stands apart."""
    cells = cells[cells["adapter.name"] != "full"]
    adapter = cells["adapter.name"]
    names = [style.ADAPTER_NAMES[cell["adapter.name"]] + _apart(cell) for cell in cells.to_dict("records")]
    ours = points_of(cells, x=cells[part.x], panel=panel, series=names, looks=[_adapter_look(kind) for kind in adapter])
    table = paper.accuracies(part.item, list(cells["model.name"].unique()), part.task)
    table = table[table["adapter"].isin(["tinylora", "lora_xs", "lora"])]
    looks = [_adapter_look(kind) for kind in table["adapter"]]
    return with_paper(ours, table, table["trained_values"], panel, looks) if part.x == "trained_values" else ours


def _apart(cell: dict[str, Any]) -> str:
    """What a TinyLoRA cell with several values per group has behind its name: they are not of one line with u=1."""
    if cell["adapter.name"] != "tinylora" or cell.get("u", 1) == 1:
        return ""
    return ", all tied" if cell.get("n_tie") == "all" else f" u={show(cell['u'])}"


def _adapter_look(adapter: str) -> Look:
    return style.ADAPTER_COLOURS[adapter], "solid", style.ADAPTER_MARKERS[adapter]


def _full_levels(cells: pd.DataFrame, panel: str) -> list[Level]:
    """Full fine-tuning, if it was run: a level, for its size would leave no room for the others."""
    own = cells[cells["adapter.name"] == "full"]
    colour = style.ADAPTER_COLOURS["full"]
    name, dash = style.ADAPTER_NAMES["full"], style.FULL_STYLE
    return [Level(panel, float(value), name, colour, dash) for value in own[TEST] if value == value]


def precision_and_sharing(part: Part) -> Made:
    """Figure 4: by trained values and, below, by the bytes that they take; line style = precision."""
    cells, frames = part.cells, []
    table = paper.accuracies(part.item, part.models, part.task)
    kinds = list(zip(cells["sharing"], cells["precision"], strict=True))
    names, looks = [" ".join(kind) for kind in kinds], [_bits_look(*kind) for kind in kinds]
    by_size = f"by {SIZE_LABELS[part.x]}"
    for panel, column in ((by_size, part.x), ("by bytes of the update", "trained_bytes")):
        ours = points_of(cells, x=cells[column], panel=panel, series=names, looks=looks)
        sizes = table["precision"].map(BYTES).astype(float) if column == "trained_bytes" else 1
        theirs = list(map(_bits_look, table["sharing"], table["precision"]))
        drawn = column != "degrees_of_freedom"
        frames.append(with_paper(ours, table, table["trained_values"] * sizes, panel, theirs) if drawn else ours)
    points = pd.concat(frames, ignore_index=True)
    scales = {by_size: size_scale(part), "by bytes of the update": Scale("bytes")}
    levels = [level for panel in scales for level in untrained_levels(part, panel)]
    return accuracy_figure(part, points, levels, scales)


def by_bits(part: Part) -> Made:
    """Accuracy by the bits of the update, a line for each precision and way of rounding."""
    cells = part.cells.sort_values("trained_bits")
    rounding = cells["rounding"].map(show) if "rounding" in cells else pd.Series("", index=cells.index)
    kinds = list(zip(cells["precision"], rounding.replace("nearest", ""), strict=True))
    names, places = [" ".join(filter(None, kind)) for kind in kinds], sorted(set(kinds))
    looks = [style.look_of_place(places.index(kind), len(places)) for kind in kinds]
    points = points_of(cells, x=cells["trained_bits"], panel="", series=names, looks=looks)
    return accuracy_figure(part, points, untrained_levels(part, ""), {"": Scale("bits of the update")})


def by_control(part: Part) -> Made:
    """Controls: accuracy by trained values, a line for what was rewarded, and one for random search.

    Of several updates of a size the best. Where the untrained model ran with a bias of its end tokens, a level shows
    the bias that is best on validation.
    """
    cells, frames = part.cells.assign(control=_controls(part.cells)), []
    for place, name in enumerate(kinds := sorted(cells["control"].unique())):
        own = best_of_each_size(cells[cells["control"] == name])
        looks = [style.look_of_place(place, len(kinds))] * len(own)
        frames.append(points_of(own, x=own[part.x], panel="", series=[name] * len(own), looks=looks))
    points = pd.concat(frames, ignore_index=True)
    levels = untrained_levels(part, "") + _biased_levels(part.biased)
    return accuracy_figure(part, points, levels, {"": size_scale(part)})


OF_GRPO_ALONE = ("algorithm.kl_coefficient", "algorithm.importance_cap")
"""Settings of GRPO that random search does not have."""


def _controls(cells: pd.DataFrame) -> list[str]:
    """Of each cell the name of its line; where runs of GRPO differ in settings of its own, with these."""
    grpo = cells[cells["algorithm.name"] == "grpo"]
    apart = [name for name in OF_GRPO_ALONE if name in grpo and grpo[name].nunique(dropna=False) > 1]
    names = []
    for cell in cells.to_dict("records"):
        if cell["algorithm.name"] != "grpo":
            names.append(ALGORITHM_NAMES[cell["algorithm.name"]])
            continue
        others = [f"{name.partition('.')[2]}={show(cell[name])}" for name in apart]
        names.append(", ".join([f"reward: {show(cell.get('algorithm.reward', '')) or 'correct'}", *others]))
    return names


def _biased_levels(cells: pd.DataFrame) -> list[Level]:
    """The untrained model at that bias of its end tokens, of those tried, which is best on validation."""
    judged = cells[cells[VALIDATION].notna() & cells[TEST].notna()]
    best = judged.sort_values(VALIDATION, ascending=False, kind="stable")[:1]
    rows = best.to_dict("records")
    return [Level("", float(row[TEST]), f"untrained, end bias {show(row[END_BIAS])}") for row in rows]


def _bits_look(sharing: str, precision: str) -> Look:
    return _kind_look("GRPO" if sharing == "tiled" else "SFT foreign", precision, sharing)


def by_algorithm_and_precision(part: Part) -> Made:
    """The study: colour = algorithm, line style = precision; other marks for structured sharing."""
    kinds = [_kind(cell) for cell in part.cells.to_dict("records")]
    names = [" ".join(word for word in kind if word != "tiled") for kind in kinds]
    points = points_of(
        part.cells, x=part.cells[part.x], panel="", series=names, looks=[_kind_look(*kind) for kind in kinds]
    )
    levels = untrained_levels(part, "")
    return accuracy_figure(part, points, levels, {"": size_scale(part)})


def _kind(cell: dict[str, Any]) -> tuple[str, str, str]:
    """Method, precision and sharing, which has a meaning only where not everything is tied."""
    algorithm = str(cell["algorithm.name"])
    manner = cell.get("task.demonstrations")
    manner = f" {manner}" if algorithm == "sft" and not pd.isna(manner) else ""
    sharing = "tiled" if cell.get("n_tie") == "all" else str(cell.get("sharing", "tiled"))
    return ALGORITHM_NAMES.get(algorithm, algorithm) + manner, str(cell["precision"]), sharing


def _kind_look(method: str, precision: str, sharing: str) -> Look:
    markers = style.MARKERS if sharing == "tiled" else style.STRUCTURED_MARKERS
    return style.colour(method), style.LINE_STYLES.get(precision, "solid"), markers.get(precision, "P")
