"""How many times the trained parameters one way of training needs for the accuracy of another."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from analysis.drawing import style
from analysis.drawing.lines import Level, Look, Scale
from analysis.statistics import compare
from analysis.statistics.bootstrap import nearest_interval, resampled_means
from analysis.statistics.cells import TEST, VALIDATION, seeds_of
from analysis.statistics.selection import Part, by_family, family, untrained_score
from analysis.statistics.text import GAP
from analysis.paper.figure_points import SIZE_LABEL, Made, accuracy_figure, points_of, untrained_levels

SHARES = (0.25, 0.5, 0.75, 0.9)
"""Of the gain over the untrained model that both reach: the accuracies at which sizes are compared."""


def families(part: Part) -> Made:
    """Qwen v Llama: lines of both, and the ratio for each pair of models of different families."""
    own = part.cells[part.cells["model.name"].map(family) != ""]
    curves = {model: own[own["model.name"] == model] for model in by_family(own["model.name"].unique())}
    looks = {model: _family_look(model, list(curves)) for model in curves}
    pairs = [(a, b) for a in curves for b in curves if family(a) == "qwen" and family(b) == "llama"]
    points = _best_points(curves, looks)
    levels = [
        Level("", level.value, f"untrained {model}", looks[model][0])
        for model in curves
        for level in untrained_levels(part, "", model)
    ]
    rows = [row for a, b in pairs for row in ratio_rows(part, (a, curves[a]), (b, curves[b]))]
    return _made(part, points, levels, rows)


def _family_look(model: str, models: list[str]) -> Look:
    """A colour for each family, shades and markers for its models."""
    own = [name for name in models if family(name) == family(model)]
    method = "GRPO" if family(model) == "qwen" else "SFT foreign"
    colour = style.lighten(method, own.index(model) / max(2, len(own)))
    return colour, "solid", style.SERIES_MARKERS[models.index(model) % len(style.SERIES_MARKERS)]


def algorithms(part: Part) -> Made:
    """RL v SFT: the best of every size by each, and the ratio for each manner of demonstrations."""
    curves = curves_of_algorithms(part.cells)
    looks = {name: (style.colour(name), "solid", style.SERIES_MARKERS[i]) for i, name in enumerate(curves)}
    rows = [
        row
        for name in curves
        if name != "GRPO" and "GRPO" in curves
        for row in ratio_rows(part, ("GRPO", curves["GRPO"]), (name, curves[name]))
    ]
    return _made(part, _best_points(curves, looks), untrained_levels(part, ""), rows)


def curves_of_algorithms(cells: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The cells of GRPO, and those of SFT by the manner of its demonstrations, whatever the adapter."""
    names = cells["algorithm.name"].str.upper()
    if "task.demonstrations" in cells:
        manner = cells["task.demonstrations"].where(cells["algorithm.name"] == "sft", "")
        names = (names + " " + manner.fillna("")).str.strip()
    return {str(name): group for name, group in cells.groupby(names, sort=True)}


def _made(part: Part, points: pd.DataFrame, levels: list[Level], rows: list[dict[str, Any]]) -> Made:
    drawn = accuracy_figure(part, points, levels, {"": Scale(SIZE_LABEL)})
    data = drawn.data[drawn.data["x"].notna()]  # without the levels
    if not rows:
        return Made(drawn.figure, data, None, ["There is no accuracy above the untrained model that both reach."])
    return Made(drawn.figure, data, ratio_text(pd.DataFrame(rows)))


def _best_points(curves: dict[str, pd.DataFrame], looks: dict[str, Look]) -> pd.DataFrame:
    """Of several cells of one size the one with the best validation accuracy, as a point of its curve."""
    frames = []
    for name, cells in curves.items():
        best = best_of_each_size(cells)
        frames.append(points_of(best, best["trained_values"], "", [name] * len(best), [looks[name]] * len(best)))
    return pd.concat(frames, ignore_index=True).drop(columns=["trained_values", "lr", "rates_tried"])


def best_of_each_size(cells: pd.DataFrame) -> pd.DataFrame:
    """One cell for each number of trained values: the best on validation, never on test."""
    order = cells[cells[TEST].notna()].sort_values(VALIDATION, ascending=False, kind="stable")
    return order.drop_duplicates("trained_values").sort_values("trained_values")


def ratio_rows(part: Part, first: tuple[str, pd.DataFrame], second: tuple[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """For each compared accuracy: sizes that both need, their ratio, its interval over resampled seeds."""
    models = [str(cells["model.name"].iloc[0]) for _, cells in (first, second)]
    untrained = max(untrained_score(part, TEST, model) for model in models)
    curves = [_measured(part, cells) for _, cells in (first, second)]
    if not all(len(means) for _, means, _ in curves):
        return []
    reached = min(float(means.max()) for _, means, _ in curves)
    if not reached > untrained:
        return []
    names = {"first": first[0], "second": second[0], "runs": _count_of_runs(part, first, second)}
    rows = []
    for share in SHARES:
        target = untrained + share * (reached - untrained)
        one, two = (float(compare.size_reaching(s, means[None], np.array([target]))[0]) for s, means, _ in curves)
        low, high = _ratio_interval(curves, target)
        needed = {"size_first": one, "size_second": two, "ratio": two / one, "low": low, "high": high}
        bounded = one <= curves[0][0][0] or two <= curves[1][0][0]
        rows.append({**names, "share": share, "accuracy": target, **needed, "bounded": bounded})
    return rows


def _count_of_runs(part: Part, *curves: tuple[str, pd.DataFrame]) -> int:
    return sum(len(part.runs[part.runs["cell"].isin(cells["cell"])]) for _, cells in curves)


def without_gain(
    part: Part, first: tuple[str, pd.DataFrame], second: tuple[str, pd.DataFrame], share: float
) -> list[dict[str, Any]]:
    """Where the second never gains over the untrained model: a bound, from this share of the first's gain.

    The second needs more than its largest size. The bound is certain only where the second's resampled curves, too,
    stay below; else there is no interval.
    """
    untrained = max(untrained_score(part, TEST, str(cells["model.name"].iloc[0])) for _, cells in (first, second))
    (sizes, means, groups), (others, below, other_groups) = (_measured(part, cells) for _, cells in (first, second))
    if not (len(means) and len(below)) or means.max() <= untrained or below.max() > untrained:
        return []
    target = untrained + share * (float(means.max()) - untrained)
    low = math.nan
    runs = _count_of_runs(part, first, second)
    if min(map(len, groups + other_groups)) > 1:
        resampled = resampled_means(groups)
        needed = compare.size_reaching(sizes, resampled, np.full(len(resampled), target))
        highest = nearest_interval(resampled_means(other_groups).max(axis=1))[1]
        low = float(others.max()) / nearest_interval(needed)[1] if highest <= target else math.nan
    high = math.inf if low == low else math.nan
    return [{"accuracy": target, "ratio": math.inf, "low": low, "high": high, "runs": runs}]


Curve = tuple[np.ndarray, np.ndarray, list[pd.Series]]


def _measured(part: Part, cells: pd.DataFrame) -> Curve:
    best = best_of_each_size(cells)
    groups = [seeds_of(part.runs, cell) for cell in best["cell"]]
    return best["trained_values"].to_numpy(dtype=float), best[TEST].to_numpy(dtype=float), groups


def _ratio_interval(curves: list[Curve], target: float) -> tuple[float, float]:
    if min(len(values) for _, _, groups in curves for values in groups) < 2:
        return math.nan, math.nan
    means = resampled_means([values for _, _, groups in curves for values in groups])
    count = len(curves[0][2])
    targets = np.full(len(means), target)
    return compare.ratio_interval((curves[0][0], means[:, :count]), (curves[1][0], means[:, count:]), targets)


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
