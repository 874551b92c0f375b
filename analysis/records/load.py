"""MLflow records as tidy frames: one row per run, and a long table of the metrics that the report uses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.records.stores import STORE_ERRORS, Raw, Store, damage, open_store, unreadable
from tinylora.settings.errors import FailureError, UsageError

WAYS = ("greedy_strict", "greedy_flexible", "sampled_strict", "sampled_flexible")
SCORES = (*(f"test/{way}" for way in WAYS), "validation/greedy_strict")
"""Accuracies under `eval/`, of the untrained model (step 0) and at the last step."""
SUITES = ("gsm8k", "math500", "minerva_math", "olympiadbench", "aime24", "amc23", "gaokao2023en", "college_math")
"""Further evaluation sets; those that no run has are left out of the frames."""
SAMPLED_SUITES = ("aime24", "amc23")
"""Small sets, scored by the mean over several samples of each problem."""
SUITE_SCORES = tuple(f"{suite}/{'sampled' if suite in SAMPLED_SUITES else 'greedy'}_strict" for suite in SUITES)
MERGE = "merge_kl"
"""Under `eval/`: KL between merged weights and adapter form."""
ALL_SCORES = (*SCORES, *SUITE_SCORES, MERGE)
CURVES = ("train/reward", "train/completion_tokens", "train/prob_diff")
"""Metrics drawn against the step."""

TAGS = ("run_key", "status", "reason", "label", "scale_model")
SIZES = ("trained_values", "trained_bytes", "modules", "groups", "model.parameters")
DERIVED = ("lr_setting", *SIZES)
"""Parameters that follow from the settings."""
DIGESTS = ("model_digest", "basis_digest", "data_digest", "prompt_digest")
PROVENANCE = (*DIGESTS, "data_commits", "data_notes", "git_commit", "git_dirty")
"""Parameters that say what a run was made from; beside them all `version.*`."""
NUMBERS = ("u", "rank", "lr", "seed", "steps", *SIZES, "eval.test_items")
NAMES = ("model.name", "task.name", "algorithm.name")
REQUIRED = (*NAMES, "precision", "lr", "seed", "steps", "trained_values", "trained_bytes")
FEW = 3
FIRST_RECIPE = "1"  # of runs whose records are older than recipes (see `tinylora.settings.identity`)


@dataclass(frozen=True)
class Records:
    """What the store holds."""

    runs: pd.DataFrame
    """One row per run: tags, settings, derived numbers, provenance, and `averaged` where it enters averages."""
    history: pd.DataFrame
    """Columns run_key, metric, step, value; of the averaged runs; the last value written for a step counts."""
    settings: tuple[str, ...]
    """The columns that are scientific settings: equal in all of them but the seed means the same cell."""
    provenance: tuple[str, ...]
    """The columns that say what a run was made from."""
    notes: tuple[str, ...]
    """What a reader must know about the records."""


def load(uri: str, experiment: str) -> Records:
    """Read all runs of an experiment; errors say what to do."""
    try:
        store = open_store(uri)
        raw = store.read(_experiment(store, uri, experiment))
        runs, notes = _runs_frame(raw)
        _require_finished(runs, uri, experiment)
        history = _history_frame(store, runs[runs["averaged"]])
    except STORE_ERRORS as error:
        raise unreadable(uri, error) from error
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        if not isinstance(error, UsageError) and (said := damage(uri)):  # it holds what cannot be
            raise said from error
        raise
    columns = [name for name in runs.columns if name.startswith("param:")]
    names = [name.removeprefix("param:") for name in columns]
    provenance = [name for name in names if name in PROVENANCE or name.startswith("version.")]
    settings = [name for name in names if name not in (*DERIVED, *provenance, "seed")]
    runs = runs.rename(columns=dict(zip(columns, names, strict=True)))
    return Records(runs, history, tuple(settings), tuple(provenance), notes)


def _experiment(store: Store, uri: str, name: str) -> str:
    present = store.experiments()
    if name not in present:
        raise UsageError(
            f"experiment {name!r} in {uri}",
            f"it must exist in the store; there: {', '.join(sorted(present)) or 'none'}",
            "give --experiment one of these, or run a sweep with tracking.experiment set to this name",
        )
    return present[name]


def _runs_frame(raw: Raw) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """One row per run that is ours, in a stable order, and the notes on what was left out of the averages."""
    tags = raw.tags.reindex(columns=list(TAGS), fill_value="")
    params = raw.params.add_prefix("param:")
    runs = pd.concat([raw.runs, tags, params], axis=1)
    runs = runs[tags["run_key"] != ""]
    notes = []
    if len(runs) < len(raw.runs):
        notes.append(f"{len(raw.runs) - len(runs)} run(s) without a run_key tag are not of this project: left out.")
    if runs.empty:
        return runs, tuple(notes)
    runs = runs.assign(started=runs["started"].map(_utc), ended=runs["ended"].map(_utc))
    for name in NUMBERS:
        if f"param:{name}" in runs:
            runs[f"param:{name}"] = pd.to_numeric(runs[f"param:{name}"], errors="coerce")
    if "param:recipe" in runs:  # a setting like any other: runs of different recipes are in different cells
        runs["param:recipe"] = runs["param:recipe"].fillna("").replace("", FIRST_RECIPE)
    runs = _mark_incomplete(runs)
    runs = runs.sort_values(["run_key", "ended", "run_id"], ignore_index=True)
    finished = runs["status"] == "finished"
    again = runs[finished].duplicated("run_key", keep="last").reindex(runs.index, fill_value=True)
    runs["averaged"] = finished & ~again
    repeated = sorted(runs.loc[finished & ~runs["averaged"], "run_key"].unique())
    notes += _for_each("finished more than once: only its latest record is averaged", repeated)
    for reason, group in runs[runs["status"] == "incomplete"].groupby("reason", sort=True):
        notes += _for_each(f"is marked finished, but {reason}: not averaged", sorted(group["run_key"]))
    return runs, tuple(notes)


def _for_each(what: str, keys: list[str]) -> list[str]:
    """A note for each of a few runs, one for many."""
    if len(keys) <= FEW:
        return [f"Run {key} {what}." for key in keys]
    return [f"Of each of {len(keys)} runs ({', '.join(keys[:FEW])} and others): it {what}."]


def _utc(milliseconds: float | None) -> str:
    if milliseconds is None or pd.isna(milliseconds):
        return ""
    return str(pd.Timestamp(int(milliseconds), unit="ms").isoformat(timespec="milliseconds"))


def _mark_incomplete(runs: pd.DataFrame) -> pd.DataFrame:
    """A finished run that lacks a setting cannot be put into a cell."""
    runs = runs.copy()
    runs["status"] = runs["status"].where(runs["status"] != "", "unknown")
    for name in REQUIRED:
        column = f"param:{name}"
        if column not in runs:
            runs[column] = ""
        absent = (runs[column].isna() | (runs[column].astype(str) == "")) & (runs["status"] == "finished")
        runs.loc[absent, "reason"] = f"its record lacks {name}"
        runs.loc[absent, "status"] = "incomplete"
    return runs


def _require_finished(runs: pd.DataFrame, uri: str, experiment: str) -> None:
    if not runs.empty and runs["averaged"].any():
        return
    states = ", ".join(f"{n} {s}" for s, n in runs["status"].value_counts().sort_index().items()) or "none"
    raise FailureError(
        f"experiment {experiment!r} in {uri}: no finished run (runs there: {states})",
        "a report needs at least one finished run",
        "let the sweep finish, or start it again: finished runs are skipped, partial ones resumed",
    )


def _history_frame(store: Store, runs: pd.DataFrame) -> pd.DataFrame:
    """All wanted histories; names are categories, so that millions of rows stay small."""
    metrics = [f"eval/{score}" for score in ALL_SCORES] + list(CURVES)
    points = [_last_of_each_step(store.history(list(runs["run_id"]), metric)) for metric in metrics]
    every = np.concatenate(points)
    counts = [len(part) for part in points]
    return pd.DataFrame(
        {
            "run_key": pd.Categorical.from_codes(every["run"], categories=list(runs["run_key"])),
            "metric": pd.Categorical.from_codes(np.repeat(np.arange(len(metrics)), counts), categories=metrics),
            "step": every["step"],
            "value": np.where(every["is_nan"], np.nan, every["value"]),
        }
    )


def _last_of_each_step(points: np.ndarray) -> np.ndarray:
    """The points by run and step, of several for one step the last written."""
    points = points[np.lexsort((points["step"], points["run"]))]  # stable: of equal keys the last written stays last
    repeated = (points["run"][:-1] == points["run"][1:]) & (points["step"][:-1] == points["step"][1:])
    return points[np.append(~repeated, True)] if len(points) else points
