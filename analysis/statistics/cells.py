"""Cells: means over draws and seeds, with intervals.

A cell is all runs that agree in every scientific setting but `seed` and `projection_seed`. A run that failed, which it
does where training diverges, counts as what it is: with the score of the untrained model.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.records.apart import MADE_WITH, apart_settings
from analysis.records.items import Items
from analysis.records.load import ALL_SCORES, MERGE, SCORES, SIZES, SUITE_SCORES
from analysis.statistics.bootstrap import bootstrap_interval
from analysis.statistics.measured import GREEDY, TEST, WAYS, intervals_with_items
from analysis.statistics.text import show

CHUNK = 500  # cells resampled at once: bounds the memory
UNTRAINED = "untrained"
END_BIAS = "rollout.end_bias"
NONE: Items = {}
OF_THE_MODEL = ("model.", "task.", "rollout.", "eval.", MADE_WITH)
"""Beginnings of the settings on which the score of the untrained model depends."""
VALIDATION = "final validation/sampled_strict"
"""By which rates are chosen."""

ADAPTER_PREFIX = {"tinylora": "", "lora_xs": "LoRA-XS ", "lora": "LoRA ", "full": "full "}
ALGORITHM_NAMES = {"grpo": "GRPO", "sft": "SFT", "random_search": "random search"}
METHOD_SETTINGS = ("algorithm.name", "task.demonstrations", "adapter.name")
SIZE_SETTINGS = ("u", "n_tie", "rank")
"""Settings that can change the number of trained values."""


def add_scores(runs: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """Add a column `base <score>` (step 0) and `final <score>` (the last step) for each accuracy; NaN where absent.

    Also `draw`, the draw of P (of runs that do not record one: their seed), `counted`, whether a run enters averages,
    and `stand_in`, the run whose untrained model a failed run has.
    """
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
    return _count_failed(pd.concat([runs, pd.DataFrame(columns, index=runs.index)], axis=1).assign(draw=_draws(runs)))


def _draws(runs: pd.DataFrame) -> pd.Series:
    """`P<projection_seed>`, or `s<seed>` where a run has no projections, or does not say which."""
    of_seed = "s" + runs["seed"].map(show).astype(str)
    if "projection_seed" not in runs:
        return of_seed
    return of_seed.where(runs["projection_seed"].isna(), "P" + runs["projection_seed"].map("{:.0f}".format))


def _count_failed(runs: pd.DataFrame) -> pd.DataFrame:
    """Failed runs with the mean scores of the untrained model, where a run with the same model and task has them."""
    runs = runs.assign(counted=runs["averaged"], stand_in="")
    of_model = [name for name in runs if name.startswith(OF_THE_MODEL) and name not in ("task.demonstrations", *SIZES)]
    keys = runs.groupby(of_model, dropna=False).ngroup() if of_model else pd.Series(0, index=runs.index)
    complete = runs[["lr", "seed", "steps", "trained_values"]].apply(pd.to_numeric, errors="coerce").notna().all(axis=1)
    failed = (runs["status"] == "failed") & complete & ~runs["run_key"].isin(runs.loc[runs["averaged"], "run_key"])
    base = [name for name in runs if name.startswith("base ")]
    for key in sorted(set(keys[failed])):
        own, like = failed & (keys == key), runs[runs["averaged"] & (keys == key)]
        if like.empty:
            continue
        untrained = like.groupby("seed")[base].mean().mean()
        for name in base:
            runs.loc[own, [name, name.replace("base ", "final ", 1)]] = untrained[name]
        runs.loc[own, "counted"] = True
        runs.loc[own, "stand_in"] = like["run_key"].min()
    return runs


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
    return f"{prefix}{ALGORITHM_NAMES.get(algorithm, algorithm)}{manner}"


def summarise(runs: pd.DataFrame, settings: tuple[str, ...], items: Items = NONE) -> pd.DataFrame:
    """One row per cell: its settings, runs (`seeds`), the mean of each score; interval and n of the test scores.

    Runs without a value (NaN) are left out of that mean; `<score> n` says how many are in it. Where all runs of a cell
    have outcomes by problem, its interval is that of `crossed`; else the bootstrap's over seeds.
    """
    averaged = runs[runs["counted"]]
    cells = averaged.groupby("cell", sort=True)
    names = [name for name in ("method", *SIZES, *settings) if name in averaged]
    first = averaged.drop_duplicates("cell").set_index("cell").sort_index()[names]
    table = first.assign(seeds=cells.size(), failed=(averaged["stand_in"] != "").groupby(averaged["cell"]).sum())
    table["draws"] = cells["draw"].nunique()
    scores = [f"{when} {score}" for when in ("base", "final") for score in ALL_SCORES if f"{when} {score}" in runs]
    means = cells[scores].mean()
    counts = cells[scores].count()
    columns = {}
    for score in scores:
        columns[score] = means[score]
        if score in (TEST, GREEDY) or score.removeprefix("final ") in SUITE_SCORES:
            low, high = _intervals(averaged, score, counts[score])
            if score in WAYS and items:
                for cell, ends in intervals_with_items(averaged, items, score).items():
                    low[cell], high[cell] = ends
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


def name_lines(cells: pd.DataFrame, settings: tuple[str, ...]) -> tuple[pd.DataFrame, str]:
    """Put the cells of one figure on lines; also return the setting that moves along a line, "" if none does.

    Cells on a line agree in everything but that setting and lr. `extra` names the settings, beyond method and
    precision, in which lines of one method differ: nothing that differs is averaged or joined.
    """
    apart = ("lr", "precision", *METHOD_SETTINGS)
    several = [name for name in settings if name not in apart and cells[name].nunique(dropna=False) > 1]
    varying = [name for name in several if cells.groupby("method")[name].nunique(dropna=False).max() > 1]
    ways = [_lines_along(cells, varying, axis) for axis in SIZE_SETTINGS if axis in varying]
    _, axis = min((way for way in ways if way), default=(0, ""), key=lambda way: way[0])
    labels = [name for name in varying if name != axis]
    cells = cells.copy()
    cells["extra"] = [
        ", ".join(f"{_short(n)}={_plain(row[n])}" for n in labels if show(row[n]))
        for row in cells[labels].to_dict("records")
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
    group, _, name = setting.rpartition(".")
    return group if name == "name" and group else name.replace("_", " ") if group else setting


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


def is_biased(frame: pd.DataFrame) -> pd.Series:
    """Which runs or cells are of the untrained model with a bias of its end tokens, a control."""
    return frame[END_BIAS].map(show).ne("") if END_BIAS in frame else pd.Series(False, index=frame.index)


SAMPLING = ("rollout.max_new_tokens", "rollout.temperature", "rollout.top_p", END_BIAS)
BASE_SETTINGS = ("model.dtype", *SAMPLING, "eval.test_items", "eval.samples")
"""Settings that change the accuracy of the untrained model."""


def base_accuracy(runs: pd.DataFrame) -> pd.DataFrame:
    """The untrained model: greedy and sampled accuracy at step 0, per setting that changes them, no end bias first.

    Runs of one seed may share their samples, so seeds are averaged, not runs. Columns: extra, greedy, sampled, seeds.
    """
    runs = runs[runs["averaged"]]
    names = [*BASE_SETTINGS, *apart_settings(runs)]
    by = [name for name in names if name in runs and runs[name].nunique(dropna=False) > 1]
    groups = list(runs.groupby(by, dropna=False, sort=True)) if by else [((), runs)]
    groups.sort(key=lambda group: is_biased(group[1]).any())  # the others keep their order
    rows = []
    for values, group in groups:
        per_seed = group.groupby("seed")[["base test/greedy_strict", "base test/sampled_strict"]].mean()
        extra = ", ".join(f"{_short(name)}={value}" for name, value in zip(by, values, strict=True) if value != "")
        rows.append((extra, per_seed.iloc[:, 0].mean(), per_seed.iloc[:, 1].mean(), len(per_seed)))
    return pd.DataFrame(rows, columns=["extra", "greedy", "sampled", "seeds"])
