"""What is folded away below a drawing: its finding in a sentence, rates tried, gaps, shared settings, what it is of."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from analysis.page import notes, tables
from analysis.statistics import grid
from analysis.statistics.cells import UNTRAINED, base_accuracy
from analysis.statistics.selection import Part


@dataclass(frozen=True)
class Details:
    """More about the runs of a drawing."""

    headlines: list[str]
    """The finding of each model in two sentences."""
    rates: pd.DataFrame
    """Every learning rate of the cells that tried several."""
    missing: pd.DataFrame | None
    """Points of the grid without a finished run; None where the points of the paper are what is asked for."""
    grid: str
    """The axes of that grid, in words."""
    gaps: str
    """How many there are, in a sentence; "" where there are none."""
    constants: dict[str, str]
    """Settings that all averaged runs share."""
    by_method: dict[str, dict[str, str]]
    """Settings that the runs of each method share, but not all."""
    provenance: dict[str, str]
    """What all of them were made from."""


def make_details(
    part: Part, tried: pd.DataFrame, runs: pd.DataFrame, provenance: tuple[str, ...], with_grid: bool
) -> Details:
    """Of a part, of its cells on lines with all their rates (`tried`), and of its runs.

    `with_grid`: what was run is a grid of its own, whose gaps are told; `runs` are then all runs, also unfinished ones.
    """
    settings = part.settings
    averaged, trained = runs[runs["averaged"]], runs[runs["method"] != UNTRAINED]
    points = grid.missing(trained, settings) if with_grid else None
    axes = tables.axes_text(trained, settings) if with_grid else ""
    whole = points is None or _mostly_run(points, trained[trained["averaged"]])
    by_method = grid.constant_by_method(averaged, settings)
    return Details(
        headlines=_headlines(part.models, tried, runs),
        rates=tables.rates_table(tried, settings),
        missing=tables.missing_table(points) if points is not None and whole else None,
        grid=axes,
        gaps="" if points is None else _gaps(len(points), axes, whole),
        constants=grid.constant(averaged, grid.ordered(settings)),
        by_method={method: own for method, own in by_method.items() if own and method != UNTRAINED},
        provenance=grid.constant(averaged, list(provenance)),
    )


def _mostly_run(points: pd.DataFrame, finished: pd.DataFrame) -> bool:
    """Whether as many points of a grid, each with its seeds, have a finished run as have none: `points` lack one."""
    names = list(points.columns[:-1])  # before the reason; without a seed a point lacks all of them
    lacking = points["seed"].map(lambda seed: finished["seed"].nunique() if seed == "" else 1).sum()
    return int(lacking) <= int(finished.groupby(names, dropna=False).ngroups)


def _gaps(count: int, axes: str, whole: bool) -> str:
    """Runs that were started one by one are no grid: most of its points were never meant."""
    if not whole:
        return f"These runs are no whole grid {axes}: more of its points have no finished run than have one."
    return f"{count} points of the grid {axes} have no finished run: listed below." if count else ""


def _headlines(models: tuple[str, ...], tried: pd.DataFrame, runs: pd.DataFrame) -> list[str]:
    found = []
    for model in models:
        of = f"{model}: " if len(models) > 1 else ""
        base = base_accuracy(runs[runs["model.name"] == model])
        found.append(of + notes.headline(tried[tried["model.name"] == model], base))
    return found
