"""The harness itself: it sees what is written by whomever, its faults happen, and a difference is noticed."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from faults import damage
from faults.attempts import Fault
from faults.outcome import differences
from faults.points import points
from faults.sweep import Sweep

KEY = points(Path())[0].run_key


def test_files_are_seen_whoever_writes_them(sweep: Sweep) -> None:
    for event in (
        "write outputs/mlflow.db",
        "unlink outputs/mlflow.db-journal",
        f"write outputs/{KEY}/metrics.jsonl",
        f"fsync outputs/{KEY}/metrics.jsonl",
        f"rename outputs/{KEY}/state.previous.safetensors",
        f"rename outputs/{KEY}/summary.json",
    ):
        assert event in sweep.events, event
    assert any(event.startswith("write cache/basis/") for event in sweep.events)
    assert "COMMIT" in sweep.statements


def test_a_torn_write_is_on_the_disk_by_half(sweep: Sweep, tmp_path: Path) -> None:
    k = sweep.events.index(f"write outputs/{KEY}/metrics.jsonl") + 1
    line = (sweep.wanted / "outputs" / KEY / "metrics.jsonl").read_bytes().splitlines(keepends=True)[0]
    left = {}
    for mode in ("kill", "tear", "full"):
        folder = tmp_path / mode
        shutil.copytree(sweep.empty, folder)
        status = sweep.warm.attempt(folder, Fault(mode, k)).status
        assert status == (1 if mode == "full" else -9)
        left[mode] = (folder / "outputs" / KEY / "metrics.jsonl").read_bytes()
    assert left["kill"] == b"" and 0 < len(left["tear"]) < 0.6 * len(line)
    assert b"\n" not in left["tear"]


CHANGES: dict[str, Callable[[Path], object]] = {
    "metrics.jsonl": lambda run: damage.apply(run, run, {"file": "metrics.jsonl", "do": {"drop": 2}}),
    "state.safetensors": lambda run: damage.apply(run, run, {"file": "state.safetensors", "do": {"flip": -1}}),
    "left over": lambda run: (run / "config.yaml.part").touch(),
    "RUNNING": lambda run: change_store(run.parent, "UPDATE runs SET status = 'RUNNING'"),
    "more than once": lambda run: change_store(
        run.parent,
        "INSERT INTO metrics SELECT key, value, timestamp + 1, run_uuid, step, is_nan FROM metrics LIMIT 1",
    ),
    "metrics that are not": lambda run: change_store(run.parent, "DELETE FROM metrics WHERE step = 1"),
}


def change_store(outputs: Path, statement: str) -> None:
    with closing(sqlite3.connect(outputs / "mlflow.db")) as database, database:
        database.execute(statement)


@pytest.mark.parametrize("noticed", CHANGES)
def test_a_difference_is_noticed(noticed: str, sweep: Sweep, tmp_path: Path) -> None:
    outputs, wanted = tmp_path / "outputs", sweep.wanted / "outputs"
    shutil.copytree(wanted, outputs)
    assert not differences(outputs, wanted)
    CHANGES[noticed](outputs / KEY)
    try:
        found = differences(outputs, wanted)
    except Exception as error:  # as the sweep takes it
        found = [str(error)]
    assert any(noticed in line for line in found), found
