"""A section of the report for each model and task whose runs belong to no item: figures, tables, notes, gaps."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pandas as pd

from analysis.page import notes, sweep_figures, tables
from analysis.page.formats import FigureFile
from analysis.records.load import Records
from analysis.statistics import grid
from analysis.statistics.cells import UNTRAINED, base_accuracy, name_lines


@dataclass(frozen=True)
class Section:
    """Everything about one model and task; never mixed with another."""

    title: str
    scale_model: bool
    headline: str
    notes: list[str]
    figures: list[FigureFile]
    summary: pd.DataFrame
    rates: pd.DataFrame
    missing: pd.DataFrame
    grid: str
    constants: dict[str, str]
    by_method: dict[str, dict[str, str]]
    provenance: dict[str, str]


def make_sections(runs: pd.DataFrame, cells: pd.DataFrame, records: Records, formats: tuple[str, ...]) -> list[Section]:
    """A section for each model and task of these runs; none for one without a finished run."""
    groups = [group for _, group in runs.groupby(["model.name", "task.name"], sort=True) if group["averaged"].any()]
    return [_section(group, cells, records, len(groups) > 1, formats) for group in groups]


def _section(
    runs: pd.DataFrame, cells: pd.DataFrame, records: Records, suffixed: bool, formats: tuple[str, ...]
) -> Section:
    settings = records.settings
    model, task = runs["model.name"].iloc[0], runs["task.name"].iloc[0]
    trained = runs[runs["method"] != UNTRAINED]
    cells, axis = name_lines(cells[cells["cell"].isin(runs["cell"])], settings)
    base = base_accuracy(runs)
    averaged = runs[runs["averaged"]]
    scale_model = bool((averaged["scale_model"] == "true").any())
    title = f"{model}, {task}" + (" (scale model)" if scale_model else "")
    suffix = re.sub(r"[^A-Za-z0-9._-]+", "_", f"-{model}-{task}") if suffixed else ""
    sweep = sweep_figures.Sweep(cells, settings, title, suffix, formats)
    drawn = [sweep_figures.accuracy_by_size(sweep, base, axis)]
    drawn += [sweep_figures.metric_by_step(sweep, runs, records.history, metric) for metric in sweep_figures.CURVES]
    return Section(
        title=title,
        scale_model=scale_model,
        headline=notes.headline(cells, base),
        notes=[
            *notes.section_notes(runs, records.history, cells, records.provenance),
            *notes.items_notes(averaged, records.items),
        ],
        figures=[figure for figure in drawn if figure],
        summary=tables.summary_table(cells, settings),
        rates=tables.rates_table(cells, settings),
        missing=tables.missing_table(grid.missing(trained, settings)),
        grid=tables.axes_text(trained, settings),
        constants=grid.constant(averaged, grid.ordered(settings)),
        by_method=grid.constant_by_method(averaged, settings),
        provenance=grid.constant(averaged, list(records.provenance)),
    )
