"""Comparisons between curves of accuracy by size: who needs how much less, and how sure that is.

Arrays are (resamples, sizes): in each row the accuracies of one resample, as shares, by ascending number of trained
values. What is measured, not resampled, is an array of one row.
"""

from __future__ import annotations

import math

import numpy as np

from analysis.statistics.bootstrap import nearest_interval
from analysis.statistics.crossed import Array


def printed_percent(share: float) -> float:
    """A share in per cent as a table prints it: one decimal, halves up, whatever the binary fraction."""
    return math.floor(1000 * share + 0.5 + 1e-9) / 10 if math.isfinite(share) else math.nan


def gain_kept(average: float, untrained: float, full: float) -> float:
    """The share of full fine-tuning's gain over the untrained model that is kept; NaN where there is no gain."""
    gain = full - untrained
    return (average - untrained) / gain if gain > 0 else math.nan


def size_reaching(sizes: Array, accuracies: Array, targets: Array) -> Array:
    """(resamples,): the size at which the best accuracy so far reaches the target, between two of `sizes` log-linear.

    Infinite where no size reaches it; the smallest size where that already does: the true answer may be smaller.
    """
    best: Array = np.maximum.accumulate(accuracies, axis=1)
    reached = best >= targets[:, None] - 1e-12
    first = np.argmax(reached, axis=1)
    each = np.arange(len(best))
    before = np.maximum(first - 1, 0)
    low, high = best[each, before], best[each, first]
    rise = np.where(high > low, high - low, 1.0)
    share = np.where(first > 0, np.clip((targets - low) / rise, 0, 1), 1.0)
    logs = np.log(sizes)
    size = np.exp(logs[before] + share * (logs[first] - logs[before]))
    return np.where(reached.any(axis=1), size, np.inf)


def smallest_reaching(sizes: Array, accuracies: Array, share: float) -> Array:
    """(resamples,): the smallest measured size whose accuracy is at least this share of the best of its resample."""
    reached = accuracies >= share * accuracies.max(axis=1, keepdims=True) - 1e-12
    smallest: Array = np.where(reached, sizes, np.inf).min(axis=1)
    return smallest


def size_ratio(first: tuple[Array, Array], second: tuple[Array, Array], targets: Array) -> Array:
    """(resamples,): how many times the size the second curve needs for the targets; NaN where neither reaches them."""
    needed = [size_reaching(sizes, accuracies, targets) for sizes, accuracies in (first, second)]
    with np.errstate(invalid="ignore"):
        ratio: Array = np.where(np.isinf(needed[0]) & np.isinf(needed[1]), np.nan, needed[1] / needed[0])
    return ratio


def ratio_interval(
    first: tuple[Array, Array], second: tuple[Array, Array], targets: Array, level: float = 0.95
) -> tuple[float, float]:
    """The interval of `size_ratio`. Where the smallest size already reaches a target, a smaller one might do as well.

    If that is the first curve, the true ratio may be anything above; if it is the second, anything below.
    """
    ratios = size_ratio(first, second, targets)
    if np.isnan(ratios).any():
        return math.nan, math.nan
    open_above, open_below = (accuracies[:, 0] >= targets - 1e-12 for _, accuracies in (first, second))
    low, _ = nearest_interval(np.where(open_below, 0.0, ratios), level)
    _, high = nearest_interval(np.where(open_above, np.inf, ratios), level)
    return low, high
