"""MLflow stores as raw frames: runs, parameters, tags and metric histories of one experiment.

A server answers run by run through MLflow's client. An SQLite store is read in bulk from its tables, read-only: the
client would build a Python object for every value and ask for every history by itself (hours for 10,000 runs). The
primary key of `metrics` begins with the metric's name and holds all columns, so one metric of all runs is one scan.
Both readers return the same frames.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray
from sqlalchemy.exc import SQLAlchemyError

from tinylora.records import sqlite_store
from tinylora.records.store_check import DELETED
from tinylora.settings.errors import FailureError, UsageError, first_line
from tinylora.settings.store_urls import ARTIFACTS, STORE, file_of

STORE_ERRORS = (MlflowException, SQLAlchemyError, sqlite3.Error, ImportError)
UNJUDGED = ("eval/test/greedy_outcome/timeout", "eval/test/greedy_outcome/checker_error")
POINT = np.dtype([("run", "i4"), ("step", "i8"), ("value", "f8"), ("is_nan", "?")])
SECONDS_FOR_A_LOCK = 30.0


@dataclass(frozen=True)
class Raw:
    """The runs of an experiment; all frames have one row per run, in one order, and strings for values."""

    runs: pd.DataFrame
    """Columns run_id, started, ended (milliseconds, NaN where open) and unjudged (share of the last test answers)."""
    tags: pd.DataFrame
    params: pd.DataFrame


class Store(Protocol):
    """What the report needs of a store."""

    def experiments(self) -> dict[str, str]:
        """Name and id of every active experiment."""

    def deleted(self, name: str) -> str | None:
        """The id of the deleted experiment of this name, if there is one."""

    def read(self, experiment_id: str) -> Raw:
        """All active runs of an experiment."""

    def history(self, run_ids: Sequence[str], metric: str) -> NDArray[np.void]:
        """Every point of a metric in these runs, as `POINT` (run: position in `run_ids`), the last written last."""

    def artifacts(self, run_ids: Sequence[str], name: str) -> Iterator[bytes | None]:
        """An artifact of each of these runs; None where a run has none of this name."""


def open_store(uri: str) -> Store:
    """The store at a tracking URI."""
    if (path := file_of(uri)) is not None:
        _require_store(uri, path)
        return SqliteStore(uri, path)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # MLflow's own 7 wait minutes for a dead server
    return ClientStore(uri)


def unreadable(uri: str, error: Exception) -> FailureError:
    """What to say of a store that does not answer, or that is damaged."""
    if (said := damage(uri)) and not sqlite_store.of_the_machine(error):
        return said
    return FailureError(
        f"MLflow store {uri}: {first_line(error)}",
        "the report is read from an MLflow store that answers",
        "check the address and that the server runs, or give another one with --uri",
    )


def damage(uri: str) -> FailureError | None:
    """What to say of the SQLite store of an outputs_dir, where it is damaged: all of it is read."""
    path = file_of(uri)
    if path is None or path.name != STORE or not path.is_file():
        return None
    why = sqlite_store.damage_of(path, thorough=True)
    return sqlite_store.damaged(path, why, path.parent) if why else None


def _require_store(uri: str, path: Path) -> None:
    """Raise UsageError or FailureError unless an SQLite file is there (opening an absent one would create it)."""
    remedy = "run a sweep first (python -m experiments.run), or give --outputs-dir or --uri of one that ran"
    if not os.path.isfile(path):
        raise UsageError(f"MLflow store {path}: no such file", "the report is read from the records of a sweep", remedy)
    query = "SELECT count(*) FROM sqlite_master WHERE name IN ('experiments', 'runs', 'metrics', 'params', 'tags')"
    try:
        tables = _connect(path).execute(query).fetchone()[0]
    except sqlite_store.UNREADABLE as error:
        said = UsageError(f"{path}: {error}", "the store is an SQLite file written by MLflow", remedy)
        raise damage(uri) or said from error
    if tables < 5:
        raise damage(uri) or UsageError(
            f"{path}: holds no MLflow tables", "the store is an SQLite file written by MLflow", remedy
        )


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=SECONDS_FOR_A_LOCK)


def ended_runs(path: Path) -> dict[str, str]:
    """run_key -> status of the runs that ended in an SQLite store, of all its experiments; none without a store."""
    query = (
        "SELECT key.value, status.value FROM runs JOIN tags AS key USING (run_uuid) JOIN tags AS status "
        "USING (run_uuid) WHERE key.key = 'run_key' AND status.key = 'status' "
        "AND runs.lifecycle_stage = 'active' AND runs.status != 'RUNNING'"
    )
    try:
        return dict(_connect(path).execute(query).fetchall())
    except sqlite_store.UNREADABLE:
        return {}


class SqliteStore:
    """The tables of an SQLite store, never written to."""

    def __init__(self, uri: str, path: Path) -> None:
        self.uri, self.path, self.connection = uri, path, _connect(path)

    def experiments(self) -> dict[str, str]:
        """Name and id of every active experiment."""
        query = "SELECT name, experiment_id FROM experiments WHERE lifecycle_stage = 'active'"
        return {name: str(number) for name, number in self.connection.execute(query)}

    def deleted(self, name: str) -> str | None:
        """The id of the deleted experiment of this name, if there is one."""
        query = "SELECT experiment_id FROM experiments WHERE lifecycle_stage = ? AND name = ?"
        found = self.connection.execute(query, (DELETED, name)).fetchone()
        return str(found[0]) if found else None

    def read(self, experiment_id: str) -> Raw:
        """All active runs of an experiment."""
        where = "experiment_id = ? AND lifecycle_stage = 'active'"
        query = f"SELECT run_uuid, start_time, end_time FROM runs WHERE {where}"
        rows = self.connection.execute(query, (int(experiment_id),)).fetchall()
        runs = pd.DataFrame(rows, columns=["run_id", "started", "ended"])
        inside = f"run_uuid IN (SELECT run_uuid FROM runs WHERE {where})"
        wide = [self._wide(table, inside, experiment_id, runs["run_id"]) for table in ("tags", "params")]
        marks = ", ".join("?" * len(UNJUDGED))
        query = f"SELECT run_uuid, sum(value) FROM latest_metrics WHERE key IN ({marks}) GROUP BY run_uuid"
        unjudged = dict(self.connection.execute(query, UNJUDGED).fetchall())
        runs["unjudged"] = runs["run_id"].map(unjudged).astype(float).fillna(0.0)
        return Raw(runs, *wide)

    def _wide(self, table: str, inside: str, experiment_id: str, run_ids: pd.Series) -> pd.DataFrame:
        """A table of names and values as one column per name, one row per run; "" where a run has none."""
        query = f"SELECT run_uuid, key, value FROM {table} WHERE {inside}"
        rows = self.connection.execute(query, (int(experiment_id),)).fetchall()
        long = pd.DataFrame(rows, columns=["run_id", "key", "value"])
        wide = long.pivot(index="run_id", columns="key", values="value").reindex(run_ids)
        wide.columns.name = None
        return wide.fillna("").reset_index(drop=True)

    def history(self, run_ids: Sequence[str], metric: str) -> NDArray[np.void]:
        """Every point of a metric in these runs, as `POINT`, the last written last."""
        self.connection.execute("CREATE TEMP TABLE IF NOT EXISTS wanted (run_uuid TEXT PRIMARY KEY, position INTEGER)")
        self.connection.execute("DELETE FROM wanted")
        wanted = ((run_id, position) for position, run_id in enumerate(run_ids))
        self.connection.executemany("INSERT INTO wanted VALUES (?, ?)", wanted)
        query = (  # CROSS JOIN: SQLite keeps this order, one scan of the metric's part of the primary key
            "SELECT position, step, value, is_nan FROM metrics CROSS JOIN wanted USING (run_uuid) WHERE key = ? "
            "ORDER BY timestamp, step"
        )
        points = np.fromiter(self.connection.execute(query, (metric,)), dtype=POINT)
        self.connection.commit()  # of the temporary table: it lets go of the store, which others may write to
        return points

    def artifacts(self, run_ids: Sequence[str], name: str) -> Iterator[bytes | None]:
        """An artifact of each of these runs; None where a run has none of this name.

        It is read where MLflow put it, or beside the store: so the folder of a sweep can be moved or copied.
        """
        places = dict(self.connection.execute("SELECT run_uuid, artifact_uri FROM runs"))
        for run_id in run_ids:
            place = places.get(run_id) or ""
            local = (
                place if "://" not in place else unquote(urlsplit(place).path) if place.startswith("file:") else None
            )
            if local is None:
                yield _downloaded(MlflowClient(self.uri), run_id, name)
            else:
                files = (Path(local) / name, self.path.with_name(ARTIFACTS) / run_id / "artifacts" / name)
                yield next((file.read_bytes() for file in files if local and file.is_file()), None)


class ClientStore:
    """A store behind MLflow's client: a server, or whatever address MLflow understands."""

    def __init__(self, uri: str) -> None:
        self.client = MlflowClient(uri)
        self.logged: dict[str, set[str]] = {}  # the metrics of a run: what it has not is not asked for

    def experiments(self) -> dict[str, str]:
        """Name and id of every active experiment."""
        return {found.name: str(found.experiment_id) for found in self.client.search_experiments()}

    def deleted(self, name: str) -> str | None:
        """The id of the deleted experiment of this name, if there is one."""
        found = self.client.get_experiment_by_name(name)
        return str(found.experiment_id) if found is not None and found.lifecycle_stage == DELETED else None

    def read(self, experiment_id: str) -> Raw:
        """All active runs of an experiment."""
        page = self.client.search_runs([experiment_id], max_results=1000)
        records = list(page)
        while page.token:
            page = self.client.search_runs([experiment_id], max_results=1000, page_token=page.token)
            records += page
        self.logged = {run.info.run_id: set(run.data.metrics) for run in records}
        rows = [(run.info.run_id, run.info.start_time, run.info.end_time) for run in records]
        runs = pd.DataFrame(rows, columns=["run_id", "started", "ended"])
        runs["unjudged"] = [sum(run.data.metrics.get(name, 0.0) for name in UNJUDGED) for run in records]
        tags, params = (pd.DataFrame([getattr(run.data, kind) for run in records]) for kind in ("tags", "params"))
        return Raw(runs, tags.fillna("")[sorted(tags)], params.fillna("")[sorted(params)])

    def history(self, run_ids: Sequence[str], metric: str) -> NDArray[np.void]:
        """Every point of a metric in these runs, as `POINT`, the last written last."""
        rows = [
            (entry.timestamp, position, entry.step, entry.value)
            for position, run_id in enumerate(run_ids)
            if metric in self.logged[run_id]
            for entry in self.client.get_metric_history(run_id, metric)
        ]
        rows.sort(key=lambda row: (row[0], row[2]))
        return np.array([(run, step, value, value != value) for _, run, step, value in rows], dtype=POINT)

    def artifacts(self, run_ids: Sequence[str], name: str) -> Iterator[bytes | None]:
        """An artifact of each of these runs; None where a run has none of this name."""
        return (_downloaded(self.client, run_id, name) for run_id in run_ids)


def _downloaded(client: MlflowClient, run_id: str, name: str) -> bytes | None:
    if all(entry.path != name for entry in client.list_artifacts(run_id)):
        return None
    with tempfile.TemporaryDirectory() as folder:
        return Path(client.download_artifacts(run_id, name, folder)).read_bytes()
