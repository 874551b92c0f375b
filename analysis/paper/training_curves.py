"""Figure 5: reward, response length and the difference between trainer and sampler, by step, a line for each size."""

from __future__ import annotations

import pandas as pd

from analysis.drawing import style
from analysis.drawing.curves import CURVE_LABELS, metrics_figure
from analysis.paper import published as paper
from analysis.paper.figure_points import Made
from analysis.statistics.cells import curve
from analysis.statistics.selection import Part

PAPER_NAMES = {
    "train/reward": "critic/score/mean",
    "train/completion_tokens": "response_length/mean",
    "train/prob_diff": "training/rollout_probs_diff_mean",
}
"""Our name of a metric and the one under which its values are published."""


def dynamics(part: Part) -> Made:
    """Each metric that some run has, in a panel of its own; in the table its values at the last step."""
    cells, frames = part.cells, []
    looks = style.size_looks(cells["trained_values"], cells["method"])
    sizes = cells[["cell", "trained_values", "precision"]].assign(**looks).sort_values("trained_values")
    for metric in CURVE_LABELS:
        curves = curve(part.runs, part.history, metric)
        if curves["mean"].notna().any():
            frames.append(curves.merge(sizes, on="cell").assign(metric=metric))
    if not frames:
        return Made(None, pd.DataFrame())
    curves = pd.concat(frames, ignore_index=True)
    figure = metrics_figure(curves, part.title)
    columns = ["metric", "trained_values", "precision", "step", "n", "mean", "low", "high"]
    ends = curves.sort_values("step").groupby(["metric", "trained_values"], sort=True).tail(1)
    return Made(figure, curves[columns], _ends_table(part, ends))


def _ends_table(part: Part, ends: pd.DataFrame) -> pd.DataFrame:
    """The last step's values, and the paper's where the model is the paper's."""
    ours = ends.pivot(index="trained_values", columns="metric", values="mean").reset_index()
    table = pd.DataFrame({"trained": ours["trained_values"].map("{:,.0f}".format)})
    published = paper.values_of(part.item, part.models, part.task)
    for metric, name in PAPER_NAMES.items():
        if metric not in ours:
            continue
        table[f"{metric}, last step"] = ours[metric].map("{:.4g}".format)
        own = published[published["metric"].str.startswith(name)].set_index("trained_values")["value"]
        if len(own):
            table[f"paper's {name}"] = ours["trained_values"].map(own).map(lambda v: "" if v != v else f"{v:.4g}")
    return table
