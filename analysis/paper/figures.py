"""The paper's figures from our runs: each function takes a part of an item and returns its figure and numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from analysis.drawing import style
from analysis.drawing.lines import LOOK, Level, Scale, lines_figure, short_number
from analysis.numbers import cells as stats
from analysis.numbers import compare
from analysis.numbers.cells import TEST
from analysis.numbers.grid import in_order, show
from analysis.numbers.selection import Part
from analysis.page import sweep_figures as figures
from analysis.paper import published as paper

FLEXIBLE = "final test/greedy_flexible"
ACCURACY = "test accuracy (greedy, strict)"
HOLLOW = f"{ACCURACY}; hollow: the paper's values"
SHARES = (0.9, 0.95, 0.975)
BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
SIZE_LABEL = "trained parameters"


@dataclass(frozen=True)
class Made:
    """What was made of a part."""

    figure: Figure | None
    data: pd.DataFrame
    """The numbers behind the figure."""
    table: pd.DataFrame | None = None
    """What people read; the cells of the part where there is none."""
    notes: list[str] = field(default_factory=list)


def accuracy_by_size(part: Part) -> Made:
    """Figures 1 and 2: accuracy by trained parameters, a line for each adapter, full fine-tuning as a level."""
    points = by_adapter(part, part.cells, "")
    levels = untrained_levels(part, "") + full_levels(part.cells, "")
    return _accuracy_figure(part, points, levels, {"": Scale(SIZE_LABEL)})


def by_backbone(part: Part) -> Made:
    """Figure 6: the same, a panel for each model."""
    points, levels = [], []
    for model in part.models:
        own = part.cells[part.cells["model.name"] == model]
        points.append(by_adapter(part, own, model))
        levels += untrained_levels(part, model, model) + full_levels(own, model)
    scales = {model: Scale(SIZE_LABEL) for model in part.models}
    return _accuracy_figure(part, pd.concat(points, ignore_index=True), levels, scales)


def _accuracy_figure(part: Part, points: pd.DataFrame, levels: list[Level], scales: dict[str, Scale]) -> Made:
    published = bool(points["paper"].any())
    figure = lines_figure(points, levels, scales, part.title, HOLLOW if published else ACCURACY)
    return Made(figure, data_of(points, levels))


def by_adapter(part: Part, cells: pd.DataFrame, panel: str) -> pd.DataFrame:
    """Points of one model: a series for each adapter; TinyLoRA with several values per group stands apart."""
    cells = cells[cells["adapter.name"] != "full"]
    adapter = cells["adapter.name"]
    values = cells["u"] if "u" in cells else pd.Series(np.nan, index=cells.index)
    tied = [f" u={show(u)}" if kind == "tinylora" and u != 1 else "" for kind, u in zip(adapter, values, strict=True)]
    names = [style.ADAPTER_NAMES[kind] + apart for kind, apart in zip(adapter, tied, strict=True)]
    ours = points_of(
        cells,
        x=cells["trained_values"],
        panel=panel,
        series=names,
        labels=names,
        looks=[_adapter_look(kind) for kind in adapter],
    )
    table = paper.accuracies(part.item, list(cells["model.name"].unique()), part.task)
    table = table[table["adapter"].isin(["tinylora", "lora_xs", "lora"])]
    looks = [_adapter_look(kind) for kind in table["adapter"]]
    return _with_paper(ours, table, table["trained_values"], panel, looks)


def _adapter_look(adapter: str) -> tuple[str, Any, str]:
    return style.ADAPTER_COLOURS[adapter], "solid", style.ADAPTER_MARKERS[adapter]


def untrained_levels(part: Part, panel: str, model: str | None = None) -> list[Level]:
    """The untrained model's accuracy: by its own run, or step 0 of the trained ones."""
    value = untrained_score(part, TEST, model)
    return [] if math.isnan(value) else [Level(panel, value, "untrained")]


def untrained_score(part: Part, score: str, model: str | None = None) -> float:
    """A score of the untrained model: by its own run, or step 0 of the trained ones (a mean over seeds)."""
    own, runs = part.untrained, part.runs
    if model is not None:
        own, runs = own[own["model.name"] == model], runs[runs["model.name"] == model]
    if len(own) and score in own and own[score].notna().any():
        return float(own[score].mean())
    column = score.replace("final ", "base ")
    return float(runs.groupby("seed")[column].mean().mean()) if column in runs else math.nan


def full_levels(cells: pd.DataFrame, panel: str) -> list[Level]:
    """Full fine-tuning, if it was run: a level, for its size would leave no room for the others."""
    own = cells[cells["adapter.name"] == "full"]
    colour = style.ADAPTER_COLOURS["full"]
    return [Level(panel, float(value), style.ADAPTER_NAMES["full"], colour) for value in own[TEST] if value == value]


def precision_and_sharing(part: Part) -> Made:
    """Figure 4: by trained values and, below, by the bytes that they take; line style = precision."""
    cells, frames = part.cells, []
    table = paper.accuracies(part.item, part.models, part.task)
    for panel, column in (("by trained parameters", "trained_values"), ("by bytes of the update", "trained_bytes")):
        names = [f"{sharing} {kind}" for sharing, kind in zip(cells["sharing"], cells["precision"], strict=True)]
        looks = [_bits_look(sharing, kind) for sharing, kind in zip(cells["sharing"], cells["precision"], strict=True)]
        ours = points_of(cells, x=cells[column], panel=panel, series=names, labels=names, looks=looks)
        sizes = table["precision"].map(BYTES).astype(float) if column == "trained_bytes" else 1
        theirs = [_bits_look(row["sharing"], row["precision"]) for row in table.to_dict("records")]
        frames.append(_with_paper(ours, table, table["trained_values"] * sizes, panel, theirs))
    points = pd.concat(frames, ignore_index=True)
    scales = {"by trained parameters": Scale(SIZE_LABEL), "by bytes of the update": Scale("bytes")}
    levels = [level for panel in scales for level in untrained_levels(part, panel)]
    return _accuracy_figure(part, points, levels, scales)


def _bits_look(sharing: str, precision: str) -> tuple[str, Any, str]:
    tiled = sharing == "tiled"
    colour = style.METHOD_COLOURS["GRPO" if tiled else "SFT foreign"]
    markers = style.MARKERS if tiled else style.STRUCTURED_MARKERS
    return colour, style.LINE_STYLES.get(precision, "solid"), markers.get(precision, "P")


def dynamics(part: Part) -> Made:
    """Figure 5: reward, length and difference between trainer and sampler by step, a line for each size."""
    frames, sizes = [], part.cells["trained_values"]
    looks = part.cells.assign(
        colour=[style.shade_of_size("GRPO", size, sizes.min(), sizes.max()) for size in sizes],
        curve_label=[f"{size:,.0f}" for size in sizes],
    )[["cell", "trained_values", "precision", "colour", "curve_label"]].sort_values("trained_values")
    for metric in figures.CURVE_LABELS:
        curves = stats.curve(part.runs, part.history, metric)
        if curves["mean"].notna().any():
            frames.append(curves.merge(looks, on="cell").assign(metric=metric))
    if not frames:
        return Made(None, pd.DataFrame())
    curves = pd.concat(frames, ignore_index=True)
    figure = figures.metrics_figure(curves, part.title)
    columns = ["metric", "trained_values", "precision", "step", "n", "mean", "low", "high"]
    ends = curves.sort_values("step").groupby(["metric", "trained_values"], sort=True).tail(1)
    return Made(figure, curves[columns], _ends_table(part, ends))


def _ends_table(part: Part, ends: pd.DataFrame) -> pd.DataFrame:
    """The last step's values, and the paper's where the model is the paper's."""
    ours = ends.pivot(index="trained_values", columns="metric", values="mean").reset_index()
    names = {
        "train/reward": "critic/score/mean",
        "train/completion_tokens": "response_length/mean",
        "train/prob_diff": "training/rollout_probs_diff_mean",
    }
    table = pd.DataFrame({"trained": ours["trained_values"].map("{:,.0f}".format)})
    published = paper.values_of(part.item, part.models, part.task)
    for metric, name in names.items():
        if metric not in ours:
            continue
        table[f"{metric}, last step"] = ours[metric].map("{:.4g}".format)
        own = published[published["metric"].str.startswith(name)].set_index("trained_values")["value"]
        if len(own):
            table[f"paper's {name}"] = ours["trained_values"].map(own).map(lambda v: "" if v != v else f"{v:.4g}")
    return table


def frozen_rank(part: Part) -> Made:
    """Figure 7: accuracy by the rank of the frozen basis, a line for each u, a panel for each model."""
    return _by_places(part, "rank", "u", Scale("rank r of the frozen basis"))


def ties(part: Part) -> Made:
    """Figure 8: accuracy by the number of maps that share one v, a line for each u, a panel for each model."""
    return _by_places(part, "n_tie", "u", Scale("n_tie: maps that share one v"))


def values_per_group(part: Part) -> Made:
    """Figure 9: the same grid by u, a line for each n_tie."""
    return _by_places(part, "u", "n_tie", Scale("u: trained values per group"))


def _by_places(part: Part, axis: str, series: str, scale: Scale) -> Made:
    places = [show(value) for value in in_order(part.cells[axis].unique())]
    lines = [show(value) for value in in_order(part.cells[series].unique())]
    scale = Scale(scale.label, tuple(places))
    frames = []
    for model in part.models:
        cells = part.cells[part.cells["model.name"] == model]
        names = [f"{series}={show(value)}" for value in cells[series]]
        looks = [_shade_look(show(value), lines) for value in cells[series]]
        ours = points_of(cells, cells[axis].map(show).map(places.index), model, names, names, looks)
        table = _with_tying(paper.accuracies(part.item, [model], part.task), model)
        seen = table[axis].map(show).isin(places) & table[series].map(show).isin(lines)
        table = table[seen]
        theirs = [_shade_look(show(value), lines) for value in table[series]]
        frames.append(_with_paper(ours, table, table[axis].map(show).map(places.index), model, theirs))
    points = pd.concat(frames, ignore_index=True)
    levels = [level for model in part.models for level in untrained_levels(part, model, model)]
    made = _accuracy_figure(part, points, levels, {model: scale for model in part.models})
    return Made(made.figure, made.data.assign(x=[places[int(x)] if x == x else "" for x in made.data["x"]]))


def _with_tying(table: pd.DataFrame, model: str) -> pd.DataFrame:
    """Figure 9's points are published by size alone: n_tie follows from size, u and the model's maps."""
    if table.empty or (table["n_tie"] != "").any() or table["trained_values"].isna().any():
        return table
    maps = table["trained_values"].max() / 64
    ties = {math.ceil(maps / n): str(n) for n in (1, 8, 64)} | {1: "all"}
    return table.assign(
        n_tie=[ties.get(round(row["trained_values"] / row["u"]), "") for row in table.to_dict("records")]
    )


def _shade_look(value: str, lines: list[str]) -> tuple[str, Any, str]:
    place = lines.index(value)
    shade = style.lighten("GRPO", 1 - place / max(1, len(lines) - 1))
    return shade, "solid", style.SERIES_MARKERS[place % len(style.SERIES_MARKERS)]


def smallest_updates(part: Part) -> Made:
    """Figure 3: the smallest update that reaches a share of the best accuracy, by model."""
    rows = []
    for model in part.models:
        cells = part.cells[(part.cells["model.name"] == model) & part.cells[TEST].notna()].sort_values("trained_values")
        if cells.empty:
            continue
        sizes = cells["trained_values"].to_numpy(dtype=float)
        groups = [seeds_of(part.runs, cell) for cell in cells["cell"]]
        means = np.array([[values.mean() for values in groups]])
        resampled = compare.resampled_means(groups) if min(map(len, groups)) > 1 else np.empty((0, len(groups)))
        for share in SHARES:
            low, high = (
                compare.interval(compare.smallest_reaching(sizes, resampled, share))
                if len(resampled)
                else (math.nan, math.nan)
            )
            size = float(compare.smallest_reaching(sizes, means, share)[0])
            rows.append(
                {
                    "model": model,
                    "parameters": float(cells["model.parameters"].iloc[0]),
                    "share": share,
                    "size": size,
                    "low": low,
                    "high": high,
                    "sizes_tried": len(sizes),
                }
            )
    table = pd.DataFrame(rows).sort_values(["parameters", "share"], kind="stable", ignore_index=True)
    points, places = _update_points(table, part)
    figure = lines_figure(
        points,
        [],
        {"": Scale("model, by size", places)},
        part.title,
        "smallest update that is nearly the best: trained parameters",
        percent=False,
    )
    with matplotlib.rc_context(style.SETTINGS):
        _count_axis(figure)
    return Made(figure, table, _updates_table(table, part))


def _count_axis(figure: Figure) -> None:
    """The height is a logarithm; its ticks are counts."""
    ax = figure.axes[0]
    low, high = ax.get_ylim()
    ax.set_yticks([tick for tick in range(math.floor(low), math.ceil(high) + 1) if low <= tick <= high])
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(10**value)))


def _update_points(table: pd.DataFrame, part: Part) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Points with the logarithm of the size as height."""
    models = list(dict.fromkeys(table["model"]))
    published = _published_updates(part)
    frames = []
    for source, frame in (("", table), ("paper", published)):
        frame = frame[frame["model"].isin(models)]
        logs = np.log10(frame[["size", "low", "high"]].astype(float))
        names = [f"{100 * share:g}%" for share in frame["share"]]
        shades = [_shade_look(name, [f"{100 * share:g}%" for share in SHARES]) for name in names]
        frames.append(
            pd.DataFrame(
                {
                    "panel": "",
                    "series": names,
                    "label": [f"{name} of best" for name in names],
                    "x": [models.index(model) for model in frame["model"]],
                    "mean": logs["size"],
                    "low": logs["low"],
                    "high": logs["high"],
                    "paper": source == "paper",
                    **dict(zip(LOOK, zip(*shades, strict=True), strict=True)),
                }
            )
            if len(frame)
            else pd.DataFrame()
        )
    return pd.concat(frames, ignore_index=True).astype({"paper": bool}), tuple(models)


def _published_updates(part: Part) -> pd.DataFrame:
    table = paper.values_of(part.item, part.models, part.task)
    shares = table["metric"].str.extract(r"reach ([0-9.]+) x", expand=False).astype(float)
    return pd.DataFrame(
        {"model": table["model"], "share": shares, "size": table["value"], "low": np.nan, "high": np.nan}
    )


def _updates_table(table: pd.DataFrame, part: Part) -> pd.DataFrame:
    published = _published_updates(part).set_index(["model", "share"])["size"]
    return pd.DataFrame(
        {
            "model": table["model"],
            "share of best": [f"{100 * share:g}%" for share in table["share"]],
            "smallest update": table["size"].map("{:,.0f}".format),
            "95% interval": [
                "\N{EN DASH}" if low != low else f"{low:,.0f} to {high:,.0f}"
                for low, high in zip(table["low"], table["high"], strict=True)
            ],
            "sizes tried": table["sizes_tried"].map(str),
            "paper": [
                f"{published[key]:,.0f}" if (key := (model, share)) in published.index else ""
                for model, share in zip(table["model"], table["share"], strict=True)
            ],
        }
    )


def seeds_of(runs: pd.DataFrame, cell: int, score: str = TEST) -> pd.Series:
    """The values of a score over the seeds of a cell, by seed."""
    return runs.loc[runs["cell"] == cell].set_index("seed")[score].dropna().astype(float)


def points_of(
    cells: pd.DataFrame,
    x: pd.Series,
    panel: str,
    series: list[str],
    labels: list[str],
    looks: list[tuple[str, Any, str]],
) -> pd.DataFrame:
    """Cells as points of lines, with all that their table shows."""
    columns = {name: [look[place] for look in looks] for place, name in enumerate(LOOK)}
    return pd.DataFrame(
        {
            "panel": panel,
            "series": series,
            "label": labels,
            "x": x.astype(float).to_numpy(),
            "mean": cells[TEST].to_numpy(),
            "low": cells[f"{TEST} low"].to_numpy(),
            "high": cells[f"{TEST} high"].to_numpy(),
            "flexible": cells[FLEXIBLE].to_numpy(),
            "n_seeds": cells[f"{TEST} n"].to_numpy(),
            "trained_values": cells["trained_values"].to_numpy(),
            "lr": cells["lr"].to_numpy(),
            "rates_tried": cells["rates"].to_numpy(),
            "paper": False,
            **columns,
        }
    )


def _with_paper(
    ours: pd.DataFrame, table: pd.DataFrame, x: pd.Series, panel: str, looks: list[tuple[str, Any, str]]
) -> pd.DataFrame:
    """Our points and the published ones."""
    if table.empty:
        return ours
    names = [style.ADAPTER_NAMES.get(adapter, "") for adapter in table["adapter"]]
    theirs = pd.DataFrame(
        {
            "panel": panel,
            "series": names,
            "label": "",
            "x": x.astype(float).to_numpy(),
            "mean": table["value"].to_numpy(),
            "low": np.nan,
            "high": np.nan,
            "flexible": np.nan,
            "n_seeds": np.nan,
            "trained_values": table["trained_values"].to_numpy(),
            "lr": np.nan,
            "rates_tried": np.nan,
            "paper": True,
            "confidence": table["confidence"].to_numpy(),
            **dict(zip(LOOK, zip(*looks, strict=True), strict=True)),
        }
    )
    return pd.concat([ours, theirs], ignore_index=True)


def data_of(points: pd.DataFrame, levels: list[Level]) -> pd.DataFrame:
    """The numbers of a figure without its looks, levels last."""
    rows = pd.DataFrame([{"panel": at.panel, "series": at.label, "mean": at.value, "paper": False} for at in levels])
    return pd.concat([points.drop(columns=["label", *LOOK]), rows], ignore_index=True)


Maker = Callable[[Part], Made]
