"""What the sweep varied and what of it is missing: a run that did not finish is listed, never counted as zero."""

from __future__ import annotations

import itertools
from typing import Any

import pandas as pd

from analysis.records.apart import MADE_WITH
from analysis.records.load import NAMES
from analysis.statistics.cells import METHOD_SETTINGS
from analysis.statistics.text import show

ORDER = (*NAMES, "task.demonstrations", "adapter.name", "precision", "u", "n_tie", "sharing", "rank", "lr", "steps")
"""The order in which settings are shown; all others follow by name."""


def ordered(settings: tuple[str, ...]) -> list[str]:
    """The settings in the order in which they are shown."""
    return [name for name in ORDER if name in settings] + sorted(name for name in settings if name not in ORDER)


def varying(runs: pd.DataFrame, settings: tuple[str, ...]) -> list[str]:
    """Settings with more than one value."""
    return [name for name in ordered(settings) if runs[name].nunique(dropna=False) > 1]


def constant(runs: pd.DataFrame, names: list[str]) -> dict[str, str]:
    """Columns with one value, not empty, and that value."""
    values = {name: runs[name].iloc[0] for name in names if runs[name].nunique(dropna=False) == 1}
    return {name: show(value) for name, value in values.items() if show(value)}


def varying_within(frame: pd.DataFrame, settings: tuple[str, ...]) -> list[str]:
    """Settings with more than one value within a method: what a method fixes (samples, say) is not among them."""
    apart = [name for name in varying(frame, settings) if name not in METHOD_SETTINGS]
    return [name for name in apart if frame.groupby("method")[name].nunique(dropna=False).max() > 1]


def constant_by_method(runs: pd.DataFrame, settings: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """For each method the settings that its runs share, but that not all methods share."""
    names = [name for name in varying(runs, settings) if name not in METHOD_SETTINGS]
    return {str(method): constant(group, names) for method, group in runs.groupby("method", sort=True)}


def in_order(values: Any) -> list[Any]:
    """Numbers by size, then words (`all` after 512)."""

    def key(value: Any) -> tuple[bool, float, str]:
        try:
            return False, float(value), ""
        except ValueError:
            return True, 0.0, str(value)

    return sorted(values, key=key)


def axes(runs: pd.DataFrame, settings: tuple[str, ...]) -> list[str]:
    """The independent axes of a sweep beside method, lr and seed: settings that the axes before them do not fix.

    What files runs were made with is none: nobody asked for each point with each of them.
    """
    names = [
        n for n in varying(runs, settings) if n not in METHOD_SETTINGS and n != "lr" and not n.startswith(MADE_WITH)
    ]
    return not_fixed(runs, ["method", *names])[1:]


def not_fixed(runs: pd.DataFrame, names: list[str]) -> list[str]:
    """The first of the columns, and those of the others that the kept ones before them do not fix."""
    kept = names[:1]
    for name in names[1:]:
        if runs.groupby(kept, dropna=False)[name].nunique(dropna=False).max() > 1:
            kept.append(name)
    return kept


def missing(runs: pd.DataFrame, settings: tuple[str, ...]) -> pd.DataFrame:
    """The points of the full grid (method x axes, and seeds) without a finished run, one row each with the reason.

    Learning rates are no axis here: each cell may have its own. A row without seed: no run of the point finished.
    """
    names = ["method", *axes(runs, settings)]
    seeds = in_order(runs["seed"].dropna().unique())
    averaged, others = runs[runs["averaged"]], runs[~runs["averaged"]]
    finished = {key: set(group["seed"]) for key, group in _by_point(averaged, names)}
    unfinished = dict(_by_point(others, names))
    rows = []
    for point in _full_grid(runs, names):
        present, attempts = finished.get(point, set()), unfinished.get(point, runs.iloc[:0])
        if not present:
            rows.append([*point, "", _reason(attempts)])
            continue
        for seed in seeds:
            if seed not in present:
                rows.append([*point, seed, _reason(attempts[attempts["seed"] == seed])])
    return pd.DataFrame(rows, columns=[*names, "seed", "reason"])


def _by_point(runs: pd.DataFrame, names: list[str]) -> list[tuple[tuple[Any, ...], pd.DataFrame]]:
    return list(runs.groupby(names, dropna=False, sort=True))


def _full_grid(runs: pd.DataFrame, names: list[str]) -> list[tuple[Any, ...]]:
    """Every method with every value of the axes that it uses at all."""
    points = []
    for method in sorted(runs["method"].unique()):
        own = runs[runs["method"] == method]
        values = [[method]]
        for name in names[1:]:
            unused = own[name].map(show).eq("").all()
            values.append(list(own[name].unique()) if unused else [v for v in in_order(runs[name].unique()) if show(v)])
        points += list(itertools.product(*values))
    return points


def _reason(attempts: pd.DataFrame) -> str:
    return "; ".join(dict.fromkeys(ends(attempts))) or "not run"


def ends(runs: pd.DataFrame) -> list[str]:
    """What became of each run, in words: its status, and the reason where it has one."""
    pairs = zip(runs["status"], runs["reason"], strict=True)
    return [f"{status}: {reason}" if reason else status for status, reason in pairs]
