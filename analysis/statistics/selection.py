"""Which runs an item shows: chosen by recorded settings, and split so that nothing unlike is drawn together.

An item names the settings along which its runs may differ. Runs that differ in any other (model, task, steps, prompt)
are separate parts of it, each with its own figure and a note; none is averaged with another.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pandas as pd

from analysis.records.items import Items
from analysis.records.load import Records
from analysis.statistics.cells import END_BIAS, OF_THE_MODEL, UNTRAINED, is_biased
from analysis.statistics.crossed import Cell
from analysis.statistics.grid import not_fixed, varying
from analysis.statistics.measured import TEST, measured, untrained
from analysis.statistics.text import show

NUMBER = "a number"
"""In a `Where`: any value but `all`."""

Where = dict[str, tuple[str, ...]]
"""Setting -> its allowed values as text; settings that are not named may have any."""

OF_GRPO = ("algorithm.prompts", "algorithm.samples", "algorithm.kl_coefficient", "algorithm.importance_cap")
METHOD = ("algorithm.name", *OF_GRPO, "task.demonstrations", "algorithm.attempts")
"""What differs between GRPO and SFT."""
ADAPTER = ("adapter.name", "adapter.solver", "u", "n_tie", "sharing", "rank")
"""What differs between adapters and their sizes."""
MODEL = ("model.name", "model.dtype", "model.revision", "model.chat_template", "model.date")
ALONE = ("model.name", "task.name")
"""Runs that differ in these are never drawn together where nothing else is asked."""
FAMILIES = ("qwen", "llama")
"""In the paper's order."""


@dataclass(frozen=True)
class Selection:
    """Runs to be looked at together: those of a figure, of a table or of a claim."""

    where: tuple[Where, ...]
    """The runs that belong to it: those that agree with any of these."""
    axes: tuple[str, ...] | None
    """Settings in which its runs may differ; all others are alike in one drawing. None: in all but model and task."""


@dataclass(frozen=True)
class Part:
    """The runs of an item that may be drawn together."""

    item: str
    name: str
    """Name of its files."""
    title: str
    models: tuple[str, ...]
    task: str
    scale_model: bool
    cells: pd.DataFrame
    """Trained cells with their chosen learning rate; may be empty where `axes` is None."""
    tried: pd.DataFrame
    """These cells, and those of all other rates that were tried for them."""
    untrained: pd.DataFrame
    """Cells of runs that only evaluate the model; may be empty."""
    biased: pd.DataFrame
    """The same with a bias of the end tokens, where trained cells are drawn alone: a control."""
    runs: pd.DataFrame
    """The counted runs of these cells, one row each."""
    history: pd.DataFrame
    """Metrics by step of all averaged runs."""
    items: Items
    """Outcomes by problem of the runs that have them."""
    settings: tuple[str, ...]
    """The columns of cells and runs that are settings."""
    x: str
    """The column that is drawn as the size of an update."""
    known: dict[tuple[int, str], Cell]
    """Outcomes of cells by score, as far as they were asked for by any part: they take longer than the rest."""
    score: str = TEST
    """The score of a run that is looked at."""

    def of(self, cell: int) -> Cell:
        """The outcomes of a cell's runs."""
        key = int(cell), self.score
        if key not in self.known:
            self.known[key] = measured(self.runs[self.runs["cell"] == cell], self.score, self.items)
        return self.known[key]

    def untrained_cell(self, model: str | None = None) -> Cell:
        """The outcomes of the untrained model."""
        runs = self.runs if model is None else self.runs[self.runs["model.name"] == model]
        return untrained(runs[runs["averaged"]], self.score, untrained_score(self, self.score, model), self.items)


@dataclass(frozen=True)
class Table:
    """All cells and runs, and their settings as text, made once for all items."""

    cells: pd.DataFrame
    runs: pd.DataFrame
    history: pd.DataFrame
    settings: tuple[str, ...]
    cells_text: pd.DataFrame
    runs_text: pd.DataFrame
    items: Items
    x: str
    known: dict[tuple[int, str], Cell] = field(default_factory=dict)
    """See `Part`."""


def as_table(cells: pd.DataFrame, runs: pd.DataFrame, records: Records, x: str = "trained_values") -> Table:
    """Prepare the frames for `matching` and `parts`; `x` is the column that is drawn as the size of an update."""
    settings = records.settings
    texts = _text(cells, settings), _text(runs, settings)
    return Table(cells, runs, records.history, settings, *texts, records.items, x)


def _text(frame: pd.DataFrame, settings: tuple[str, ...]) -> pd.DataFrame:
    columns = {}
    for name in settings:
        texts = {value: show(value) for value in frame[name].unique()}
        columns[name] = frame[name].map(lambda value, texts=texts: texts.get(value, "")).astype(object).fillna("")
    return pd.DataFrame(columns, index=frame.index)


def without(table: Table, choices: Iterable[int]) -> Table:
    """The table without the cells of these choices and their runs, by models and tasks that still have a finished run.

    `choices` are numbers of the column `choice` of cells.
    """
    kept = ~table.cells["choice"].isin(list(choices))
    runs = table.runs[~table.runs["cell"].isin(table.cells.loc[~kept, "cell"])]
    left = runs.groupby([runs[name] for name in ALONE], dropna=False)["averaged"].transform("any")
    runs = runs[left.astype(bool)]
    cells = table.cells[kept & table.cells["cell"].isin(runs["cell"])]
    texts = table.cells_text.loc[cells.index], table.runs_text.loc[runs.index]
    return replace(table, cells=cells, runs=runs, cells_text=texts[0], runs_text=texts[1])


def matching(text: pd.DataFrame, where: tuple[Where, ...]) -> pd.Series:
    """Which rows agree with any of the alternatives."""
    found = pd.Series(False, index=text.index)
    for alternative in where:
        every = pd.Series(True, index=text.index)
        for name, allowed in alternative.items():
            column = text[name] if name in text else pd.Series("", index=text.index)
            numbers = column.str.fullmatch(r"[0-9.e+-]+") if NUMBER in allowed else False
            every &= column.isin(allowed) | numbers
        found |= every
    return found


def parts(table: Table, item: str, selection: Selection) -> list[Part]:
    """The parts of an item, the largest first among those of one model and task."""
    axes = selection.axes
    own = table.cells[matching(table.cells_text, selection.where)]
    if axes is not None:
        own = own[own["chosen"] & (own["method"] != UNTRAINED)]
    if own.empty:
        return []
    text = table.cells_text.loc[own.index]
    fixed = list(ALONE) if axes is None else _fixed(table.settings, text, axes)
    groups = [group for _, group in text.groupby(fixed, sort=True)] if fixed else [text]
    frames = sorted((table.cells.loc[group.index] for group in groups), key=_order)
    names = _names(item, frames, fixed, multiple_models="model.name" in (axes or ()))
    return [_part(table, item, frame, *name, fixed) for frame, name in zip(frames, names, strict=True)]


def _fixed(settings: tuple[str, ...], text: pd.DataFrame, axes: tuple[str, ...]) -> list[str]:
    """The settings in which the runs of one part agree."""
    return [*(name for name in settings if name not in (*axes, "lr")), *_of_one_model(text, axes)]


def _of_one_model(text: pd.DataFrame, axes: tuple[str, ...]) -> list[str]:
    """Settings such as type and revision in which runs of one model differ, where an item compares models."""
    if "model.name" not in axes:
        return []
    counts = text.groupby("model.name")[[name for name in MODEL[1:] if name in text]].nunique()
    return [name for name in counts.columns if (counts[name] > 1).any()]


def _order(cells: pd.DataFrame) -> tuple[str, str, int]:
    return str(cells["task.name"].iloc[0]), str(cells["model.name"].iloc[0]), -len(cells)


def _names(item: str, frames: list[pd.DataFrame], fixed: list[str], multiple_models: bool) -> list[tuple[str, str]]:
    """File name and title of each part: by task and model, and by what else tells it from others of these."""
    every = pd.concat(frames)
    keys = [_models(frame) if multiple_models else str(frame["model.name"].iloc[0]) for frame in frames]
    names = []
    for frame, models in zip(frames, keys, strict=True):
        task = str(frame["task.name"].iloc[0])
        alike = every[(every["task.name"] == task) & every["model.name"].isin(frame["model.name"])]
        apart = [name for name in varying(alike, tuple(fixed)) if name not in ("model.name", "task.name")]
        extra = [f"{name}={show(frame[name].iloc[0]) or 'none'}" for name in not_fixed(alike, apart)]
        title = ", ".join([models, task, *extra])
        slug = re.sub(r"[^A-Za-z0-9._=-]+", "_", "-".join(([] if multiple_models else [models]) + [task, *extra]))
        names.append((item if len(frames) == 1 else f"{item}-{slug}", title))
    return names


def untrained_score(part: Part, score: str, model: str | None = None) -> float:
    """A score of the untrained model: by its own run, or step 0 of the trained ones (a mean over seeds)."""
    own, runs = part.untrained, part.runs
    if model is not None:
        own, runs = own[own["model.name"] == model], runs[runs["model.name"] == model]
    if len(own) and score in own and own[score].notna().any():
        return float(own[score].mean())
    column, runs = score.replace("final ", "base "), runs[runs["averaged"]]
    return float(runs.groupby("seed")[column].mean().mean()) if column in runs else math.nan


def family(model: str) -> str:
    """The family that a model's name says it belongs to; "" for others."""
    return next((word for word in FAMILIES if word in model.lower()), "")


def by_family(models: Iterable[str]) -> list[str]:
    """Models in the paper's order of families, others last, each family by name."""
    return sorted(models, key=lambda model: ([*FAMILIES, ""].index(family(model)), model))


def _models(cells: pd.DataFrame) -> str:
    names = by_family(cells["model.name"].unique())
    return ", ".join(names) if len(names) < 3 else f"{len(names)} models"


def _part(table: Table, item: str, own: pd.DataFrame, name: str, title: str, fixed: list[str]) -> Part:
    trained = table.cells[table.cells["choice"].isin(own["choice"]) & (table.cells["method"] != UNTRAINED)]
    cells = own[own["chosen"] & (own["method"] != UNTRAINED)]
    shared = [s for s in fixed if s.startswith(OF_THE_MODEL) and s != "task.demonstrations"]
    text = table.cells_text
    first = text.loc[own.index[0]]
    alike = [name for name in shared if name != END_BIAS]
    same = (text[alike] == first[alike]).all(axis=1) & text["model.name"].isin(own["model.name"])
    same &= table.cells["method"] == UNTRAINED
    apart = is_biased(table.cells) & (END_BIAS in shared)
    untrained = table.cells[same & ~apart]
    wanted = pd.concat([cells["cell"], untrained["cell"]])
    runs = table.runs[table.runs["counted"] & table.runs["cell"].isin(wanted)]
    scale = bool((runs["scale_model"] == "true").any())
    models = tuple(by_family(own["model.name"].unique()))
    return Part(
        item,
        name,
        title + (" (scale model)" if scale else ""),
        models,
        str(first["task.name"]),
        scale,
        cells,
        trained,
        untrained,
        table.cells[same & apart],
        runs,
        table.history,
        table.items,
        table.settings,
        table.x,
        table.known,
    )
