"""Cells: means over seeds with bootstrap intervals, and the choice of learning rates.

A cell is all runs that agree in every scientific setting but the seed.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.statistics.bootstrap import bootstrap_interval
from analysis.records.apart import apart_settings
from analysis.records.load import ALL_SCORES, MERGE, SCORES, SIZES, SUITE_SCORES

CHUNK = 500  # cells resampled at once: bounds the memory
UNTRAINED = "untrained"
VALIDATION = "final validation/greedy_strict"
TEST = "final test/greedy_strict"
SAMPLED = "final test/sampled_strict"

ADAPTER_PREFIX = {"tinylora": "", "lora_xs": "LoRA-XS ", "lora": "LoRA ", "full": "full "}
METHOD_SETTINGS = ("algorithm.name", "task.demonstrations", "adapter.name")
SIZE_SETTINGS = ("u", "n_tie", "rank")
"""Settings that can change the number of trained values."""


def add_scores(runs: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """Add a column `base <score>` (step 0) and `final <score>` (the last step) for each accuracy; NaN where absent."""
    averaged = runs[runs["averaged"]]
    last = averaged.set_index("run_key")["steps"]
    columns = {}
    logged = set(history["metric"].unique())
    for score in (*SCORES, *(score for score in SUITE_SCORES if f"eval/{score}" in logged), MERGE):
        points = history[history["metric"] == f"eval/{score}"]
        keys = points["run_key"].astype(object)
        for when, step in (("base", 0), ("final", keys.map(last))):
            values = pd.Series(points["value"].to_numpy(), index=keys)[(points["step"] == step).to_numpy()]
            column = runs["run_key"].map(values).to_numpy(dtype=float)
            columns[f"{when} {score}"] = np.where(runs["averaged"], column, np.nan)
    return pd.concat([runs, pd.DataFrame(columns, index=runs.index)], axis=1)


def add_cells(runs: pd.DataFrame, settings: tuple[str, ...]) -> pd.DataFrame:
    """Add `method` (algorithm, manner of demonstrations, adapter) and `cell`, a number equal within a cell."""
    runs = runs.copy()
    runs["method"] = [
        _method(row.get("algorithm.name"), row.get("task.demonstrations"), row.get("adapter.name"))
        for row in runs.to_dict("records")
    ]
    runs["cell"] = runs.groupby(list(settings), dropna=False, sort=True).ngroup()
    return runs


def _method(algorithm: str, demonstrations: str | None, adapter: str | None) -> str:
    if adapter == "none":
        return UNTRAINED
    prefix = ADAPTER_PREFIX.get(adapter or "tinylora", f"{adapter} ")
    manner = f" {demonstrations}" if algorithm == "sft" and demonstrations else ""
    return f"{prefix}{algorithm.upper()}{manner}"


def summarise(runs: pd.DataFrame, settings: tuple[str, ...]) -> pd.DataFrame:
    """One row per cell: its settings, seeds, the mean of each score; interval and n of the test scores.

    Runs without a value (NaN) are left out of that mean; `<score> n` says how many are in it.
    """
    averaged = runs[runs["averaged"]]
    cells = averaged.groupby("cell", sort=True)
    names = [name for name in ("method", *SIZES, *settings) if name in averaged]
    first = averaged.drop_duplicates("cell").set_index("cell").sort_index()[names]
    table = first.assign(seeds=cells.size())
    scores = [f"{when} {score}" for when in ("base", "final") for score in ALL_SCORES if f"{when} {score}" in runs]
    means = cells[scores].mean()
    counts = cells[scores].count()
    columns = {}
    for score in scores:
        columns[score] = means[score]
        if score in (TEST, SAMPLED) or score.removeprefix("final ") in SUITE_SCORES:
            low, high = _intervals(averaged, score, counts[score])
            columns |= {f"{score} low": low, f"{score} high": high, f"{score} n": counts[score]}
    return pd.concat([table, pd.DataFrame(columns)], axis=1).reset_index()


def _intervals(runs: pd.DataFrame, score: str, counts: pd.Series) -> tuple[pd.Series, pd.Series]:
    """The interval of each cell's mean: cells with equally many values are resampled together, which is fast."""
    low, high = pd.Series(np.nan, index=counts.index), pd.Series(np.nan, index=counts.index)
    known = runs.loc[runs[score].notna(), ["cell", score]].sort_values(["cell", score])
    sizes = known["cell"].map(counts)
    for n in sorted(set(counts[counts > 1])):
        own = known[sizes == n]
        cells = own["cell"].to_numpy()[::n]
        matrix = own[score].to_numpy().reshape(-1, n).T  # (n, cells)
        for start in range(0, len(cells), CHUNK):
            part = slice(start, start + CHUNK)
            low[cells[part]], high[cells[part]] = bootstrap_interval(matrix[:, part])
    return low, high


def seeds_of(runs: pd.DataFrame, cell: int, score: str = TEST) -> pd.Series:
    """The values of a score over the seeds of a cell, by seed."""
    return runs.loc[runs["cell"] == cell].set_index("seed")[score].dropna().astype(float)


def choose_rates(cells: pd.DataFrame, settings: tuple[str, ...]) -> pd.DataFrame:
    """Mark as `chosen`, among cells that differ in lr alone, the best mean validation accuracy; `rates`: how many.

    Never by a test score. Equal accuracies: the smaller rate, and `tied` counts the others. Several rates and no
    validation accuracy: none is chosen.
    """
    cells = cells.copy()
    others = [name for name in settings if name != "lr"]
    cells["choice"] = cells.groupby(others, dropna=False, sort=True).ngroup()
    choices = cells.groupby("choice")
    cells["rates"] = choices["cell"].transform("size")
    best = choices[VALIDATION].transform("max")
    equal = np.isclose(cells[VALIDATION], best, rtol=0, atol=1e-12)  # means of the same numbers in another order
    cells["tied"] = pd.Series(equal, index=cells.index).groupby(cells["choice"]).transform("sum") - 1
    cells["tied"] = cells["tied"].clip(lower=0)
    smallest = cells[equal].sort_values("lr", kind="stable").drop_duplicates("choice")["cell"]
    cells["chosen"] = (cells["rates"] == 1) | cells["cell"].isin(smallest)
    return cells


def name_lines(cells: pd.DataFrame, settings: tuple[str, ...]) -> tuple[pd.DataFrame, str]:
    """Put the cells of one figure on lines; also return the setting that moves along a line, "" if none does.

    Cells on a line agree in everything but that setting and lr. `extra` names the settings, beyond method and
    precision, in which lines of one method differ: nothing that differs is averaged or joined.
    """
    apart = ("lr", "precision", *METHOD_SETTINGS)
    varying = [
        name for name in settings if name not in apart and cells.groupby("method")[name].nunique(dropna=False).max() > 1
    ]
    ways = [_lines_along(cells, varying, axis) for axis in SIZE_SETTINGS if axis in varying]
    _, axis = min((way for way in ways if way), default=(0, ""), key=lambda way: way[0])
    labels = [name for name in varying if name != axis]
    cells = cells.copy()
    cells["extra"] = [
        ", ".join(f"{_short(n)}={_plain(row[n])}" for n in labels) for row in cells[labels].to_dict("records")
    ]
    cells["line"] = [
        f"{method} {precision}" + (f", {extra}" if extra else "")
        for method, precision, extra in zip(cells["method"], cells["precision"], cells["extra"], strict=True)
    ]
    return cells, axis


def _lines_along(cells: pd.DataFrame, varying: list[str], axis: str) -> tuple[int, str] | None:
    """How many lines the cells form along this setting; None where it does not set the number of trained values."""
    others = ["method", "precision", *(name for name in varying if name != axis)]
    lines = cells.groupby(others, dropna=False)
    if (lines["trained_values"].nunique() < lines[axis].nunique()).any():
        return None
    return lines.ngroups, axis


def _plain(value: object) -> object:
    """A whole number without a point."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _short(setting: str) -> str:
    return setting.rpartition(".")[2].replace("_", " ") if "." in setting else setting


def curve(runs: pd.DataFrame, history: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Columns cell, step, n, mean, low, high of a metric; a step at which a seed has no value (or NaN) is a gap."""
    averaged = runs[runs["averaged"]]
    points = history[(history["metric"] == metric) & history["run_key"].isin(averaged["run_key"])]
    points = points.assign(run_key=points["run_key"].astype(object))
    table = points.pivot(index="run_key", columns="step", values="value")
    last = points.groupby("run_key")["step"].max()
    frames = []
    for cell, group in averaged.groupby("cell", sort=True):
        keys = sorted(group["run_key"])
        ends = last.reindex(keys)
        if ends.isna().all():
            continue
        matrix = table.reindex(keys).loc[:, : ends.max()].to_numpy(dtype=float)  # (seeds, steps)
        low, high = bootstrap_interval(matrix)
        steps = table.columns[: matrix.shape[1]]
        own = {"cell": cell, "step": steps, "n": len(group), "mean": matrix.mean(axis=0), "low": low, "high": high}
        frames.append(pd.DataFrame(own))
    columns = ["cell", "step", "n", "mean", "low", "high"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


BASE_SETTINGS = ("model.dtype", "rollout.max_new_tokens", "rollout.temperature", "rollout.top_p", "eval.test_items")
"""Settings that change the accuracy of the untrained model."""


def base_accuracy(runs: pd.DataFrame) -> pd.DataFrame:
    """The untrained model: greedy and sampled accuracy at step 0, per setting that changes them.

    Runs of one seed may share their samples, so seeds are averaged, not runs. Columns: extra, greedy, sampled, seeds.
    """
    runs = runs[runs["averaged"]]
    names = [*BASE_SETTINGS, *apart_settings(runs)]
    by = [name for name in names if name in runs and runs[name].nunique(dropna=False) > 1]
    groups = runs.groupby(by, dropna=False, sort=True) if by else [((), runs)]
    rows = []
    for values, group in groups:
        per_seed = group.groupby("seed")[["base test/greedy_strict", "base test/sampled_strict"]].mean()
        extra = ", ".join(f"{_short(name)}={value}" for name, value in zip(by, values, strict=True) if value != "")
        rows.append((extra, per_seed.iloc[:, 0].mean(), per_seed.iloc[:, 1].mean(), len(per_seed)))
    return pd.DataFrame(rows, columns=["extra", "greedy", "sampled", "seeds"])
