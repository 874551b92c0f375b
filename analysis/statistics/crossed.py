"""The model of the data: an accuracy varies with the draw of P, with the data seed, and with the test problems.

A run of a cell has a draw of P (d), a data seed (s) and an outcome for each test problem (i). Draws, seeds and problems
are crossed random effects. A number of the report is a contrast of cell means, sum_c w_c mean_c, and its variance is
the sum of what each effect adds: the variance of the contrast's means by draw over the number of draws, and the same by
seed and by problem. Cells that have the same draws are paired in them, as all are in the problems. The degrees of
freedom are Satterthwaite's, so that few draws give Student's t on their paired differences. What two effects share is
counted in both, which errs to the wide side. Where the draws are skewed, as at a ceiling, the interval reaches further
on the side of the longer tail. `coverage` measures how often these intervals hold the truth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

Array = NDArray[np.float64]
FEWEST_PAIRED = 3  # draws that all cells must share, to be compared on these alone
TAIL = 2.0
"""Times skewness x deviation / n. Johnson's correction of t for skewed values is a sixth of that, and too small."""


@dataclass(frozen=True)
class Cell:
    """The outcomes of the runs that are averaged to one number."""

    draws: tuple[str, ...]
    """(runs,): the draw of P of each run; none for what no draw can change, such as the untrained model."""
    seeds: tuple[str, ...]
    """(runs,): the data seed."""
    scores: Array
    """(runs,): accuracies, as shares."""
    items: Array | None = None
    """(runs, problems): the share of each problem's completions that are right; None where it is not recorded."""
    ids: str = ""
    """Digest of the ordered problems."""

    def on(self, draws: set[str]) -> Cell:
        """The runs of these draws."""
        if not self.draws:
            return self
        kept = [place for place, draw in enumerate(self.draws) if draw in draws]
        names, seeds = tuple(self.draws[place] for place in kept), tuple(self.seeds[place] for place in kept)
        return Cell(names, seeds, self.scores[kept], None if self.items is None else self.items[kept], self.ids)

    @property
    def crossed(self) -> bool:
        """Whether each draw ran with the same seeds, of which there are several."""
        draws, seeds = set(self.draws), set(self.seeds)
        pairs = set(zip(self.draws, self.seeds, strict=True))
        return len(seeds) > 1 and len(draws) > 1 and len(pairs) == len(draws) * len(seeds)


@dataclass(frozen=True)
class Estimate:
    """A contrast, and how sure it is."""

    value: float
    error: float
    """Standard error; NaN where it cannot be known."""
    freedom: float
    """Degrees of freedom of `error`."""
    tail: float = 0.0
    """How much further the interval reaches on the side of the longer tail: above where positive, else below."""

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Student's t interval, longer by `tail`; NaN where there is no standard error."""
        if math.isnan(self.error):
            return math.nan, math.nan
        half = float(stdtrit(self.freedom, (1 + level) / 2)) * self.error
        return self.value - half + min(self.tail, 0.0), self.value + half + max(self.tail, 0.0)

    def p_value(self, bound: float) -> float:
        """Two-sided p of the hypothesis that the contrast is `bound`: below .05 where the 95% interval excludes it."""
        away = bound - self.value
        away = max(abs(away) - abs(self.tail), 0.0) if away * self.tail > 0 else abs(away)
        if not self.error > 0:
            return math.nan if math.isnan(self.error) else float(away == 0)
        return float(2 * stdtr(self.freedom, -away / self.error))


@dataclass(frozen=True)
class Crossed:
    """Cells that are compared: their means, and how each random effect makes these vary."""

    means: Array
    """(cells,)"""
    parts: tuple[Array, ...]
    """Of each random effect the cells' means by draw (by seed, by problem), less their means: (draws, cells)."""
    draws: tuple[int, ...]
    """(cells,): how many draws each mean is over; 0 for what has none."""
    with_items: bool
    """Whether the problems are among the parts."""

    def contrast(self, weights: Sequence[float]) -> Estimate:
        """The sum of weights times means."""
        w = np.asarray(weights, dtype=np.float64)
        value = float(w @ self.means)
        if not self.parts or any(len(part) < 2 for part in self.parts):
            return Estimate(value, math.nan, math.nan)
        found = [_moments(part @ w) for part in self.parts if (part @ w != 0).any()]
        variance = math.fsum(share for share, _, _ in found)
        spread = math.fsum(share**2 / freedom for share, freedom, _ in found)
        freedom = variance**2 / spread if spread > 0 else float(min(len(part) for part in self.parts) - 1)
        return Estimate(value, math.sqrt(variance), freedom, math.fsum(tail for _, _, tail in found))


def _moments(values: Array) -> tuple[float, int, float]:
    """Variance of the mean of these values (which have the mean 0), its degrees of freedom, and the tail."""
    n = len(values)
    deviation = math.sqrt(float(values @ values) / (n - 1))
    third = float((values**3).sum()) * n / ((n - 1) * (n - 2)) if n > 2 else 0.0
    return deviation**2 / n, n - 1, TAIL * third / deviation**2 / n


def crossed(cells: Sequence[Cell]) -> Crossed:
    """Means and covariances of cells. Cells that share at least three draws are compared on these; a single draw of a
    cell gives no degrees of freedom, so no interval.
    """
    cells = paired(cells)
    means = np.array([cell.scores.mean() if len(cell.scores) else math.nan for cell in cells])
    parts = [part for group in _groups(cells) for part in _of_draws(cells, group)]
    with_items = all(cell.items is not None and cell.ids == cells[0].ids for cell in cells)
    if with_items:
        table = np.stack([cell.items.mean(axis=0) for cell in cells if cell.items is not None])  # (cells, problems)
        parts.append((table - table.mean(axis=1, keepdims=True)).T)
    return Crossed(means, tuple(parts), tuple(len(set(cell.draws)) for cell in cells), with_items)


def paired(cells: Sequence[Cell]) -> list[Cell]:
    """The cells on the draws that all of them share; as they are where these are too few."""
    sets = [set(cell.draws) for cell in cells if cell.draws]
    common = set.intersection(*sets) if sets else set()
    return [cell.on(common) for cell in cells] if len(common) >= FEWEST_PAIRED else list(cells)


def _groups(cells: Sequence[Cell]) -> list[list[int]]:
    """The places of cells that have the same draws."""
    groups: dict[frozenset[str], list[int]] = {}
    for place, cell in enumerate(cells):
        if cell.draws:
            groups.setdefault(frozenset(cell.draws), []).append(place)
    return list(groups.values())


def _of_draws(cells: Sequence[Cell], group: list[int]) -> list[Array]:
    """What draws add to the variance of cells that have the same ones; and seeds, where each draw has several."""
    found = [_embedded([_means(cells[place].draws, cells[place].scores) for place in group], group, len(cells))]
    seeds = set(cells[group[0]].seeds)
    if all(cells[place].crossed and set(cells[place].seeds) == seeds for place in group):
        found.append(_embedded([_means(cells[place].seeds, cells[place].scores) for place in group], group, len(cells)))
    return found


def _means(names: Sequence[str], scores: Array) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for name, score in zip(names, scores, strict=True):
        values.setdefault(name, []).append(float(score))
    return {name: math.fsum(values[name]) / len(values[name]) for name in sorted(values)}


def _embedded(tables: list[dict[str, float]], group: list[int], count: int) -> Array:
    """The group's means by draw, less their means, among columns of zero for all other cells: (draws, cells)."""
    table = np.array([list(means.values()) for means in tables]).T
    whole = np.zeros((len(table), count))
    whole[:, group] = table - table.mean(axis=0)
    return whole


def share_interval(cells: Crossed, level: float = 0.95) -> tuple[float, float]:
    """The interval of (m_0 - m_2) / (m_1 - m_2), by Fieller: the shares t for which m_0 - m_2 = t (m_1 - m_2) fits.

    Open (infinite) on a side where every share fits. Both ends are NaN where there is no standard error.
    """
    centre = share_of_gain(cells)
    if math.isnan(centre) or math.isnan(cells.contrast(weights_of(centre)).error):
        return math.nan, math.nan
    return _end(cells, centre, -1, level), _end(cells, centre, 1, level)


def share_of_gain(cells: Crossed) -> float:
    """(m_0 - m_2) / (m_1 - m_2); NaN where the second does not gain."""
    small, full, untrained = cells.means
    return float((small - untrained) / (full - untrained)) if full > untrained else math.nan


def weights_of(share: float) -> tuple[float, float, float]:
    """The contrast that is 0 where the first keeps this share of the second's gain over the third."""
    return 1.0, -share, share - 1.0


def _fits(cells: Crossed, share: float, level: float) -> bool:
    low, high = cells.contrast(weights_of(share)).interval(level)
    return low <= 0 <= high


def _end(cells: Crossed, centre: float, side: int, level: float) -> float:
    """From the centre outwards until a share does not fit, then by halves."""
    inside, step = centre, 0.01
    while _fits(cells, centre + side * step, level):
        inside, step = centre + side * step, 2 * step
        if step > 1000:
            return side * math.inf
    outside = centre + side * step
    for _ in range(50):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if _fits(cells, middle, level) else (inside, middle)
    return inside
