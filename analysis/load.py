"""MLflow records as tidy frames: one row per run, and a long table of the metrics that the report uses.

The search returns settings and status of all runs in pages of a thousand. Histories have no bulk reader in MLflow's
public client, so they are read run by run, and only those of finished runs that the report needs: about 2 ms each from
SQLite. The same calls read a server.
"""

from __future__ import annotations

import math
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Experiment, Run
from mlflow.exceptions import MlflowException
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from tinylora.errors import FailureError, UsageError

SCORES = (
    "test/greedy_strict",
    "test/greedy_flexible",
    "test/sampled_strict",
    "test/sampled_flexible",
    "validation/greedy_strict",
)
"""Accuracies under `eval/`, of the untrained model (step 0) and at the last step."""
CURVES = ("train/reward", "train/completion_tokens")
"""Metrics drawn against the step."""

TAGS = ("run_key", "status", "reason", "label", "scale_model")
DERIVED = ("lr_setting", "trained_values", "trained_bytes", "modules", "groups", "model.parameters")
"""Parameters that follow from the settings."""
PROVENANCE = (
    "model_digest", "basis_digest", "data_digest", "prompt_digest", "data_commits", "data_notes", "git_commit",
    "git_dirty",
)  # fmt: skip
"""Parameters that say what a run was made from; beside them all `version.*`."""
NUMBERS = ("u", "rank", "lr", "seed", "steps", "trained_values", "trained_bytes", "eval.test_items")
REQUIRED = (
    "model.name",
    "task.name",
    "algorithm.name",
    "precision",
    "lr",
    "seed",
    "steps",
    "trained_values",
    "trained_bytes",
)


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
    _require_sqlite_store(uri)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # MLflow's own 7 wait minutes for a dead server
    try:
        client = MlflowClient(uri)
        found = _experiment(client, uri, experiment)
        records = _search(client, found)
        runs, notes = _runs_frame(records)
        _require_finished(runs, uri, experiment)
        history = _history_frame(client, runs[runs["averaged"]], records)
    except (MlflowException, SQLAlchemyError, ImportError) as error:
        first_line = str(error).splitlines()[0]
        raise FailureError(
            f"MLflow store {uri}: {first_line}",
            "the report is read from an MLflow store that answers",
            "check the address and that the server runs, or give another one with --uri",
        ) from error
    columns = [name for name in runs.columns if name.startswith("param:")]
    names = [name.removeprefix("param:") for name in columns]
    provenance = [name for name in names if name in PROVENANCE or name.startswith("version.")]
    settings = [name for name in names if name not in (*DERIVED, *provenance, "seed")]
    runs = runs.rename(columns=dict(zip(columns, names, strict=True)))
    return Records(runs, history, tuple(settings), tuple(provenance), notes)


def _require_sqlite_store(uri: str) -> None:
    """Opening an SQLite address creates the file and MLflow fills it; a reader must not."""
    if not uri.startswith("sqlite:"):
        return
    try:
        path = Path(make_url(uri).database or "")
    except SQLAlchemyError as error:
        raise UsageError(f"--uri {uri}", "an SQLite address reads sqlite:///<path>", "correct it") from error
    remedy = "run a sweep first (python -m experiments.run), or give --outputs-dir or --uri of one that ran"
    if not path.is_file():
        raise UsageError(f"MLflow store {path}: no such file", "the report is read from the records of a sweep", remedy)
    query = "SELECT count(*) FROM sqlite_master WHERE name IN ('experiments', 'runs', 'metrics')"
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            tables = connection.execute(query).fetchone()[0]
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise UsageError(f"{path}: {error}", "the store is an SQLite file written by MLflow", remedy) from error
    if tables < 3:
        raise UsageError(f"{path}: holds no MLflow tables", "the store is an SQLite file written by MLflow", remedy)


def _experiment(client: MlflowClient, uri: str, name: str) -> Experiment:
    experiment = client.get_experiment_by_name(name)
    if experiment is None or experiment.lifecycle_stage != "active":
        present = ", ".join(sorted(e.name for e in client.search_experiments())) or "none"
        raise UsageError(
            f"experiment {name!r} in {uri}",
            f"it must exist in the store; there: {present}",
            "give --experiment one of these, or run a sweep with tracking.experiment set to this name",
        )
    return experiment


def _search(client: MlflowClient, experiment: Experiment) -> list[Run]:
    records: list[Run] = []
    page_token = None
    while True:
        page = client.search_runs([experiment.experiment_id], max_results=1000, page_token=page_token)
        records += page
        page_token = page.token
        if not page_token:
            return records


def _runs_frame(records: list[Run]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """One row per run that is ours, in a stable order, and the notes on what was left out of the averages."""
    ours = [run for run in records if "run_key" in run.data.tags]
    notes = []
    if len(ours) < len(records):
        notes.append(f"{len(records) - len(ours)} run(s) without a run_key tag are not of this project: left out.")
    params = sorted({name for run in ours for name in run.data.params})
    runs = pd.DataFrame([_row(run, params) for run in ours])
    if runs.empty:
        return runs, tuple(notes)
    for name in NUMBERS:
        if name in params:
            runs[f"param:{name}"] = pd.to_numeric(runs[f"param:{name}"], errors="coerce")
    runs = _mark_incomplete(runs)
    runs = runs.sort_values(["run_key", "ended", "run_id"], ignore_index=True)
    finished = runs["status"] == "finished"
    runs["averaged"] = finished & ~runs[finished].duplicated("run_key", keep="last").reindex(
        runs.index, fill_value=True
    )
    for key in sorted(runs.loc[finished & ~runs["averaged"], "run_key"].unique()):
        notes.append(f"Run {key} finished more than once: only its latest record is averaged.")
    for _, run in runs[runs["status"] == "incomplete"].iterrows():
        notes.append(f"Run {run['run_key']} is marked finished, but {run['reason']}: not averaged.")
    return runs, tuple(notes)


def _row(run: Run, params: list[str]) -> dict[str, Any]:
    metrics = run.data.metrics
    unjudged = [metrics.get(f"eval/test/greedy_outcome/{outcome}", 0.0) for outcome in ("timeout", "checker_error")]
    return {
        "run_id": run.info.run_id,
        **{tag: run.data.tags.get(tag, "") for tag in TAGS},
        "started": _utc(run.info.start_time),
        "ended": _utc(run.info.end_time),
        "unjudged": math.fsum(unjudged),
        **{f"param:{name}": run.data.params.get(name, "") for name in params},
    }


def _utc(milliseconds: int | None) -> str:
    return "" if milliseconds is None else pd.Timestamp(milliseconds, unit="ms").isoformat(timespec="milliseconds")


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
    states = (
        "none" if runs.empty else ", ".join(f"{n} {s}" for s, n in runs["status"].value_counts().sort_index().items())
    )
    raise FailureError(
        f"experiment {experiment!r} in {uri}: no finished run (runs there: {states})",
        "a report needs at least one finished run",
        "let the sweep finish, or start it again: finished runs are skipped, partial ones resumed",
    )


def _history_frame(client: MlflowClient, runs: pd.DataFrame, records: list[Run]) -> pd.DataFrame:
    logged = {run.info.run_id: run.data.metrics.keys() for run in records}
    wanted = [f"eval/{score}" for score in SCORES] + list(CURVES)
    rows = [
        (run_key, metric, entry.step, entry.timestamp, entry.value)
        for run_key, run_id in zip(runs["run_key"], runs["run_id"], strict=True)
        for metric in wanted
        if metric in logged[run_id]
        for entry in client.get_metric_history(run_id, metric)
    ]
    history = pd.DataFrame(rows, columns=["run_key", "metric", "step", "timestamp", "value"])
    history = history.sort_values(["run_key", "metric", "step", "timestamp"], kind="stable")
    history = history.drop_duplicates(["run_key", "metric", "step"], keep="last")
    return history.drop(columns="timestamp").reset_index(drop=True)
