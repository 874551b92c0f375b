"""Training by step: reward, response length, and the difference between the probabilities of trainer and sampler.

Figure 5 of the paper has a line for each size. `plain_sweeps` draws its curves by the same functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from analysis.drawing import style
from analysis.drawing.curves import CURVE_LABELS, metrics_figure
from analysis.paper import published as paper
from analysis.paper.figure_points import Made
from analysis.statistics.cells import curve
from analysis.statistics.selection import Part
from analysis.statistics.text import GAP

PAPER_NAMES = {
    "train/reward": "critic/score/mean",
    "train/completion_tokens": "response_length/mean",
    "train/prob_diff": "training/rollout_probs_diff_mean",
}
"""Our name of a metric and the one under which its values are published."""
OF_CELLS = ("cell", "line", "method", "trained_values", "precision", "colour", "curve_label")
SIZES = "trained parameters"


def dynamics(part: Part) -> Made:
    """Figure 5: each metric that some run has, in a panel of its own; in the table its values at the last step."""
    looks = style.size_looks(part.cells["trained_values"], part.cells["method"])
    curves = curves_of(part, part.cells.assign(**looks).sort_values("trained_values", kind="stable"))
    return Made(None, curves) if curves.empty else made_of(part, curves, curves)


def curves_of(part: Part, cells: pd.DataFrame) -> pd.DataFrame:
    """The curves of each metric that some run of these cells has; without rows where no run has any.

    Columns: metric, step, n, mean, low, high, and of each curve's cell the columns `OF_CELLS`.
    """
    named = cells[[name for name in OF_CELLS if name in cells]]
    runs = part.runs[part.runs["cell"].isin(cells["cell"])]
    found = [(metric, curve(runs, part.history, metric)) for metric in CURVE_LABELS]
    frames = [named.merge(one, on="cell").assign(metric=metric) for metric, one in found if one["mean"].notna().any()]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def made_of(
    part: Part, curves: pd.DataFrame, drawn: pd.DataFrame, labels: str = SIZES, apart: Sequence[str] = ()
) -> Made:
    """The figure of the curves to be `drawn`, the numbers of all, and a table of the last step of each cell.

    `labels` says what the labels of the curves are; `apart` are columns that tell apart cells of one size.
    """
    figure = metrics_figure(drawn, part.title, labels)
    columns = ["metric", *apart, "trained_values", "precision", "step", "n", "mean", "low", "high"]
    return Made(figure, curves[columns], _ends_table(part, curves, apart))


def _ends_table(part: Part, curves: pd.DataFrame, apart: Sequence[str]) -> pd.DataFrame:
    """The last step's values, and the paper's where the model is the paper's."""
    cells = curves.drop_duplicates("cell").set_index("cell")
    ends = curves.sort_values("step", kind="stable").groupby(["metric", "cell"]).tail(1)
    ours = ends.pivot(index="cell", columns="metric", values="mean").reindex(cells.index)
    table = cells[list(apart)].assign(trained=cells["trained_values"].map("{:,.0f}".format))
    published = paper.values_of(part.item, part.models, part.task)
    for metric, name in PAPER_NAMES.items():
        if metric not in ours:
            continue
        table[f"{metric}, last step"] = [GAP if math.isnan(value) else f"{value:.4g}" for value in ours[metric]]
        own = published[published["metric"].str.startswith(name)].set_index("trained_values")["value"]
        if len(own):
            theirs = cells["trained_values"].map(own)
            table[f"paper's {name}"] = ["" if math.isnan(value) else f"{value:.4g}" for value in theirs]
    return table.reset_index(drop=True)
