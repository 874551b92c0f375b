"""The effects that the paper's claims are about, measured on a part of our runs, with intervals over its seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.statistics import compare
from analysis.statistics.bootstrap import Array, bootstrap_interval, nearest_interval, resampled_means
from analysis.statistics.cells import TEST, VALIDATION, seeds_of
from analysis.statistics.selection import Part, by_family, family, untrained_score
from analysis.statistics.text import show
from analysis.paper import ratios
from analysis.records.load import MERGE

COMPARED_SHARE = 0.5  # of the gain that both reach: where sizes are compared


@dataclass(frozen=True)
class Effect:
    """What was measured on one part."""

    of: str
    models: tuple[str, ...]
    value: float
    low: float
    high: float
    runs: int
    seeds: int
    """The fewest seeds of a cell in it."""


Measure = Callable[[Part], list[Effect]]
"""The effects of a part: none where it lacks the runs, one, or one for each model or pair of models."""


def _effect(part: Part, cells: Sequence[int], function: Callable[[Array], Array], what: str) -> Effect:
    """An effect that is a function of cell means, (resamples, cells) -> (resamples,), with its interval over seeds."""
    groups = [seeds_of(part.runs, cell) for cell in cells]
    seeds = min(len(values) for values in groups)
    of = f"{part.title}: {what}"
    models = tuple(by_family(part.cells.loc[part.cells["cell"].isin(cells), "model.name"].unique()))
    if seeds == 0:
        return Effect(of, models, math.nan, math.nan, math.nan, 0, 0)
    value = float(function(np.array([[values.mean() for values in groups]]))[0])
    low, high = nearest_interval(function(resampled_means(groups))) if seeds > 1 else (math.nan, math.nan)
    return Effect(of, models, value, low, high, sum(map(len, groups)), seeds)


def _difference(part: Part, first: Sequence[int], second: Sequence[int], what: str) -> Effect:
    """Points by which the first cells are ahead of the second, the mean over their pairs."""

    def ahead(means: Array) -> Array:
        difference: Array = 100 * (means[:, : len(first)] - means[:, len(first) :]).mean(axis=1)
        return difference

    return _effect(part, [*first, *second], ahead, what)


def _with_size(part: Part, size: int, between: tuple[int, int]) -> pd.DataFrame:
    """The TinyLoRA cell with nearly so many trained values; of several the best on validation."""
    own = part.cells[(part.cells["adapter.name"] == "tinylora") & part.cells["trained_values"].between(*between)]
    own = own.assign(distance=(own["trained_values"] - size).abs())
    return own.sort_values(["distance", VALIDATION], ascending=[True, False]).head(1)


def gain_at(size: int, between: tuple[int, int]) -> Measure:
    """The share of full fine-tuning's gain that an update of this size keeps, in per cent."""

    def measure(part: Part) -> list[Effect]:
        small, full = _with_size(part, size, between), part.cells[part.cells["adapter.name"] == "full"].head(1)
        untrained = untrained_score(part, TEST)
        if small.empty or full.empty or math.isnan(untrained):
            return []
        count = small["trained_values"].iloc[0]

        def kept(means: Array) -> Array:
            gain = means[:, 1] - untrained
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.where(gain > 0, 100 * (means[:, 0] - untrained) / gain, np.nan)

        return [_effect(part, [*small["cell"], *full["cell"]], kept, f"{count:,.0f} parameters")]

    return measure


def behind_full(part: Part) -> list[Effect]:
    """Points by which full fine-tuning is ahead of about 13 parameters."""
    small, full = _with_size(part, 13, (10, 16)), part.cells[part.cells["adapter.name"] == "full"].head(1)
    if small.empty or full.empty:
        return []
    what = f"full less {small['trained_values'].iloc[0]:,.0f} parameters"
    return [_difference(part, full["cell"], small["cell"], what)]


def one_parameter(part: Part) -> list[Effect]:
    """Points that one parameter gains over the untrained model."""
    own, untrained = _with_size(part, 1, (1, 1)), untrained_score(part, TEST)
    if own.empty or math.isnan(untrained):
        return []
    return [_effect(part, list(own["cell"]), lambda m: 100 * (m[:, 0] - untrained), "1 parameter less untrained")]


def pairs(setting: str, first: str, second: str, alike_in: tuple[str, ...]) -> Measure:
    """The mean over pairs of cells of the first value's accuracy less the second's, in points."""

    def measure(part: Part) -> list[Effect]:
        effects, alike = [], list(alike_in)
        for model in part.models:
            cells = part.cells[part.cells[TEST].notna() & (part.cells["model.name"] == model)]
            values = cells[setting].map(show)
            one, two = (cells[values == v].drop_duplicates(alike).set_index(alike)["cell"] for v in (first, second))
            both = one.index.intersection(two.index)
            if len(both):
                of = f"{model}, " if len(part.models) > 1 else ""
                what = f"{of}{setting} {first} less {second}, {len(both)} pair{'s' if len(both) > 1 else ''}"
                effects.append(_difference(part, one.loc[both], two.loc[both], what))
        return effects

    return measure


def tiled_v_structured(part: Part) -> list[Effect]:
    """Structured cells against the tiled curve at the same number of values (log-linear between its sizes)."""
    cells = part.cells[(part.cells["precision"] == "fp32") & part.cells[TEST].notna()].sort_values("trained_values")
    tiled, other = cells[cells["sharing"] == "tiled"], cells[cells["sharing"] == "structured"]
    if len(tiled) < 2:
        return []
    sizes = tiled["trained_values"]
    other = other[other["trained_values"].between(sizes.min(), sizes.max()) & (other["n_tie"] != "1")]
    if other.empty:
        return []
    logs, places = np.log(sizes.to_numpy(dtype=float)), np.log(other["trained_values"].to_numpy(dtype=float))

    def mean_difference(means: Array) -> Array:
        count = len(tiled)
        curve = np.array([np.interp(places, logs, row[:count]) for row in means])
        difference: Array = 100 * (curve - means[:, count:]).mean(axis=1)
        return difference

    what = f"tiled less structured at {len(other)} sizes, fp32"
    return [_effect(part, [*tiled["cell"], *other["cell"]], mean_difference, what)]


def _ratio(part: Part, pairs: list[tuple[tuple[str, pd.DataFrame], tuple[str, pd.DataFrame]]]) -> list[Effect]:
    effects = []
    for first, second in pairs:
        rows = [row for row in ratios.ratio_rows(part, first, second) if row["share"] == COMPARED_SHARE]
        seeds = int(min(first[1]["seeds"].min(), second[1]["seeds"].min()))
        for row in rows or ratios.without_gain(part, first, second, COMPARED_SHARE):
            at = f"at {100 * row['accuracy']:.1f}%" + ("" if rows else ", which it reaches at no size")
            of = f"{part.title}: {second[0]} v {first[0]} {at}"
            effects.append(Effect(of, part.models, row["ratio"], row["low"], row["high"], row["runs"], seeds))
    return effects


def sft_ratio(part: Part) -> list[Effect]:
    """How many times the parameters of GRPO SFT needs, for each manner of demonstrations."""
    curves = ratios.curves_of_algorithms(part.cells)
    grpo = curves.pop("GRPO", None)
    return [] if grpo is None else _ratio(part, [(("GRPO", grpo), other) for other in curves.items()])


def family_ratio(part: Part) -> list[Effect]:
    """How many times the parameters of a Qwen model a Llama model needs, for each pair."""
    models = [(str(name), group) for name, group in part.cells.groupby("model.name", sort=True)]
    pairs = [(a, b) for a in models for b in models if (family(a[0]), family(b[0])) == ("qwen", "llama")]
    return _ratio(part, pairs)


def _last_values(part: Part, metric: str) -> pd.Series:
    """The mean of a metric over the last tenth of the steps, by run."""
    points = part.history[(part.history["metric"] == metric) & part.history["run_key"].isin(part.runs["run_key"])]
    keys = points["run_key"].astype(object)
    late = points["step"] > 0.9 * points.groupby(keys)["step"].transform("max")
    return points[late]["value"].groupby(keys[late]).mean()


def longer(part: Part) -> list[Effect]:
    """Tokens of the responses of the largest update less those of the smallest."""
    lengths = _last_values(part, "train/completion_tokens")
    order = part.cells.sort_values("trained_values")
    if len(order) < 2:
        return []
    small, large = order.iloc[0], order.iloc[-1]
    runs = [part.runs[part.runs["cell"] == end["cell"]] for end in (large, small)]
    groups = [own.set_index("seed")["run_key"].map(lengths).dropna().astype(float) for own in runs]
    if min(map(len, groups)) == 0:
        return []
    value, low, high = compare.difference(groups[:1], groups[1:])
    of = f"{part.title}: {large['trained_values']:,.0f} less {small['trained_values']:,.0f} parameters"
    return [Effect(of, part.models, value, low, high, sum(map(len, groups)), min(map(len, groups)))]


def mismatch(part: Part) -> list[Effect]:
    """Mean difference of the probabilities of trainer and sampler at the end of training."""
    return _mean_of_runs(part, _last_values(part, "train/prob_diff"))


def merge_kl(part: Part) -> list[Effect]:
    """KL between merged weights and adapter form at the end of training."""
    return _mean_of_runs(part, part.runs[f"final {MERGE}"].abs())


def _mean_of_runs(part: Part, of_runs: pd.Series) -> list[Effect]:
    values, of = of_runs.dropna().to_numpy(dtype=float), f"{part.title}: mean of all runs"
    if not len(values):
        return []
    low, high = map(float, bootstrap_interval(values))
    return [Effect(of, part.models, float(values.mean()), low, high, len(values), len(values))]


def untied_v_values(part: Part) -> list[Effect]:
    """Points by which one value for each map is ahead of 64 values for all."""
    effects = []
    for model in part.models:
        own = part.cells[part.cells["model.name"] == model]
        untied = own[(own["n_tie"] == "1") & (own["u"] == 1)]["cell"]
        values = own[(own["n_tie"] == "all") & (own["u"] == 64)]["cell"]
        if len(untied) == 1 and len(values) == 1:
            effects.append(_difference(part, untied, values, f"{model}, untied u=1 less tied u=64"))
    return effects
