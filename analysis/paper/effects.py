"""The effects that the paper's claims are about, measured on a part of our runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.paper import ratios
from analysis.paper.effect import Effect, contrast, difference, from_cells, incomparable, of_intervals, share_kept
from analysis.records.load import MERGE
from analysis.statistics.cells import VALIDATION
from analysis.statistics.crossed import Cell
from analysis.statistics.measured import TEST, measured
from analysis.statistics.selection import Part, family
from analysis.statistics.text import show

COMPARED_SHARE = 0.5  # of the gain that both reach: where sizes are compared
FEWER = 252 / 64  # the paper compares 252 values of its own with 64 that all maps share
SIGNIFICANT_BITS = {"bf16": 8, "fp16": 11}
ONE_ENGINE = "one engine in fp32: no difference could show"

Measure = Callable[[Part], list[Effect]]
"""The effects of a part: none where it lacks the runs, one, or one for each model or pair of models."""


def _one(cells: pd.DataFrame) -> list[int]:
    return [int(cell) for cell in cells["cell"]]


def _with_size(part: Part, size: int, between: tuple[int, int], u: int | None = None) -> pd.DataFrame:
    """The TinyLoRA cell with nearly so many trained values (of this u); of several the best on validation."""
    own = part.cells[(part.cells["adapter.name"] == "tinylora") & part.cells["trained_values"].between(*between)]
    own = own if u is None else own[own["u"] == u]
    own = own.assign(distance=(own["trained_values"] - size).abs())
    return own.sort_values(["distance", VALIDATION], ascending=[True, False]).head(1)


def _full(part: Part) -> pd.DataFrame:
    return part.cells[part.cells["adapter.name"] == "full"].head(1)


def gain_at(size: int, between: tuple[int, int], u: int | None = None) -> Measure:
    """The share of full fine-tuning's gain that an update of this size keeps, in per cent."""

    def measure(part: Part) -> list[Effect]:
        small, full = _with_size(part, size, between, u), _full(part)
        if small.empty or full.empty or math.isnan(part.untrained_cell().scores[0]):
            return []
        count = small["trained_values"].iloc[0]
        return [share_kept(part, _one(small)[0], _one(full)[0], f"{count:,.0f} parameters")]

    return measure


def behind_full(part: Part) -> list[Effect]:
    """Points by which full fine-tuning is ahead of about 13 parameters (u=1)."""
    small, full = _with_size(part, 13, (10, 16), u=1), _full(part)
    if small.empty or full.empty:
        return []
    what = f"full less {small['trained_values'].iloc[0]:,.0f} parameters"
    return [difference(part, _one(full), _one(small), what)]


def one_parameter(part: Part) -> list[Effect]:
    """Points that one parameter gains over the untrained model."""
    own = _with_size(part, 1, (1, 1))
    if own.empty or math.isnan(part.untrained_cell().scores[0]):
        return []
    return [contrast(part, {_one(own)[0]: 1.0}, "1 parameter less untrained", untrained=-1.0)]


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
                effect = difference(part, list(one.loc[both]), list(two.loc[both]), what)
                short = too_short_to_stall(part, second, list(two.loc[both]))
                effects.append(replace(effect, notes=(*effect.notes, *short)))
        return effects

    return measure


def too_short_to_stall(part: Part, precision: str, ids: Sequence[int]) -> list[str]:
    """A note where these cells are too short for their precision to lose a step.

    Adam moves a value by about one rate a step at most, and a step of one rate is lost in values of 2^bits rates.
    """
    steps = part.runs.loc[part.runs["cell"].isin(ids), "steps"].max()
    limit = 2 ** SIGNIFICANT_BITS.get(precision, 0)
    if steps >= limit:
        return []
    return [
        f"{steps:.0f} steps are too few for {precision} to stall: it loses a step in values of {limit} rates or more"
    ]


def _along(curve: pd.DataFrame, sizes: Sequence[float]) -> dict[int, float]:
    """The mean of a curve at these sizes (log-linear between its own) as weights of its cells."""
    logs, weights = np.log(curve["trained_values"].to_numpy(dtype=float)), np.zeros(len(curve))
    for size in sizes:
        weights += [np.interp(math.log(size), logs, unit) / len(sizes) for unit in np.eye(len(curve))]
    return {cell: float(weight) for cell, weight in zip(_one(curve), weights, strict=True) if weight}


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
    weights = _along(tiled, list(other["trained_values"])) | {cell: -1 / len(other) for cell in _one(other)}
    return [contrast(part, weights, f"tiled less structured at {len(other)} sizes, fp32")]


def _untied_and_tied(part: Part, model: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The cell with one value for each map, and those with several values for all maps, by size."""
    own = part.cells[(part.cells["model.name"] == model) & part.cells[TEST].notna()]
    untied = own[(own["n_tie"] == "1") & (own["u"] == 1)].head(1)
    return untied, own[own["n_tie"] == "all"].sort_values("trained_values")


def untied_v_fewer(part: Part) -> list[Effect]:
    """Points by which one value for each map is ahead of a quarter as many values for all (the paper's 252 v 64)."""
    effects = []
    for model in part.models:
        untied, tied = _untied_and_tied(part, model)
        if untied.empty or tied.empty:
            continue
        wanted = math.log(untied["trained_values"].iloc[0] / FEWER)
        away = (np.log(tied["trained_values"].astype(float)) - wanted).abs().sort_values()
        if away.iloc[0] > math.log(2):  # that would be another comparison
            continue
        tied = tied.loc[away.index[:1]]
        counts = [f"{cell['trained_values'].iloc[0]:,.0f}" for cell in (untied, tied)]
        what = f"{model}, {counts[0]} untied (u=1) less {counts[1]} tied"
        effects.append(difference(part, _one(untied), _one(tied), what))
    return effects


def untied_v_equal(part: Part) -> list[Effect]:
    """Points by which one value for each map is ahead of as many values for all (log-linear between sizes)."""
    effects = []
    for model in part.models:
        untied, tied = _untied_and_tied(part, model)
        size = float(untied["trained_values"].iloc[0]) if len(untied) else math.nan
        if len(tied) and tied["trained_values"].min() <= size <= tied["trained_values"].max():
            weights = {_one(untied)[0]: 1.0} | {cell: -weight for cell, weight in _along(tied, [size]).items()}
            effects.append(contrast(part, weights, f"{model}, untied less tied at {size:,.0f} values"))
    return effects


def _ratio(part: Part, first: tuple[str, pd.DataFrame], second: tuple[str, pd.DataFrame]) -> list[Effect]:
    first, second = ratios.alike(first, second)
    ids = [int(cell) for _, cells in (first, second) for cell in ratios.best_of_each_size(cells)["cell"]]
    names = f"{second[0]} v {first[0]}"
    if why := ratios.why_not(part, first, second):
        return [incomparable(part, ids, names, why)]
    rows: list[dict[str, Any]] = ratios.ratio_rows(part, first, second, (COMPARED_SHARE,))
    return [
        of_intervals(part, ids, f"{names} at {100 * row['accuracy']:.1f}%", row["ratio"], row["interval"])
        for row in rows
    ]


def sft_ratio(part: Part) -> list[Effect]:
    """How many times the parameters of GRPO SFT needs, for each manner of demonstrations."""
    curves = ratios.curves_of_algorithms(part.cells)
    grpo = curves.pop("GRPO", None)
    return [] if grpo is None else [e for other in curves.items() for e in _ratio(part, ("GRPO", grpo), other)]


def rl_less_sft(part: Part) -> list[Effect]:
    """Points by which GRPO is ahead of SFT where the same values are trained, for each manner of demonstrations."""
    alike, effects = ["u", "n_tie"], []
    own = part.cells[(part.cells["adapter.name"] == "tinylora") & part.cells[TEST].notna()]
    curves = {
        name: cells.sort_values(VALIDATION, ascending=False, kind="stable").drop_duplicates(alike)
        for name, cells in ratios.curves_of_algorithms(own).items()
    }
    if (grpo := curves.pop("GRPO", None)) is None:
        return []
    one = grpo.set_index(alike)["cell"]
    for name, cells in curves.items():
        two = cells.set_index(alike)["cell"]
        both = one.index.intersection(two.index)
        if len(both):
            sizes = " and ".join(
                f"{size:,.0f}" for size in sorted(grpo[grpo["cell"].isin(one.loc[both])]["trained_values"])
            )
            effects.append(difference(part, list(one.loc[both]), list(two.loc[both]), f"GRPO less {name} at {sizes}"))
    return effects


def family_ratio(part: Part) -> list[Effect]:
    """How many times the parameters of a Qwen model a Llama model needs, for each pair."""
    models = [(str(name), group) for name, group in part.cells.groupby("model.name", sort=True)]
    both = [(a, b) for a in models for b in models if (family(a[0]), family(b[0])) == ("qwen", "llama")]
    return [effect for a, b in both for effect in _ratio(part, a, b)]


def _last_values(part: Part, metric: str) -> pd.Series:
    """The mean of a metric over the last tenth of the steps, by run."""
    points = part.history[(part.history["metric"] == metric) & part.history["run_key"].isin(part.runs["run_key"])]
    keys = points["run_key"].astype(object)
    late = points["step"] > 0.9 * points.groupby(keys)["step"].transform("max")
    return points[late]["value"].groupby(keys[late]).mean()


def longer(part: Part) -> list[Effect]:
    """Tokens of the responses of the largest update less those of the smallest."""
    runs = part.runs.assign(length=part.runs["run_key"].map(_last_values(part, "train/completion_tokens")))
    order = part.cells.sort_values("trained_values")
    if len(order) < 2:
        return []
    ends = order.iloc[[-1, 0]]
    cells: list[Cell] = [measured(runs[runs["cell"] == cell], "length", {}) for cell in ends["cell"]]
    if min(len(cell.scores) for cell in cells) == 0:
        return []
    large, small = ends["trained_values"]
    return [from_cells(part, _one(ends), cells, [1.0, -1.0], f"{large:,.0f} less {small:,.0f} parameters")]


def mismatch(part: Part) -> list[Effect]:
    """Mean difference of the probabilities of trainer and sampler at the end of training."""
    return _mean_of_runs(part, part.runs["run_key"].map(_last_values(part, "train/prob_diff")))


def merge_kl(part: Part) -> list[Effect]:
    """KL between merged weights and adapter form at the end of training."""
    return _mean_of_runs(part, part.runs[f"final {MERGE}"].abs())


def _mean_of_runs(part: Part, values: pd.Series) -> list[Effect]:
    runs = part.runs.assign(measured=values.astype(float))
    ids, cell = _one(part.cells), measured(runs, "measured", {})
    if not len(cell.scores):
        return []
    if (part.runs["model.dtype"] == "fp32").all():
        return [incomparable(part, ids, "mean of all runs", ONE_ENGINE)]
    return [from_cells(part, ids, [cell], [1.0], "mean of all runs")]
