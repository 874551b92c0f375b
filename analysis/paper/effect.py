"""An effect: a number that a claim is about, its interval, its p, and what keeps it from being decided.

An effect is a contrast of cell means (points, tokens), a share of a gain, or a ratio of sizes. The first two have the
intervals of `crossed`, the third the hierarchical bootstrap's, widened as Student's t is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.statistics.agreement import SAME_DRAWS
from analysis.statistics.bootstrap import nearest_interval, resampled_means
from analysis.statistics.crossed import Cell, Crossed, crossed, paired, share_interval, share_of_gain, weights_of
from analysis.statistics.selection import Part, by_family

FEWEST_DRAWS = 8
"""Draws of P from which intervals hold the truth in 93% of the cases even where the draws have two modes (a third in
the smaller one) or lie half at a ceiling: docs/statistics.md."""
FEWEST_SEEDS = 3
"""Seeds of what has no projections, such as full fine-tuning."""
OTHER_PROBLEMS = "their test problems differ"
NO_ITEMS = "no outcomes by problem are recorded"
AT_THE_EDGE = "a rate at the edge of its grid"
Ends = tuple[float, float]


@dataclass(frozen=True)
class Effect:
    """What was measured on one part."""

    of: str
    models: tuple[str, ...]
    value: float
    low: float
    high: float
    """The 95% interval, not adjusted for the number of effects."""
    p: Callable[[float], float]
    """Two-sided p of the hypothesis that the effect is this number."""
    runs: int
    draws: int
    """The fewest draws of P of a cell in it; of what has no projections, seeds."""
    needed: int = FEWEST_DRAWS
    """How many of these a verdict needs."""
    undecided: str = ""
    """Why no number of draws would do."""
    incomparable: str = ""
    """Why the two sides cannot be compared."""
    notes: tuple[str, ...] = ()


def from_cells(part: Part, ids: Sequence[int], cells: Sequence[Cell], weights: Sequence[float], what: str) -> Effect:
    """The contrast of any numbers of runs, which need no outcomes by problem."""
    estimate = crossed(cells).contrast(weights)
    return _effect(part, ids, cells, what, (estimate.value, *estimate.interval()), estimate.p_value)


def contrast(part: Part, weights: dict[int, float], what: str, untrained: float = 0.0) -> Effect:
    """Points: the weighted sum of the accuracies of cells, and of the untrained model where it has a weight."""
    ids = list(weights)
    cells, every = [part.of(cell) for cell in ids], list(weights.values())
    if untrained:
        cells, every = [*cells, part.untrained_cell()], [*every, untrained]
    numbers = 100 * np.array(every)
    found = crossed(cells)
    estimate = found.contrast(list(numbers))
    ends = estimate.interval()
    if not found.with_items:
        means = resampled_means(cells) @ numbers
        ends = nearest_interval(means) if _fewest_runs(cells) > 1 else (math.nan, math.nan)
    return _effect(part, ids, cells, what, (estimate.value, *ends), estimate.p_value, found)


def difference(part: Part, first: Sequence[int], second: Sequence[int], what: str) -> Effect:
    """Points by which the first cells are ahead of the second, the mean over their pairs."""
    return contrast(part, {c: 1 / len(first) for c in first} | {c: -1 / len(second) for c in second}, what)


def share_kept(part: Part, small: int, full: int, what: str) -> Effect:
    """Per cent of the second's gain over the untrained model that the first keeps."""
    cells = [part.of(small), part.of(full), part.untrained_cell()]
    found = crossed(cells)
    share = share_of_gain(found)
    low, high = share_interval(found)
    if not found.with_items and not math.isnan(share):
        means = resampled_means(cells)
        gain = means[:, 1] - means[:, 2]
        low, high = nearest_interval(
            np.where(gain > 0, (means[:, 0] - means[:, 2]) / np.where(gain > 0, gain, 1), np.nan)
        )
        low, high = (low, high) if _fewest_runs(cells) > 1 else (math.nan, math.nan)

    def p_value(per_cent: float) -> float:
        return found.contrast(weights_of(per_cent / 100)).p_value(0.0)

    effect = _effect(part, [small, full], cells, what, (100 * share, 100 * low, 100 * high), p_value, found)
    if found.contrast([0.0, 1.0, -1.0]).interval()[0] <= 0 and not effect.undecided:
        return incomparable(part, [small, full], what, "full fine-tuning has no gain that could be kept")
    return effect


def of_intervals(part: Part, ids: Sequence[int], what: str, value: float, interval: Callable[[float], Ends]) -> Effect:
    """An effect with an interval for each level; p is the smallest 1 - level whose interval leaves a number out."""
    cells = [part.of(cell) for cell in ids]

    def p_value(bound: float) -> float:
        low, high = 0.0, 1.0  # levels: outside at the low one, inside at the high one
        for _ in range(20):
            level = (low + high) / 2
            ends = interval(level)
            if math.isnan(ends[0]):
                return math.nan
            low, high = (low, level) if ends[0] <= bound <= ends[1] else (level, high)
        return 1 - low

    return _effect(part, ids, cells, what, (value, *interval(0.95)), p_value, crossed(cells))


def incomparable(part: Part, ids: Sequence[int], what: str, why: str) -> Effect:
    """No effect, and why."""
    nothing = (math.nan, math.nan, math.nan)
    found = _effect(part, ids, [part.of(cell) for cell in ids], what, nothing, lambda _: math.nan)
    return Effect(found.of, found.models, *nothing, found.p, found.runs, found.draws, incomparable=why)


def _fewest_runs(cells: Sequence[Cell]) -> int:
    return min(len(cell.scores) for cell in cells if cell.draws)


def _effect(
    part: Part,
    ids: Sequence[int],
    cells: Sequence[Cell],
    what: str,
    numbers: tuple[float, float, float],
    p_value: Callable[[float], float],
    found: Crossed | None = None,
) -> Effect:
    used = [cell for cell in paired(cells) if cell.draws]
    counts = [(len(set(cell.draws)), _needed(cell)) for cell in used] or [(0, FEWEST_DRAWS)]
    draws, needed = min(counts, key=lambda count: count[0] / count[1])
    rows = part.cells[part.cells["cell"].isin(ids)]
    notes = [AT_THE_EDGE] if rows["edge"].any() else []
    notes += [SAME_DRAWS] if not rows["fresh"].all() else []
    problems = {cell.ids for cell in cells if cell.items is not None}
    known = found is None or all(cell.items is not None for cell in cells)
    return Effect(
        f"{part.title}: {what}",
        tuple(by_family(rows["model.name"].unique())),
        float(numbers[0]),
        float(numbers[1]),
        float(numbers[2]),
        p_value,
        sum(len(cell.scores) for cell in used),
        draws,
        needed,
        "" if known else NO_ITEMS,
        OTHER_PROBLEMS if found is not None and known and len(problems) > 1 and not _two_models(rows) else "",
        tuple(notes),
    )


def _two_models(rows: pd.DataFrame) -> bool:
    return bool(rows["model.name"].nunique() > 1)


def _needed(cell: Cell) -> int:
    return FEWEST_DRAWS if any(draw.startswith("P") for draw in cell.draws) else FEWEST_SEEDS
