"""Table 2: scores on six evaluation sets, their average, and the share of full fine-tuning's gain that is kept."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from analysis.paper import published as paper
from analysis.paper.figure_points import Made
from analysis.records.load import SUITE_SCORES
from analysis.statistics import compare
from analysis.statistics.bootstrap import bootstrap_interval
from analysis.statistics.measured import TEST
from analysis.statistics.selection import Part, untrained_score
from analysis.statistics.text import GAP, percent_range

SETS = tuple(paper.TABLE_2_SETS.values())
HEADINGS = {ours: name.removesuffix("Bench") for name, ours in paper.TABLE_2_SETS.items()}


def six_benchmarks(part: Part) -> Made:
    """The table; on a task without these sets, its own test set stands for them."""
    own = {"math": "math500", "gsm8k": "gsm8k"}.get(str(part.cells["task.name"].iloc[0]), "")
    scores = {name: f"final {score}" for name in SETS for score in SUITE_SCORES if score.startswith(f"{name}/")}
    if own:
        scores[own] = TEST
    scores = {name: column for name, column in scores.items() if column in part.cells}
    notes = []
    if not scores:
        scores = {"test": TEST}
        notes.append("Its task has none of the six sets: the scores are of its own test set.")
    elif len(scores) < len(SETS):
        absent = [HEADINGS[name] for name in SETS if name not in scores]
        notes.append(f"No run has scores on {', '.join(absent)}: the average is over the others.")
    notes.append("Scores are means over sampled completions.")
    frame = _score_rows(part, scores)
    if not (frame["adapter"] == "full").any():
        notes.append(f"Without full fine-tuning there is no share of its gain: add {part.item} with adapter=full.")
    table = layout(frame, list(scores))
    published = [paper.table2(model) for model in part.models if part.task == "math"]
    theirs = pd.concat([layout(rows, list(SETS)) for rows in published if len(rows)] or [pd.DataFrame()])
    text = pd.concat([as_text(table, "ours"), as_text(theirs, "paper")], ignore_index=True)
    return Made(None, table, text, notes)


def _score_rows(part: Part, scores: dict[str, str]) -> pd.DataFrame:
    """Rows as `layout` takes them: the untrained model, then the cells by size; shares."""
    first = {name: untrained_score(part, column) for name, column in scores.items()}
    rows = [{"adapter": "none", "trained_values": 0, "seeds": np.nan, **first}]
    for row in part.cells.sort_values("trained_values").to_dict("records"):
        values = {name: row[column] for name, column in scores.items()}
        averages = part.runs.loc[part.runs["cell"] == row["cell"], list(scores.values())].mean(axis=1, skipna=False)
        low, high = map(float, bootstrap_interval(averages.dropna().to_numpy()))
        cell = {"adapter": row["adapter.name"], "trained_values": row["trained_values"], "seeds": row["seeds"]}
        rows.append({**cell, "low": low, "high": high, **values})
    return pd.DataFrame(rows)


def layout(frame: pd.DataFrame, sets: list[str]) -> pd.DataFrame:
    """Table 2 in per cent: scores, their average and the gain kept.

    `frame` has adapter, trained_values, a share for each set, and may have the average that was printed: the paper's
    are of scores that it had not rounded yet. The gain kept is computed from averages as printed, so that a reader can
    check it. A row that lacks a score has no average.
    """
    table = frame[["adapter", "trained_values"]].copy()
    table["seeds"] = frame.get("seeds", pd.Series(np.nan, index=frame.index))
    for name in sets:
        table[HEADINGS.get(name, name)] = 100 * frame[name]
    shares = frame["average"] if "average" in frame else frame[sets].mean(axis=1, skipna=False)
    averages = shares.map(compare.printed_percent)
    untrained, full = (averages[frame["adapter"] == adapter] for adapter in ("none", "full"))
    ends = (float(untrained.iloc[0]) if len(untrained) else math.nan, float(full.iloc[-1]) if len(full) else math.nan)
    table["average"] = averages
    for end in ("low", "high"):
        table[f"average {end}"] = 100 * frame.get(end, pd.Series(np.nan, index=frame.index))
    table["gain kept"] = [100 * compare.gain_kept(average, *ends) for average in averages]
    return table


def as_text(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """Table 2 as people read it."""
    if table.empty:
        return table
    columns = {"source": [source] * len(table)}
    columns["trained"] = [
        {"none": "untrained", "full": "full"}.get(row["adapter"], f"{row['trained_values']:,.0f}")
        for row in table.to_dict("records")
    ]
    columns["seeds"] = ["" if seeds != seeds else f"{seeds:.0f}" for seeds in table["seeds"]]
    for name in table.columns[3 : list(table.columns).index("average") + 1]:
        columns[name] = [GAP if value != value else f"{value:.1f}" for value in table[name]]
    columns["95% interval"] = list(map(percent_range, table["average low"] / 100, table["average high"] / 100))
    columns["gain kept %"] = [GAP if value != value else f"{value:.0f}" for value in table["gain kept"]]
    return pd.DataFrame(columns)
