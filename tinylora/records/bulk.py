"""Lines of a run into MLflow: in batches, or, into a SQLite store that has none of them yet, all at once.

`log_batch` takes a second for a run of a few thousand values: it makes an object of each, and asks the store what is
there. Nothing is there yet, so the rows are written as they are, in one transaction, into MLflow's tables by MLflow's
own description of them. Where this MLflow has others, nothing is done.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mlflow import MlflowClient
from sqlalchemy import insert

from tinylora.records.mirrored import MarkedLine, batches

ROW = {"key", "value", "timestamp", "step", "is_nan", "run_uuid"}
"""What a row of MLflow's tables of metrics consists of."""


def add_lines(client: MlflowClient, run_id: str, lines: Sequence[MarkedLine], at_once: bool) -> None:
    """Write lines of a run; `at_once`, if it has none yet, and its store is a file that this process alone writes."""
    if not (at_once and lines and _write_all(client, run_id, lines)):
        for batch in batches(lines):
            client.log_batch(run_id, metrics=batch)


def _write_all(client: MlflowClient, run_id: str, lines: Sequence[MarkedLine]) -> bool:
    """Write all lines of a run that has none; False, and nothing is done, where that cannot be done at once."""
    tables, session_of = _tables(client)
    if not tables:
        return False
    rows = [_row(run_id, metric) for line in lines for metric in line.metrics()]
    latest = {row["key"]: row for row in rows}  # lines are in the order of their steps
    with session_of() as session:
        session.execute(insert(tables[0]), rows)
        session.execute(insert(tables[1]), list(latest.values()))
    return True


def _tables(client: MlflowClient) -> tuple[list[Any], Any]:
    """The tables of metrics and of the latest ones, and what opens a session; nothing where MLflow has others."""
    try:
        from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric

        session_of = client._tracking_client.store.ManagedSessionMaker
    except (ImportError, AttributeError):
        return [], None
    tables = [SqlMetric.__table__, SqlLatestMetric.__table__]
    return (tables, session_of) if all({c.name for c in table.columns} == ROW for table in tables) else ([], None)


def _row(run_id: str, metric: Any) -> dict[str, Any]:
    missing = math.isnan(metric.value)
    return {
        "run_uuid": run_id,
        "key": metric.key,
        "value": 0.0 if missing else metric.value,
        "timestamp": metric.timestamp,
        "step": metric.step,
        "is_nan": missing,
    }
