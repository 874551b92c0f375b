"""Figures of accuracy by one setting, a line for each value of another: the paper's 7, 8 and 9."""

from __future__ import annotations

import math

import pandas as pd

from analysis.drawing import style
from analysis.drawing.lines import Scale
from analysis.paper import published as paper
from analysis.paper.figure_points import Made, accuracy_figure, points_of, untrained_levels, with_paper
from analysis.statistics.grid import in_order
from analysis.statistics.selection import Part
from analysis.statistics.text import show


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
        looks = [style.look_of_place(lines.index(show(value)), len(lines)) for value in cells[series]]
        ours = points_of(cells, cells[axis].map(show).map(places.index), model, names, looks)
        table = _with_tying(paper.accuracies(part.item, [model], part.task), model)
        table = table[table[axis].map(show).isin(places) & table[series].map(show).isin(lines)]
        theirs = [style.look_of_place(lines.index(show(value)), len(lines)) for value in table[series]]
        frames.append(with_paper(ours, table, table[axis].map(show).map(places.index), model, theirs))
    points = pd.concat(frames, ignore_index=True)
    levels = [level for model in part.models for level in untrained_levels(part, model, model)]
    made = accuracy_figure(part, points, levels, {model: scale for model in part.models})
    return Made(made.figure, made.data.assign(x=[places[int(x)] if x == x else "" for x in made.data["x"]]))


def _with_tying(table: pd.DataFrame, model: str) -> pd.DataFrame:
    """Figure 9's points are published by size alone: n_tie follows from size, u and the model's maps."""
    if table.empty or (table["n_tie"] != "").any() or table["trained_values"].isna().any():
        return table
    maps = table["trained_values"].max() / 64
    ties = {math.ceil(maps / n): str(n) for n in (1, 8, 64)} | {1: "all"}
    groups = table["trained_values"] / table["u"]
    return table.assign(n_tie=[ties.get(round(count), "") for count in groups])
