"""Comparisons between curves of accuracy by size: who needs how much less, and how sure that is.

Pure functions on arrays and series. C: cells (sizes), R: resamples. Accuracies are shares; sizes count trained values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit

from analysis.numbers.cells import BOOTSTRAP_SEED, RESAMPLES

Array = NDArray[np.float64]


def printed_percent(share: float) -> float:
    """A share in per cent as a table prints it: one decimal, halves up, whatever the binary fraction."""
    return math.floor(1000 * share + 0.5 + 1e-9) / 10 if math.isfinite(share) else math.nan


def gain_kept(average: float, untrained: float, full: float) -> float:
    """The share of full fine-tuning's gain over the untrained model that is kept; NaN where there is no gain."""
    gain = full - untrained
    return (average - untrained) / gain if gain > 0 else math.nan


def resampled_means(groups: Sequence[Array | pd.Series]) -> Array:
    """(R, C): for each cell the means of resamples of its seeds, drawn from a fixed seed.

    A series is indexed by seed. Runs of one seed have the same projections, prompts and noise: where all cells have the
    same seeds, these are drawn, once for all cells. Else, and for arrays, each cell's are drawn by themselves.
    """
    generator = np.random.Generator(np.random.PCG64(BOOTSTRAP_SEED))
    paired = _by_seed(groups)
    if paired is not None:
        n = len(paired)
        means: Array = generator.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) @ paired / n
        return means
    columns = []
    for values in groups:
        n = len(values)
        counts = generator.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
        columns.append(counts @ np.sort(values) / n)
    return np.stack(columns, axis=1)


def _by_seed(groups: Sequence[Array | pd.Series]) -> Array | None:
    """(seeds, C) where all cells have values of the same seeds; None for others."""
    series = [group for group in groups if isinstance(group, pd.Series)]
    if len(series) < len(groups) or any(set(one.index) != set(series[0].index) for one in series):
        return None
    table: Array = np.stack([one.sort_index().to_numpy(dtype=float) for one in series], axis=1)
    return table


def interval(values: Array, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of resampled numbers; infinite ones (never reached) count, NaN make it a gap."""
    if len(values) == 0 or np.isnan(values).any():
        return math.nan, math.nan
    ends = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], method="nearest")
    return float(ends[0]), float(ends[1])


def widened(value: float, low: float, high: float, seeds: int) -> tuple[float, float]:
    """An interval around a value, as much wider as Student's t makes that of a mean over so few seeds.

    The percentile bootstrap takes the spread of n values for the true one: it is too narrow by t(n - 1) / 1.96 and by
    sqrt(n / (n - 1)), which is 2.7 times for three seeds, 1.6 for five, 1.2 for ten. Infinite ends stay.
    """
    factor = float(stdtrit(seeds - 1, 0.975)) / 1.959964 * math.sqrt(seeds / (seeds - 1))
    if not math.isfinite(value):
        return low, high
    return value - factor * (value - low), value + factor * (high - value)


def size_reaching(sizes: Array, accuracies: Array, targets: Array) -> Array:
    """(R,): the size at which the best accuracy up to it reaches the target, log-linear between the sizes (C,).

    `accuracies` (R, C) belong to ascending sizes. Infinite where no size reaches it; the smallest size where that
    already does: its true answer may be smaller.
    """
    best: Array = np.maximum.accumulate(accuracies, axis=1)
    reached = best >= targets[:, None] - 1e-12
    first = np.argmax(reached, axis=1)
    rows = np.arange(len(best))
    before = np.maximum(first - 1, 0)
    low, high = best[rows, before], best[rows, first]
    rise = np.where(high > low, high - low, 1.0)
    share = np.where(first > 0, np.clip((targets - low) / rise, 0, 1), 1.0)
    logs = np.log(sizes)
    size = np.exp(logs[before] + share * (logs[first] - logs[before]))
    return np.where(reached.any(axis=1), size, np.inf)


def smallest_reaching(sizes: Array, accuracies: Array, share: float) -> Array:
    """(R,): the smallest measured size (C,) whose accuracy is at least this share of the best of its row (R, C)."""
    reached = accuracies >= share * accuracies.max(axis=1, keepdims=True) - 1e-12
    smallest: Array = np.where(reached, sizes, np.inf).min(axis=1)
    return smallest


def size_ratio(first: tuple[Array, Array], second: tuple[Array, Array], targets: Array) -> Array:
    """(R,): how many times the size the second curve needs for the targets; NaN where neither reaches them."""
    needed = [size_reaching(sizes, accuracies, targets) for sizes, accuracies in (first, second)]
    with np.errstate(invalid="ignore"):
        ratio: Array = np.where(np.isinf(needed[0]) & np.isinf(needed[1]), np.nan, needed[1] / needed[0])
    return ratio


def ratio_interval(
    first: tuple[Array, Array], second: tuple[Array, Array], targets: Array, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of `size_ratio`. Where the smallest size already reaches a target, less might have done.

    So the ratio may then be anything above (the first's smallest size does) or below (the second's).
    """
    ratios = size_ratio(first, second, targets)
    if np.isnan(ratios).any():
        return math.nan, math.nan
    open_above, open_below = (accuracies[:, 0] >= targets - 1e-12 for _, accuracies in (first, second))
    low = np.quantile(np.where(open_below, 0.0, ratios), (1 - level) / 2, method="nearest")
    high = np.quantile(np.where(open_above, np.inf, ratios), (1 + level) / 2, method="nearest")
    return float(low), float(high)


def difference(first: Sequence[Array | pd.Series], second: Sequence[Array | pd.Series]) -> tuple[float, float, float]:
    """Mean over pairs of cells of the first's mean less the second's, with its interval over resampled seeds."""
    effect = float(np.mean([a.mean() - b.mean() for a, b in zip(first, second, strict=True)]))
    if min(len(values) for values in [*first, *second]) < 2:
        return effect, math.nan, math.nan
    means = resampled_means([*first, *second])
    return effect, *interval((means[:, : len(first)] - means[:, len(first) :]).mean(axis=1))
