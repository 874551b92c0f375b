"""How many times the trained parameters one way of training needs for the accuracy of another.

Sizes are those of the updates that both ways were trained with; of several updates of one size the best counts.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from analysis.drawing import style
from analysis.drawing.lines import Level, Look, Scale
from analysis.options import SIZE_LABELS
from analysis.paper.figure_points import Made, accuracy_figure, points_of, untrained_levels
from analysis.statistics import compare
from analysis.statistics.bootstrap import resampled_means, widened
from analysis.statistics.cells import VALIDATION, name_lines
from analysis.statistics.crossed import Array, Cell, crossed
from analysis.statistics.measured import TEST
from analysis.statistics.selection import Part, by_family, family
from analysis.statistics.text import GAP, show

SHARES = (0.25, 0.5, 0.75, 0.9)
"""Of the gain over the untrained model that both reach: the accuracies at which sizes are compared."""
WAYS: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1, 1.4)), (0, (5, 1.5, 1, 1.5)))
"""Dashes of the lines of one model."""
MARKERS = style.SERIES_MARKERS


def families(part: Part) -> Made:
    """Qwen v Llama: lines of both, and the ratio for each pair of models of different families.

    Updates grow along a line in one way, by values per group or by ties; the ratio is of the best update of each size.
    """
    own = part.cells[part.cells["model.name"].map(family) != ""]
    curves = {model: own[own["model.name"] == model] for model in by_family(own["model.name"].unique())}
    pairs = [(a, b) for a in curves for b in curves if family(a) == "qwen" and family(b) == "llama"]
    named = list(zip(own["model.name"], _ways(own, part.settings), strict=True))
    kinds = [kind for model in curves for kind in sorted(set(named)) if kind[0] == model]
    looks = {kind: _family_look(kind, kinds) for kind in kinds}
    series = [", ".join(filter(None, kind)) for kind in named]
    points = points_of(own, own["trained_values"], "", series, [looks[kind] for kind in named])
    levels = [
        Level("", level.value, f"untrained {model}", _family_colour(model, list(curves)))
        for model in curves
        for level in untrained_levels(part, "", model)
    ]
    return _made(part, points, levels, [((a, curves[a]), (b, curves[b])) for a, b in pairs])


def _ways(cells: pd.DataFrame, settings: tuple[str, ...]) -> list[str]:
    """Of each cell what tells its line from others of its model: u where lines run along n_tie, n_tie along u."""
    _, axis = name_lines(cells, settings)
    apart = [name for name in ("u", "n_tie") if name in cells and name != axis and cells[name].nunique() > 1]
    return [", ".join(f"{name}={show(row[name])}" for name in apart) for row in cells.to_dict("records")]


def _family_colour(model: str, models: list[str]) -> str:
    """A colour for each family, shades for its models."""
    own = [name for name in models if family(name) == family(model)]
    method = "GRPO" if family(model) == "qwen" else "SFT foreign"
    return style.lighten(method, own.index(model) / max(2, len(own)))


def _family_look(kind: tuple[str, str], kinds: list[tuple[str, str]]) -> Look:
    """The colour of a model, line styles and markers for its ways."""
    models, ways = list(dict.fromkeys(model for model, _ in kinds)), sorted({way for _, way in kinds})
    place = kinds.index(kind) if len(ways) == 1 else ways.index(kind[1])
    return _family_colour(kind[0], models), WAYS[ways.index(kind[1]) % len(WAYS)], MARKERS[place % len(MARKERS)]


def algorithms(part: Part) -> Made:
    """RL v SFT: the best of every size by each, and the ratio for each manner of demonstrations."""
    curves = curves_of_algorithms(part.cells)
    looks = {name: (style.colour(name), "solid", style.SERIES_MARKERS[i]) for i, name in enumerate(curves)}
    others = [name for name in curves if name != "GRPO" and "GRPO" in curves]
    named = [(("GRPO", curves["GRPO"]), (name, curves[name])) for name in others]
    return _made(part, _best_points(curves, looks), untrained_levels(part, ""), named)


def curves_of_algorithms(cells: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The cells of GRPO, and those of SFT by the manner of its demonstrations, whatever the adapter."""
    names = cells["algorithm.name"].str.upper()
    if "task.demonstrations" in cells:
        manner = cells["task.demonstrations"].where(cells["algorithm.name"] == "sft", "")
        names = (names + " " + manner.fillna("")).str.strip()
    return {str(name): group for name, group in cells.groupby(names, sort=True)}


def _made(part: Part, points: pd.DataFrame, levels: list[Level], pairs: list[tuple[Named, Named]]) -> Made:
    """The figure, and the ratio of sizes for each pair of curves that has one."""
    pairs = [alike(first, second) for first, second in pairs]
    rows = [row for first, second in pairs for row in ratio_rows(part, first, second)]
    drawn = accuracy_figure(part, points, levels, {"": Scale(SIZE_LABELS["trained_values"])})
    data = drawn.data[drawn.data["x"].notna()]  # without the levels
    if not rows:
        whys = dict.fromkeys(filter(None, (why_not(part, first, second) for first, second in pairs)))
        return Made(drawn.figure, data, None, [f"No ratio of sizes: {'; '.join(whys)}."] if whys else [])
    return Made(drawn.figure, data, ratio_text(pd.DataFrame(rows)))


def _best_points(curves: dict[str, pd.DataFrame], looks: dict[str, Look]) -> pd.DataFrame:
    """Of several cells of one size the one with the best validation accuracy, as a point of its curve."""
    frames = []
    for name, cells in curves.items():
        best = best_of_each_size(cells)
        frames.append(points_of(best, best["trained_values"], "", [name] * len(best), [looks[name]] * len(best)))
    return pd.concat(frames, ignore_index=True).drop(
        columns=["trained_values", "lr", "rates_tried", "draws", "rate_at_edge"]
    )


def best_of_each_size(cells: pd.DataFrame) -> pd.DataFrame:
    """One cell for each number of trained values: the best on validation, never on test."""
    order = cells[cells[TEST].notna()].sort_values(VALIDATION, ascending=False, kind="stable")
    return order.drop_duplicates("trained_values").sort_values("trained_values")


Named = tuple[str, pd.DataFrame]
"""A curve: its name, and its cells."""


UPDATE = ("adapter.name", "u", "n_tie", "sharing", "rank")
"""What tells one update from another, whatever it was trained by."""


def alike(first: Named, second: Named) -> tuple[Named, Named]:
    """Both curves, of the updates that both were trained with: the one with more to choose from would need fewer."""
    names = [name for name in UPDATE if name in first[1] and name in second[1]]
    keys = [set(_updates(cells, names)) for _, cells in (first, second)]
    both = keys[0] & keys[1]
    one, two = ((name, cells[_updates(cells, names).isin(both)]) for name, cells in (first, second))
    return one, two


def _updates(cells: pd.DataFrame, names: list[str]) -> pd.Series:
    plain = cells[names].astype(str)
    return pd.Series(list(map(tuple, plain.to_numpy())), index=cells.index, dtype=object)


def why_not(part: Part, first: Named, second: Named) -> str:
    """Why the sizes of two curves of `alike` cannot be compared; "" where both gain over the untrained model."""
    for name, cells in (first, second):
        if cells.empty:
            return f"no update was trained both by {first[0]} and by {second[0]}"
        best = best_of_each_size(cells)
        if len(best) < 2:
            return f"{name} was run at one size" if len(best) else f"{name} has no test accuracy"
        own = int(best.sort_values(VALIDATION, kind="stable")["cell"].iloc[-1])
        untrained = part.untrained_cell(str(cells["model.name"].iloc[0]))
        gain = crossed([part.of(own), untrained]).contrast([1.0, -1.0])
        low, _ = gain.interval()
        if not (gain.value if math.isnan(low) else low) > 0:
            return f"{name} does not gain over the untrained model at its best size"
    return ""


def ratio_rows(part: Part, first: Named, second: Named, shares: tuple[float, ...] = SHARES) -> list[dict[str, Any]]:
    """For each compared accuracy: sizes that both need, their ratio, and its interval; none where one never gains.

    `interval` gives the ends for any level: the hierarchical bootstrap's, widened as Student's t is.
    """
    if why_not(part, first, second):
        return []
    untrained = max(
        float(part.untrained_cell(str(cells["model.name"].iloc[0])).scores[0]) for _, cells in (first, second)
    )
    curves = [_measured(part, cells) for _, cells in (first, second)]
    reached = min(float(means.max()) for _, means, _ in curves)
    if not reached > untrained:
        return []
    resampled, rows = _resampled(curves), []
    for share in shares:
        target = untrained + share * (reached - untrained)
        one, two = (float(compare.size_reaching(s, means[None], np.array([target]))[0]) for s, means, _ in curves)
        interval = partial(_interval, curves, resampled, target, two / one)
        low, high = interval(0.95)
        needed = {"size_first": one, "size_second": two, "ratio": two / one, "low": low, "high": high}
        bounded = one <= curves[0][0][0] or two <= curves[1][0][0]
        names = {"first": first[0], "second": second[0], "interval": interval}
        rows.append({**names, "share": share, "accuracy": target, **needed, "bounded": bounded})
    return rows


Curve = tuple[np.ndarray, np.ndarray, list[Cell]]
"""Sizes, accuracies and outcomes of the cells of a curve."""


def _measured(part: Part, cells: pd.DataFrame) -> Curve:
    best = best_of_each_size(cells)
    of = [part.of(cell) for cell in best["cell"]]
    means = np.array([cell.scores.mean() for cell in of])
    return best["trained_values"].to_numpy(dtype=float), means, of


def _resampled(curves: list[Curve]) -> Array | None:
    """(resamples, cells of both); None where a cell has one run."""
    cells = [cell for _, _, of in curves for cell in of]
    return resampled_means(cells) if min(len(cell.scores) for cell in cells) > 1 else None


def _interval(
    curves: list[Curve], resampled: Array | None, target: float, ratio: float, level: float
) -> tuple[float, float]:
    if resampled is None:
        return math.nan, math.nan
    count, targets = len(curves[0][2]), np.full(len(resampled), target)
    parts = ((curves[0][0], resampled[:, :count]), (curves[1][0], resampled[:, count:]))
    ends = compare.ratio_interval(*parts, targets, level)
    draws = min(len(set(cell.draws)) for _, _, of in curves for cell in of)
    if math.isnan(ends[0]) or draws < 2:
        return math.nan, math.nan
    with np.errstate(divide="ignore", over="ignore"):
        value, low, high = np.log([ratio, *ends])
        low, high = np.exp(widened(value, low, high, draws, level))
    return float(low), float(high)


def ratio_text(table: pd.DataFrame) -> pd.DataFrame:
    """The ratios as text."""
    rows = table.to_dict("records")
    return pd.DataFrame(
        {
            "compared": [f"{row['second']} v {row['first']}" for row in rows],
            "gain": [f"{100 * row['share']:g}% of what both reach" for row in rows],
            "accuracy %": [f"{100 * row['accuracy']:.1f}" for row in rows],
            "first needs": [_count(row["size_first"]) for row in rows],
            "second needs": [_count(row["size_second"]) for row in rows],
            "ratio": [_count(row["ratio"]) + (" (bound)" if row["bounded"] else "") for row in rows],
            "95% interval": [range_text(row["low"], row["high"]) for row in rows],
        }
    )


def _count(value: float) -> str:
    return "more than tried" if math.isinf(value) else f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def range_text(low: float, high: float) -> str:
    """An interval of ratios, which may be open to either side."""
    if math.isnan(low) or math.isnan(high):
        return GAP
    if math.isinf(high):
        return "any" if low == 0 else f"at least {_count(low)}"
    return f"at most {_count(high)}" if low == 0 else f"{_count(low)} to {_count(high)}"
