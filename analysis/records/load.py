"""MLflow records as tidy frames: one row per run, and a long table of the metrics that the report uses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from analysis.records.apart import apart_settings, told_apart
from analysis.records.evaluations import read_evaluated
from analysis.records.items import Items, read_items
from analysis.records.said import Said
from analysis.records.stores import STORE_ERRORS, Raw, Store, damage, open_store, unreadable
from tinylora.records.digests import DIGESTS
from tinylora.records.evaluations import EVALUATIONS, TAG
from tinylora.records.items import ITEMS
from tinylora.records.measured import WARNINGS
from tinylora.records.store_check import deleted
from tinylora.settings.choices import OnNoSignal, Strict
from tinylora.settings.errors import FailureError, UsageError

WAYS = ("greedy_strict", "greedy_flexible", "sampled_strict", "sampled_flexible")
SCORES = (*(f"test/{way}" for way in WAYS), "validation/sampled_strict", "validation/greedy_strict")
"""Accuracies under `eval/`, of the untrained model (step 0) and at the last step."""
SUITES = ("gsm8k", "math500", "minerva_math", "olympiadbench", "aime24", "amc23", "gaokao2023en", "college_math")
"""Further evaluation sets; those that no run has are left out of the frames."""
SUITE_SCORES = tuple(f"{suite}/sampled_strict" for suite in SUITES)
MERGE = "merge_kl"
"""Under `eval/`: KL between merged weights and adapter form."""
ALL_SCORES = (*SCORES, *SUITE_SCORES, MERGE)
CURVES = ("train/reward", "train/completion_tokens", "train/prob_diff", "train/token_entropy")
"""Metrics drawn against the step."""

TAGS = ("run_key", "status", "reason", "label", "scale_model", TAG, WARNINGS)
_COUNTS = ("trained_values", "degrees_of_freedom", "trained_bytes", "trained_bits")
SIZES = (*_COUNTS, "modules", "groups", "model.parameters")
DERIVED = ("lr_setting", "projection_seed_setting", *SIZES)
"""Parameters that follow from the settings."""
DRAWN = ("seed", "projection_seed")
"""Settings in which the runs of a cell may differ."""
_FILES = ("model_commit", "model_file", "model_file_sha256", "basis_digest", "data_commits", "data_notes")
PROVENANCE = (*DIGESTS, *_FILES, "layout", "checker_version", "git_commit", "git_dirty")
"""Parameters that say what a run was made from; beside them all `version.*`."""
NUMBERS = ("u", "rank", "lr", *DRAWN, "steps", *SIZES, "eval.test_items")
NAMES = ("model.name", "task.name", "algorithm.name")
REQUIRED = (*NAMES, "precision", "lr", "seed", "steps", "trained_values", "trained_bytes")
FEW = 3
WITHOUT_VALUE = "None"  # what earlier versions wrote of a setting that has none; now it is left out
INFINITE = 1e308  # MLflow keeps the largest number for an infinite one
DAMAGED = "damaged"
"""Status of a run whose folder cannot be read, whatever the store says of it."""
BEFORE = {"recipe": "1", "task.strict": Strict.form.value, "eval.samples": "1", "rounding": "nearest"}
BEFORE |= {"on_no_signal": OnNoSignal.warn.value}
"""Settings that were added later, and what runs did whose records lack them (see `tinylora.settings.identity`)."""


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
    items: Items = field(default_factory=dict)
    """Outcomes by problem of the averaged runs that have them."""
    said: Said = field(default_factory=Said)
    """What the models of the averaged runs have said."""
    evaluated: pd.DataFrame = field(default_factory=lambda: read_evaluated([])[0])
    """What adapters of averaged runs were found to be worth after their training, a row for each step and suite."""


def load(uri: str, experiment: str, damaged: Mapping[str, str] | None = None) -> Records:
    """Read all runs of an experiment; errors say what to do.

    `damaged` are the runs whose folders cannot be read, and why: they are shown so, and not averaged.
    """
    try:
        store = open_store(uri)
        raw = store.read(_experiment(store, uri, experiment))
        runs, notes = _runs_frame(raw, damaged or {})
        _require_finished(runs, uri, experiment)
        averaged = runs[runs["averaged"]]
        history = _history_frame(store, averaged)
        contents = store.artifacts(list(averaged["run_id"]), ITEMS)
        items, broken = read_items(zip(averaged["run_key"], averaged["steps"], contents, strict=True))
        later = averaged[averaged[TAG] != ""]
        contents = store.artifacts(list(later["run_id"]), EVALUATIONS)
        evaluated, unread = read_evaluated(zip(later["run_key"], later["label"], contents, strict=True))
    except STORE_ERRORS as error:
        raise unreadable(uri, error) from error
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        if not isinstance(error, UsageError) and (said := damage(uri)):  # it holds what cannot be
            raise said from error
        raise
    params = list(dict.fromkeys([*raw.params, *REQUIRED]))
    provenance = [name for name in params if _is_provenance(name)]
    what = f"has an {ITEMS} that cannot be read: it counts as a run without one"
    notes = (*notes, *_for_each(what, sorted(broken)))
    notes = (*notes, *_for_each(f"has an {EVALUATIONS} that cannot be read: it is left out", sorted(unread)))
    settings = tuple([*_settings(params), *apart_settings(runs)])
    ids = dict(zip(averaged["run_key"], averaged["run_id"], strict=True))
    return Records(runs, history, settings, tuple(provenance), notes, items, Said(store, ids), evaluated)


def _is_provenance(param: str) -> bool:
    return param in PROVENANCE or param.startswith("version.")


def _settings(params: Iterable[str]) -> list[str]:
    return [name for name in params if not _is_provenance(name) and name not in (*DERIVED, *DRAWN)]


def _experiment(store: Store, uri: str, name: str) -> str:
    present = store.experiments()
    if name not in present and (number := store.deleted(name)) is not None:
        raise deleted(uri, name, number)
    if name not in present:
        raise UsageError(
            f"experiment {name!r} in {uri}",
            f"it must exist in the store; there: {', '.join(sorted(present)) or 'none'}",
            "give --experiment one of these, or run a sweep with tracking.experiment set to this name",
        )
    return present[name]


def _runs_frame(raw: Raw, damaged: Mapping[str, str]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """One row per run that is ours, in a stable order, and the notes on what was left out of the averages."""
    params = raw.params.replace(WITHOUT_VALUE, "")
    runs = pd.concat([raw.runs, raw.tags.reindex(columns=list(TAGS), fill_value=""), params], axis=1)
    runs = runs[runs["run_key"] != ""]
    notes = []
    if len(runs) < len(raw.runs):
        notes.append(f"{len(raw.runs) - len(runs)} run(s) without a run_key tag are not of this project: left out.")
    runs = _mark_damaged(runs, damaged)
    if runs.empty:
        return runs, tuple(notes)
    runs = runs.assign(started=runs["started"].map(_utc), ended=runs["ended"].map(_utc))
    for name in NUMBERS:
        if name in runs:
            runs[name] = pd.to_numeric(runs[name], errors="coerce")
    # Settings like any other: runs of different recipes, or strict rules, are in different cells.
    for name, value in BEFORE.items():
        if name in runs:
            runs[name] = runs[name].fillna("").replace("", value)
    runs = _with_bits(_mark_incomplete(runs))
    runs = runs.sort_values(["run_key", "ended", "run_id"], ignore_index=True)
    finished = runs["status"] == "finished"
    told, differing = told_apart(runs[finished], _settings(raw.params))
    apart = apart_settings(told)
    runs = runs.assign(**{name: told[name].reindex(runs.index, fill_value="") for name in apart})
    again = runs[finished].duplicated(["run_key", *apart], keep="last").reindex(runs.index, fill_value=True)
    runs["averaged"] = finished & ~again
    repeated = sorted(runs.loc[finished & ~runs["averaged"], "run_key"].unique())
    notes += [*differing, *_for_each("finished more than once: only its latest record is averaged", repeated)]
    for reason, group in runs[runs["status"] == "incomplete"].groupby("reason", sort=True):
        notes += _for_each(f"is marked finished, but {reason}: not averaged", sorted(group["run_key"]))
    notes += _of_damaged(damaged)
    return _name_apart(runs, apart), tuple(notes)


def _mark_damaged(runs: pd.DataFrame, damaged: Mapping[str, str]) -> pd.DataFrame:
    """The runs, with those whose folders are damaged marked so; the store need not have them."""
    absent = sorted(set(damaged) - set(runs["run_key"]))
    rows = pd.DataFrame("", index=range(len(absent)), columns=list(runs.columns), dtype=object)
    rows = rows.assign(run_key=absent, started=None, ended=None, unjudged=0.0)
    runs = pd.concat([runs, rows], ignore_index=True) if absent else runs.copy()
    found = runs["run_key"].isin(damaged)
    runs.loc[found, "status"] = DAMAGED
    runs.loc[found, "reason"] = runs.loc[found, "run_key"].map(damaged)
    return runs


def _of_damaged(damaged: Mapping[str, str]) -> list[str]:
    if len(damaged) <= FEW:
        return [f"The folder of run {key} is damaged, and the run not averaged: {damaged[key]}." for key in damaged]
    some = ", ".join(sorted(damaged)[:FEW])
    return [f"The folders of {len(damaged)} runs are damaged ({some} and others; see the runs): they are not averaged."]


def _name_apart(runs: pd.DataFrame, apart: list[str]) -> pd.DataFrame:
    """Keys that are unique among the averaged runs: of one key, those told apart have their digests behind it."""
    keys = runs.loc[runs["averaged"], "run_key"]
    twice = keys[keys.duplicated(keep=False)]
    words = runs.loc[twice.index, apart].apply(lambda row: ", ".join(value for value in row if value), axis=1)
    runs.loc[twice.index, "run_key"] = twice + " (" + words + ")" if len(twice) else ""
    return runs


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
        if name not in runs:
            runs[name] = ""
        absent = (runs[name].isna() | (runs[name].astype(str) == "")) & (runs["status"] == "finished")
        runs.loc[absent, "reason"] = f"its record lacks {name}"
        runs.loc[absent, "status"] = "incomplete"
    return runs


def _with_bits(runs: pd.DataFrame) -> pd.DataFrame:
    """Bits of the update: of runs that do not record them, those of their bytes."""
    eight = 8 * pd.to_numeric(runs["trained_bytes"], errors="coerce")
    return runs.assign(trained_bits=runs["trained_bits"].fillna(eight) if "trained_bits" in runs else eight)


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
            "value": np.where(every["is_nan"] | (np.abs(every["value"]) >= INFINITE), np.nan, every["value"]),
        }
    )


def _last_of_each_step(points: np.ndarray) -> np.ndarray:
    """The points by run and step, of several for one step the last written."""
    points = points[np.lexsort((points["step"], points["run"]))]  # stable: of equal keys the last written stays last
    repeated = (points["run"][:-1] == points["run"][1:]) & (points["step"][:-1] == points["step"][1:])
    return points[np.append(~repeated, True)] if len(points) else points
