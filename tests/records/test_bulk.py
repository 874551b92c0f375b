"""Lines that are written at once are, row by row, what MLflow's own calls write."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tinylora.records import bulk
from tinylora.records.measured import MetricLine
from tinylora.records.mirrored import MARK, MarkedLine, marked


def lines() -> list[MarkedLine]:
    """60 steps of 40 metrics, of which one is NaN now and then, one is rare, and two steps have the same time."""
    found = []
    for step in range(60):
        metrics = {f"train/m{number}": number / (step + 1) for number in range(40)}
        metrics |= {"train/loss": math.nan if step % 3 else 0.5} | ({"eval/test": 0.25} if step % 20 == 0 else {})
        found.append(MetricLine(step, 1.7e9 + step // 2, metrics))
    return marked(found)


def store(folder: Path, at_once: bool) -> list[list[Any]]:
    """The tables of metrics of a new store that the lines were written into."""
    folder.mkdir()
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    run = client.create_run(client.create_experiment("e")).info.run_id
    bulk.add_lines(client, run, lines(), at_once)
    assert client.get_run(run).data.metrics[MARK] == lines()[-1].mark
    columns = "key, value, timestamp, step, is_nan"
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        return [sorted(connection.execute(f"SELECT {columns} FROM {table}")) for table in ("metrics", "latest_metrics")]


def test_rows_are_those_of_mlflows_own_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    log_batch = MlflowClient.log_batch

    def counted(self: MlflowClient, run_id: str, **given: Any) -> Any:
        calls.append(len(given["metrics"]))
        return log_batch(self, run_id, **given)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    slow = store(tmp_path / "slow", at_once=False)
    assert calls
    calls.clear()
    assert store(tmp_path / "fast", at_once=True) == slow
    assert calls == []
    assert len(slow[0]) == sum(len(line.metrics()) for line in lines())


def test_another_version_of_mlflow_is_written_by_its_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = store(tmp_path / "slow", at_once=False)
    monkeypatch.setattr(bulk, "ROW", bulk.ROW | {"unit"})
    assert store(tmp_path / "fast", at_once=True) == slow
