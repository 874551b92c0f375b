"""Interactive charts of one model and task for the page: accuracy by size, and training by step (Vega-Altair).

A chart is a Vega-Lite specification with its data inside. A click on the legend shows one line alone, and the values of
a point are shown where the pointer is. Figures for papers are drawn elsewhere (`analysis.drawing`), as vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import altair as alt
import pandas as pd

from analysis.drawing import style
from analysis.statistics.cells import UNTRAINED
from analysis.statistics.measured import TEST

Spec = dict[str, Any]
Layers = alt.LayerChart | alt.FacetChart
METRICS = {
    "train/reward": "reward of training completions",
    "eval/validation/sampled_strict": "accuracy on validation problems, sampled",
    "train/completion_tokens": "tokens of a training completion",
    "train/token_entropy": "entropy of a token (nats)",
}
"""What can be drawn against the step, and its name on the chart; those that no run has are left out."""
MOST_POINTS = 15_000  # of all curves of a chart: a quarter of a megabyte of the page
MOST_STEPS = 60  # of a curve
LABEL_LIMIT = 300  # pixels of a name in the legend
FEW_LINES = 4
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
"""Markers, by Vega's names, of the lines of one method."""
HEIGHT = 280  # pixels
FAINT = 0.08  # opacity of lines that were not chosen
GREY = "#808080"
CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        **dict.fromkeys(("labelFontSize", "titleFontSize"), 12),
        **dict.fromkeys(("labelColor", "titleColor"), "currentColor"),
        **dict.fromkeys(("domainColor", "tickColor"), GREY),
        "gridColor": f"{GREY}33",
        "titleFontWeight": "normal",
    },
    "legend": {"labelColor": "currentColor", "labelLimit": 320, "labelFontSize": 12},
}
"""Text takes the colour of the page, so that charts can be read in light and dark."""


@dataclass(frozen=True)
class _Lines:
    """How the lines of a chart are told apart, and how one of them is shown alone."""

    colour: alt.Color
    shape: alt.Shape
    opacity: Any
    alone: alt.Parameter


def accuracy_chart(cells: pd.DataFrame, runs: pd.DataFrame, base: pd.DataFrame) -> Spec | None:
    """Sampled test accuracy by trained values: the mean of each chosen cell with its interval, and each run behind it.

    The cells have a `line`. None where none has a score.
    """
    chosen = cells[cells["chosen"] & (cells["method"] != UNTRAINED) & cells[TEST].notna()]
    if chosen.empty:
        return None
    names = {"line": "line", "trained_values": "size", TEST: "accuracy", f"{TEST} low": "low", f"{TEST} high": "high"}
    sizes = {"trained_values": "int64"}  # floats are written with four digits
    means = chosen.astype(sizes)[[*names, "lr", "seeds"]].rename(columns=names)
    means = means.sort_values(["line", "size"], kind="stable")
    own = runs[runs["counted"] & runs["cell"].isin(chosen["cell"]) & runs[TEST].notna()].astype(sizes)
    lines = own["cell"].map(chosen.set_index("cell")["line"])
    points = pd.DataFrame({"line": lines, "size": own["trained_values"], "accuracy": own[TEST], "run": own["run_key"]})
    level = pd.DataFrame({"accuracy": base["sampled"].dropna().unique()})
    by_size = chosen.sort_values("trained_values", kind="stable")
    return _chart(_accuracy(means, points, level, _lines(by_size.drop_duplicates("line"))))


def training_chart(cells: pd.DataFrame, runs: pd.DataFrame, history: pd.DataFrame) -> Spec | None:
    """Metrics by step: the mean over the runs of each chosen cell, and each run behind it. None where there is none."""
    chosen = cells[cells["chosen"] & (cells["method"] != UNTRAINED)]
    own = runs[runs["averaged"] & runs["cell"].isin(chosen["cell"])].set_index("run_key")["cell"]
    history = history[history["run_key"].isin(own.index) & history["metric"].isin(METRICS) & history["value"].notna()]
    if history.empty:
        return None
    chosen = chosen.sort_values(["method", "trained_values"], kind="stable")
    chosen = chosen.assign(line=_curve_names(chosen))
    curves = own.map(chosen.set_index("cell")["line"]).reset_index().set_axis(["run", "line"], axis=1)
    numbers = {run: number for number, run in enumerate(curves["run"])}
    metrics = [name for name in METRICS if name in set(history["metric"])]
    found = pd.DataFrame(
        {
            "metric": history["metric"].astype(str).map(metrics.index),
            "curve": history["run_key"].astype(str).map(numbers),
            "step": history["step"],
            "value": history["value"],
        }
    )
    names = curves.assign(curve=range(len(curves)))
    return _chart(_training(_thinned(found), names, [METRICS[name] for name in metrics], _lines(chosen)))


def _lines(chosen: pd.DataFrame) -> _Lines:
    """One look for each row, by its `line`: the colour of its method, darker from one line of the method to the next.

    Markers tell lines of a method apart, too. A few lines of one method alone have the colours of all methods.
    """
    looks: dict[str, str] = {}
    shapes: list[str] = []
    for method, group in chosen.groupby("method", sort=True):
        names = list(group["line"])
        looks |= {name: style.lighten(method, 1 - (i + 1) / len(names)) for i, name in enumerate(names)}
        shapes += [SHAPES[i % len(SHAPES)] for i in range(len(names))]
    if chosen["method"].nunique() == 1 and len(looks) <= FEW_LINES:
        looks = dict(zip(looks, style.METHOD_COLOURS.values(), strict=False))
    alone = alt.selection_point(name="alone", fields=["line"], bind="legend")
    columns = alt.ExprRef("width < 400 ? 1 : 2")
    legend = alt.Legend(title=None, orient="bottom", columns=columns, symbolLimit=0, labelLimit=LABEL_LIMIT)
    colour = alt.Color("line:N", scale=alt.Scale(domain=list(looks), range=list(looks.values())), legend=legend)
    shape = alt.Shape("line:N", scale=alt.Scale(domain=list(looks), range=shapes), legend=legend)
    return _Lines(colour, shape, alt.when(alone).then(alt.value(1)).otherwise(alt.value(FAINT)), alone)


def _accuracy(means: pd.DataFrame, points: pd.DataFrame, level: pd.DataFrame, lines: _Lines) -> Layers:
    title = "right answers, sampled"
    size = alt.X("size:Q").scale(type="log").axis(title="trained values", format=",d", tickCount=8)
    height = alt.Y("accuracy:Q").scale(zero=False).axis(title=title, format=".0%")
    told = [
        alt.Tooltip("line:N"),
        alt.Tooltip("size:Q", title="trained values", format=",d"),
        alt.Tooltip("accuracy:Q", format=".1%"),
    ]
    ends = [alt.Tooltip(f"{end}:Q", title=f"95% interval, {end}", format=".1%") for end in ("low", "high")]
    cell = [*told, *ends, alt.Tooltip("seeds:Q", title="runs"), alt.Tooltip("lr:Q", format=".3g")]
    looks: dict[str, Any] = {"x": size, "color": lines.colour, "opacity": lines.opacity}
    marks = looks | {"shape": lines.shape}
    each = alt.Chart(_inline(points)).mark_point(size=14, strokeWidth=1)
    known = alt.Chart(_inline(means[means["low"].notna()])).mark_rule(strokeWidth=2)
    base = alt.Chart(_inline(means)).encode(y=height, **looks)
    layers = [
        alt.Chart(_inline(level)).mark_rule(strokeDash=[8, 4], color=GREY).encode(y=height),
        each.encode(y=height, tooltip=[*told, alt.Tooltip("run:N")], **marks),
        known.encode(y=alt.Y("low:Q").title(title), y2="high:Q", **looks),
        base.mark_line(),
        base.mark_point(filled=True, size=55).encode(tooltip=cell, shape=lines.shape),
    ]
    if means["low"].isna().all():
        layers.pop(2)
    return alt.layer(*layers).add_params(lines.alone)


def _training(points: pd.DataFrame, names: pd.DataFrame, metrics: list[str], lines: _Lines) -> Layers:
    """`points` hold numbers alone; `names` says which run and which line the number of a curve is."""
    choice = alt.binding_select(options=list(range(len(metrics))), labels=metrics, name="shown: ")
    shown = alt.param(name="shown", value=0, bind=choice)
    of_curve = alt.LookupData(data=_inline(names), key="curve", fields=["run", "line"])
    chart = alt.Chart(_inline(points)).transform_filter("datum.metric == shown")
    chart = chart.transform_lookup(lookup="curve", from_=of_curve)
    chart = chart.encode(alt.X("step:Q").axis(title="step", tickMinStep=1), lines.colour, opacity=lines.opacity)
    mean = alt.Y("mean(value):Q").scale(zero=False).axis(title=None)
    told = [
        alt.Tooltip("line:N"),
        alt.Tooltip("step:Q"),
        alt.Tooltip("mean(value):Q", title="mean", format=".4~g"),
        alt.Tooltip("distinct(run):Q", title="runs"),
    ]
    return alt.layer(
        chart.mark_line(strokeWidth=0.6, strokeOpacity=0.4).encode(alt.Y("value:Q").axis(title=None), detail="run:N"),
        chart.mark_line(strokeWidth=2).encode(mean),
        chart.mark_point(size=80, filled=True, fillOpacity=0).encode(mean, tooltip=told),
    ).add_params(lines.alone, shown)


def _thinned(found: pd.DataFrame) -> pd.DataFrame:
    """Few enough points: means over neighbouring steps, which have the last of them as their step."""
    curves = found.groupby(["metric", "curve"]).ngroups
    most = max(2, min(MOST_STEPS, MOST_POINTS // curves))
    steps = found.groupby("metric")["step"]
    spans = steps.transform(lambda own: -(-own.nunique() // most))
    parts = (steps.rank(method="dense") - 1) // spans
    groups = found.assign(part=parts).groupby(["metric", "curve", "part"], sort=True)
    return groups.agg(step=("step", "max"), value=("value", "mean")).reset_index().drop(columns="part")


def _curve_names(cells: pd.DataFrame) -> list[str]:
    """A name of its own for each cell: its line and size, and its place among those of the same name."""
    names = cells["line"] + ", " + cells["trained_values"].map("{:,.0f} trained".format)
    place = names.groupby(names).cumcount()
    return [name if n == 0 else f"{name} ({n + 1})" for name, n in zip(names, place, strict=True)]


def _inline(table: pd.DataFrame) -> alt.InlineData:
    """The table inside the chart, as CSV with four digits: a third of what rows as objects would take."""
    text = table.to_csv(index=False, float_format="%.4g", lineterminator="\n")
    return alt.InlineData(values=text, format=alt.CsvDataFormat(type="csv"))


def _chart(layers: Layers) -> Spec:
    """As wide as its place on the page, with the look of the page."""
    spec: Spec = layers.properties(width="container", height=HEIGHT).configure(**CONFIG).to_dict()
    return spec
