"""Intervals by the percentile bootstrap: seeds are drawn again and again, with repetition, from a fixed random stream.

The 95% interval runs from the 2.5 to the 97.5 per cent point of the resampled numbers. Two rules for these points are
in use, because the numbers differ in kind:

- `interpolated_interval`: between two neighbouring numbers, in proportion. For means of scores, which are finite.
- `nearest_interval`: one of the numbers themselves. For sizes and ratios of sizes, which may be infinite (an accuracy
  that no size reaches): between a finite number and an infinite one nothing lies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit

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


def resampled_means(groups: Sequence[Array | pd.Series]) -> Array:
    """(resamples, cells): for each cell the means of resamples of its seeds.

    A series is indexed by seed. Runs of one seed have the same projections, prompts and noise: where all cells have the
    same seeds, these are drawn once for all cells. Otherwise, and for arrays, each cell's are drawn by themselves.
    """
    generator = _generator()
    paired = _by_seed(groups)
    if paired is not None:
        means: Array = _draws(generator, len(paired)) @ paired / len(paired)
        return means
    columns = [_draws(generator, len(values)) @ np.sort(values) / len(values) for values in groups]
    return np.stack(columns, axis=1)


def _generator() -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(BOOTSTRAP_SEED))


def _draws(generator: np.random.Generator, n: int) -> NDArray[np.int64]:
    """(resamples, n): how often each of n seeds is drawn in each resample."""
    return generator.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)


def _by_seed(groups: Sequence[Array | pd.Series]) -> Array | None:
    """(seeds, cells) where all cells have values of the same seeds; None for others."""
    series = [group for group in groups if isinstance(group, pd.Series)]
    if len(series) < len(groups) or any(set(one.index) != set(series[0].index) for one in series):
        return None
    table: Array = np.stack([one.sort_index().to_numpy(dtype=float) for one in series], axis=1)
    return table


def widened(value: float, low: float, high: float, seeds: int) -> tuple[float, float]:
    """An interval around a value, as much wider as Student's t makes that of a mean over so few seeds.

    The percentile bootstrap takes the spread of n values for the true one: it is too narrow by t(n - 1) / 1.96 and by
    sqrt(n / (n - 1)), which is 2.7 times for three seeds, 1.6 for five, 1.2 for ten. Infinite ends stay.
    """
    factor = float(stdtrit(seeds - 1, 0.975)) / 1.959964 * math.sqrt(seeds / (seeds - 1))
    if not math.isfinite(value):
        return low, high
    return value - factor * (value - low), value + factor * (high - value)
