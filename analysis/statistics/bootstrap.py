"""Intervals by the percentile bootstrap: draws of P, data seeds and problems are drawn again and again, with
repetition, from a fixed random stream. For numbers that are no contrast of means, such as ratios of sizes, and for old
records.

The 95% interval runs from the 2.5 to the 97.5 per cent point of the resampled numbers. Two rules for these points are
in use, because the numbers differ in kind:

- `interpolated_interval`: between two neighbouring numbers, in proportion. For means of scores, which are finite.
- `nearest_interval`: one of the numbers themselves. For sizes and ratios of sizes, which may be infinite (an accuracy
  that no size reaches): between a finite number and an infinite one nothing lies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from analysis.statistics.crossed import Cell, paired

RESAMPLES = 2000
BOOTSTRAP_SEED = 2602

Array = NDArray[np.float64]


def interpolated_interval(resampled: Array, level: float = 0.95) -> tuple[Array, Array]:
    """Low and high end along the first axis: (resamples,) or (resamples, steps) -> two of () or (steps,)."""
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def nearest_interval(resampled: Array, level: float = 0.95) -> tuple[float, float]:
    """Low and high end of (resamples,); infinite numbers (never reached) count, a NaN makes both ends a gap."""
    if len(resampled) == 0 or np.isnan(resampled).any():
        return math.nan, math.nan
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], method="nearest")
    return float(low), float(high)


def bootstrap_interval(values: Array, level: float = 0.95) -> tuple[Array, Array]:
    """The interval of the mean over seeds: values (seeds,) or (seeds, steps) -> low and high, () or (steps,).

    One value has no interval: NaN.
    """
    values = np.asarray(values, dtype=np.float64)
    n = len(values)
    if n < 2:
        gap = np.full(values.shape[1:], np.nan)
        return gap, gap.copy()
    counts = _draws(_generator(), n)
    means = counts @ np.sort(values, axis=0) / n if values.ndim == 1 else counts @ values / n
    return interpolated_interval(means, level)


def resampled_means(cells: Sequence[Cell]) -> Array:
    """(resamples, cells): the cells' means over resampled draws of P, data seeds and problems.

    Cells that have the same draws get the same of them in a resample, and so with seeds and problems; others are drawn
    by themselves. Where a cell lacks outcomes by problem, its draws and seeds alone are resampled.
    """
    generator, columns = _generator(), []
    counts: dict[tuple[str, ...], Array] = {}

    def drawn(names: Sequence[str]) -> Array:
        """(resamples, names): how often each is drawn; for the same names the same counts."""
        key = tuple(names)
        if key not in counts:
            counts[key] = _draws(generator, len(key)).astype(np.float64)
        return counts[key]

    for cell in paired(cells):
        weights = _run_weights(cell, drawn)
        if cell.items is None:
            columns.append(weights @ cell.scores)
        else:
            problems = drawn([f"{cell.ids} {place}" for place in range(cell.items.shape[1])])
            columns.append(np.einsum("rp,rp->r", weights @ cell.items, problems) / cell.items.shape[1])
    return np.stack(columns, axis=1)


def _run_weights(cell: Cell, drawn: Callable[[Sequence[str]], Array]) -> Array:
    """(resamples, runs): the weight of each run, which is that of its draw, and of its seed where these are crossed."""
    if not cell.draws:
        return np.full((RESAMPLES, len(cell.scores)), 1 / len(cell.scores))
    weights: Array = np.ones((RESAMPLES, len(cell.scores)))
    for names in (cell.draws, cell.seeds) if cell.crossed else (cell.draws,):
        known = sorted(set(names))
        weights = weights * drawn(known)[:, [known.index(name) for name in names]]
    sums = weights.sum(axis=1, keepdims=True)
    return np.asarray(weights / np.where(sums > 0, sums, 1.0))


def _generator() -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(BOOTSTRAP_SEED))


def _draws(generator: np.random.Generator, n: int) -> NDArray[np.int64]:
    """(resamples, n): how often each of n seeds is drawn in each resample."""
    return generator.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)


def widened(value: float, low: float, high: float, draws: int, level: float = 0.95) -> tuple[float, float]:
    """An interval around a value, as much wider as Student's t makes that of a mean over so few draws.

    The percentile bootstrap takes the spread of n values for the true one: it is too narrow by t(n - 1) / 1.96 and by
    sqrt(n / (n - 1)), which is 2.7 times for three draws, 1.6 for five, 1.2 for ten. Infinite ends stay.
    """
    at = (1 + level) / 2
    factor = float(stdtrit(draws - 1, at) / ndtri(at)) * math.sqrt(draws / (draws - 1))
    if not math.isfinite(value):
        return low, high
    return value - factor * (value - low), value + factor * (high - value)
