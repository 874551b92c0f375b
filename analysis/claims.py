"""The claims of the paper, each with our measured effect, its interval over seeds, and a verdict.

A claim holds where its whole interval meets the criterion, does not hold where none of it does; anything between, and
fewer than three seeds, is not enough runs. The criterion of each claim is stated beside it: the paper gives few.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis import compare, ratios
from analysis.items import FAMILIES, FIGURE_4, FIGURE_5, FIGURE_7, FIGURE_8, RL_AND_SFT, TINYLORA
from analysis.load import MERGE
from analysis.paper_figures import seeds_of, untrained_score
from analysis.selection import ADAPTER, METHOD, Part, Table, Where, parts
from analysis.stats import TEST, bootstrap_interval
from analysis.tables import GAP

FEWEST_SEEDS = 3
COMPARED_SHARE = 0.5  # of the gain that both reach: where sizes are compared
HOLDS, FAILS, OPEN = "holds", "does not hold", "not enough runs"


@dataclass(frozen=True)
class Effect:
    """What was measured on one part."""

    of: str
    value: float
    low: float
    high: float
    runs: int
    seeds: int
    """The fewest seeds of a cell in it."""


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, and how it is checked."""

    text: str
    paper: str
    """What the paper's numbers say, and where."""
    criterion: str
    threshold: float
    at_least: bool
    unit: str
    where: tuple[Where, ...]
    axes: tuple[str, ...]
    measure: Callable[[Part], list[Effect]]

    def verdict(self, effect: Effect) -> str:
        """Whether it holds, by the interval alone."""
        if effect.seeds < FEWEST_SEEDS or math.isnan(effect.low) or math.isnan(effect.high):
            return OPEN
        good, bad = (effect.low, effect.high) if self.at_least else (-effect.high, -effect.low)
        bound = self.threshold if self.at_least else -self.threshold
        return HOLDS if good >= bound else FAILS if bad < bound else OPEN


def claims_table(table: Table) -> pd.DataFrame:
    """One row for each claim and part that it can be measured on; one without numbers where there is none."""
    rows = []
    for claim in CLAIMS:
        effects = [effect for part in parts(table, "claim", claim.where, claim.axes) for effect in claim.measure(part)]
        rows += [_row(claim, effect) for effect in effects] or [_row(claim, None)]
    return pd.DataFrame(rows)


def _row(claim: Claim, effect: Effect | None) -> dict[str, str]:
    row = {"claim": claim.text, "paper": claim.paper, "criterion": claim.criterion}
    if effect is None:
        return row | {"measured on": GAP, "effect": GAP, "95% interval": GAP, "runs": "0", "verdict": OPEN}
    gap = math.isnan(effect.low) or math.isnan(effect.high)
    ends = GAP if gap else f"{_number(effect.low)} to {_number(effect.high)}"
    return row | {"measured on": effect.of, "effect": f"{_number(effect.value)}{claim.unit}", "95% interval": ends,
                  "runs": f"{effect.runs}", "verdict": claim.verdict(effect)}  # fmt: skip


def _number(value: float) -> str:
    if math.isinf(value):
        return "more than tried"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def _effect(part: Part, cells: Sequence[int], function: Callable[[np.ndarray], np.ndarray], what: str) -> Effect:
    """An effect that is a function of cell means: (R, C) -> (R,), with its interval over resampled seeds."""
    groups = [seeds_of(part.runs, cell) for cell in cells]
    seeds = min(len(values) for values in groups)
    if seeds == 0:
        return Effect(f"{part.title}: {what}", math.nan, math.nan, math.nan, 0, 0)
    value = float(function(np.array([[values.mean() for values in groups]]))[0])
    low, high = compare.interval(function(compare.resampled_means(groups))) if seeds > 1 else (math.nan, math.nan)
    return Effect(f"{part.title}: {what}", value, low, high, sum(map(len, groups)), seeds)


def _with_size(part: Part, low: float, high: float, near: float) -> pd.DataFrame:
    """The TinyLoRA cell with the number of trained values nearest to one; several of that number: best on validation."""
    own = part.cells[(part.cells["adapter.name"] == "tinylora") & part.cells["trained_values"].between(low, high)]
    own = own.assign(distance=(own["trained_values"] - near).abs())
    return own.sort_values(["distance", "final validation/greedy_strict"], ascending=[True, False]).head(1)


def _gain_at(low: float, high: float, near: float) -> Callable[[Part], list[Effect]]:
    """The share of full fine-tuning's gain that an update of this size keeps, in per cent."""

    def measure(part: Part) -> list[Effect]:
        small, full = _with_size(part, low, high, near), part.cells[part.cells["adapter.name"] == "full"].head(1)
        untrained = untrained_score(part, TEST)
        if small.empty or full.empty or math.isnan(untrained):
            return []
        count = small["trained_values"].iloc[0]

        def kept(means: np.ndarray) -> np.ndarray:
            gain = means[:, 1] - untrained
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.where(gain > 0, 100 * (means[:, 0] - untrained) / gain, np.nan)

        return [_effect(part, [*small["cell"], *full["cell"]], kept, f"{count:,.0f} parameters")]

    return measure


def _behind_full(part: Part) -> list[Effect]:
    small, full = _with_size(part, 10, 16, 13), part.cells[part.cells["adapter.name"] == "full"].head(1)
    if small.empty or full.empty:
        return []
    what = f"full less {small['trained_values'].iloc[0]:,.0f} parameters"
    return [_effect(part, [*full["cell"], *small["cell"]], lambda m: 100 * (m[:, 0] - m[:, 1]), what)]


def _one_parameter(part: Part) -> list[Effect]:
    own, untrained = _with_size(part, 1, 1, 1), untrained_score(part, TEST)
    if own.empty or math.isnan(untrained):
        return []
    return [_effect(part, list(own["cell"]), lambda m: 100 * (m[:, 0] - untrained), "1 parameter less untrained")]


def _paired(part: Part, setting: str, first: str, second: str, by: list[str]) -> list[Effect]:
    """The mean over pairs of cells, alike in `by`, of the first's accuracy less the second's, in points."""
    cells = part.cells[part.cells[TEST].notna()]
    one, two = (cells[cells[setting] == value].drop_duplicates(by).set_index(by)["cell"] for value in (first, second))
    both = one.index.intersection(two.index)
    if both.empty:
        return []
    pairs = [*one.loc[both], *two.loc[both]]

    def mean_difference(means: np.ndarray) -> np.ndarray:
        half = len(both)
        difference: np.ndarray = 100 * (means[:, :half] - means[:, half:]).mean(axis=1)
        return difference

    what = f"{first} less {second}, {len(both)} pair{'s' if len(both) > 1 else ''}"
    return [_effect(part, pairs, mean_difference, what)]


def _tiled_v_structured(part: Part) -> list[Effect]:
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

    def mean_difference(means: np.ndarray) -> np.ndarray:
        count = len(tiled)
        curve = np.array([np.interp(places, logs, row[:count]) for row in means])
        difference: np.ndarray = 100 * (curve - means[:, count:]).mean(axis=1)
        return difference

    what = f"tiled less structured at {len(other)} sizes, fp32"
    return [_effect(part, [*tiled["cell"], *other["cell"]], mean_difference, what)]


def _ratio(part: Part, pairs: list[tuple[tuple[str, pd.DataFrame], tuple[str, pd.DataFrame]]]) -> list[Effect]:
    effects = []
    for first, second in pairs:
        for row in ratios.ratio_rows(part, first, second):
            if row["share"] == COMPARED_SHARE:
                what = f"{second[0]} v {first[0]} at {100 * row['accuracy']:.1f}%"
                seeds = int(min(first[1]["seeds"].min(), second[1]["seeds"].min()))
                effects.append(Effect(f"{part.title}: {what}", row["ratio"], row["low"], row["high"], row["runs"], seeds))
    return effects


def _sft_ratio(part: Part) -> list[Effect]:
    curves = ratios.curves_of_algorithms(part.cells)
    grpo = curves.pop("GRPO", None)
    return [] if grpo is None else _ratio(part, [(("GRPO", grpo), other) for other in curves.items()])


def _family_ratio(part: Part) -> list[Effect]:
    models = [(str(name), group) for name, group in part.cells.groupby("model.name", sort=True)]
    pairs = [(a, b) for a in models for b in models
             if (ratios.family(a[0]), ratios.family(b[0])) == ("qwen", "llama")]  # fmt: skip
    return _ratio(part, pairs)


def _last_values(part: Part, metric: str) -> pd.Series:
    """The mean of a metric over the last tenth of the steps, by run."""
    points = part.history[(part.history["metric"] == metric) & part.history["run_key"].isin(part.runs["run_key"])]
    keys = points["run_key"].astype(object)
    late = points["step"] > 0.9 * points.groupby(keys)["step"].transform("max")
    return points[late]["value"].groupby(keys[late]).mean()


def _longer(part: Part) -> list[Effect]:
    """Tokens of the responses of the largest update less those of the smallest."""
    lengths = _last_values(part, "train/completion_tokens")
    order = part.cells.sort_values("trained_values")
    if len(order) < 2:
        return []
    runs = [part.runs[part.runs["cell"] == cell] for cell in (order["cell"].iloc[-1], order["cell"].iloc[0])]
    groups = [own["run_key"].map(lengths).dropna().to_numpy(dtype=float) for own in runs]
    if min(map(len, groups)) == 0:
        return []
    value, low, high = compare.difference(groups[:1], groups[1:])
    sizes = f"{order['trained_values'].iloc[-1]:,.0f} less {order['trained_values'].iloc[0]:,.0f} parameters"
    return [Effect(f"{part.title}: {sizes}", value, low, high, sum(map(len, groups)), min(map(len, groups)))]


def _mismatch(part: Part) -> list[Effect]:
    values = _last_values(part, "train/prob_diff").dropna().to_numpy(dtype=float)
    return [_of_runs(part, values, "mean of all runs")] if len(values) else []


def _merge_kl(part: Part) -> list[Effect]:
    values = part.runs[f"final {MERGE}"].dropna().abs().to_numpy(dtype=float)
    return [_of_runs(part, values, "mean of all runs")] if len(values) else []


def _of_runs(part: Part, values: np.ndarray, what: str) -> Effect:
    low, high = bootstrap_interval(values)
    return Effect(f"{part.title}: {what}", float(values.mean()), float(low), float(high), len(values), len(values))


GRPO_TINYLORA: Where = TINYLORA | {"algorithm.name": ("grpo",)}
GRPO_FULL: Where = {"algorithm.name": ("grpo",), "adapter.name": ("full",), "precision": ("fp32",)}
BY_TIES = ["sharing", "n_tie"]

CLAIMS = (
    Claim("13 parameters keep most of full fine-tuning's gain", "66% (Table 2), 71% (Figure 1), 7B", "at least 50%", 50,
          True, "%", (GRPO_TINYLORA, GRPO_FULL), ADAPTER, _gain_at(10, 16, 13)),
    Claim("196 parameters keep 87% of full fine-tuning's gain", "87% (Table 2), 90% (Figure 1), 7B", "at least 80%", 80,
          True, "%", (GRPO_TINYLORA, GRPO_FULL), ADAPTER, _gain_at(150, 260, 196)),
    Claim("13 parameters come within 5 points of full fine-tuning", "90.7 v 97.0: 6.3 points (Figure 1)",
          "at most 5 points", 5, False, " points", (GRPO_TINYLORA, GRPO_FULL), ADAPTER, _behind_full),
    Claim("One parameter gains about 5 points", "+4.3 (Figure 1), +5 (text)", "at least 4 points", 4, True, " points",
          (GRPO_TINYLORA,), ADAPTER, _one_parameter),
    Claim("SFT needs 100 to 1000 times the parameters of RL", "91 v 83 at 13 parameters (text)",
          "at least 100 times, at half the gain", 100, True, " times", RL_AND_SFT.where, (*METHOD, *ADAPTER), _sft_ratio),
    Claim("fp32 beats bf16 at equal parameters", "+2.4 tiled (Figure 4)", "more than 0 points", 0, True, " points",
          FIGURE_4.where, FIGURE_4.axes, lambda part: _paired(part, "precision", "fp32", "bf16", BY_TIES)),
    Claim("fp32 beats fp16 at equal parameters", "+0.7 tiled (Figure 4)", "more than 0 points", 0, True, " points",
          FIGURE_4.where, FIGURE_4.axes, lambda part: _paired(part, "precision", "fp32", "fp16", BY_TIES)),
    Claim("fp32 is best bit for bit", "bf16 leads at 32 and 64 bytes (Figure 4, by true bytes)", "more than 0 points", 0,
          True, " points", FIGURE_4.where, FIGURE_4.axes,
          lambda part: _paired(part, "precision", "fp32", "bf16", ["sharing", "trained_bytes"])),
    Claim("Tiled sharing beats structured at equal parameters", "+1 to +3 points (Figure 4)", "more than 0 points", 0,
          True, " points", FIGURE_4.where, FIGURE_4.axes, _tiled_v_structured),
    Claim("Qwen needs 10 times fewer parameters than Llama", "about 10 times (text)",
          "at least 10 times, at half the gain", 10, True, " times", FAMILIES.where, FAMILIES.axes, _family_ratio),
    Claim("Larger updates give longer responses", "708 to 795 tokens (7B), but 697 to 688 (3B; Figure 5)",
          "more than 0 tokens", 0, True, " tokens", FIGURE_5.where, FIGURE_5.axes, _longer),
    Claim("A larger frozen rank hurts", "82.1 at r=2, 74.5 at r=64 (Figure 7, 3B, u=1)", "more than 0 points", 0, True,
          " points", FIGURE_7.where, FIGURE_7.axes, lambda part: _paired(part, "rank", 2.0, 64.0, ["model.name", "u"])),
    Claim("Untying helps more than values per group", "78.9 (untied, u=1) v 67.6 (all tied, u=64; Figure 8, 3B)",
          "more than 0 points", 0, True, " points", FIGURE_8.where, FIGURE_8.axes,
          lambda part: _untied_v_values(part)),
    Claim("Sampler and trainer hardly differ", "mean probability difference near .003 (Figure 5)", "at most .005", 0.005,
          False, "", FIGURE_5.where, FIGURE_5.axes, _mismatch),
    Claim("Merged weights and adapter form agree", "called negligible (text)", "KL of at most .001 nats a token", 0.001,
          False, " nats", (GRPO_TINYLORA,), ADAPTER, _merge_kl),
)  # fmt: skip


def _untied_v_values(part: Part) -> list[Effect]:
    effects = []
    for model in part.models:
        own = part.cells[part.cells["model.name"] == model]
        untied = own[(own["n_tie"] == "1") & (own["u"] == 1)]["cell"]
        values = own[(own["n_tie"] == "all") & (own["u"] == 64)]["cell"]
        if len(untied) == 1 and len(values) == 1:
            cells = [*untied, *values]
            effects.append(_effect(part, cells, lambda m: 100 * (m[:, 0] - m[:, 1]), f"{model}, untied u=1 less tied u=64"))
    return effects
