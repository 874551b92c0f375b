"""The SQLite store is whole or not there: whoever is killed while it is made, and however many start together."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from support.packs import point
from support.slurm_jobs import ROOT

from tinylora.records.mirror import Mirror

OPEN = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from support.packs import point
from tinylora.records.mirror import Mirror
print("importing is done", flush=True)
print(Mirror(point(Path(sys.argv[1]))).experiment, flush=True)
"""


def opening(outputs: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", OPEN, str(outputs), str(ROOT), str(ROOT / "tests")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_kill_while_it_is_made_leaves_the_folder_usable(tmp_path: Path) -> None:
    for wait in (0.3, 0.9, 1.6):
        process = opening(tmp_path)
        assert process.stdout is not None and process.stdout.readline() == "importing is done\n"
        time.sleep(wait)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert Mirror(point(tmp_path)).experiment
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mlflow.db.lock", "mlflow.db"]


@pytest.mark.slow
def test_processes_that_start_together_in_a_new_folder_share_one_store(tmp_path: Path) -> None:
    processes = [opening(tmp_path) for _ in range(3)]
    said = [process.communicate(timeout=120) for process in processes]
    assert all(process.returncode == 0 for process in processes), said
    assert len({out.split()[-1] for out, _ in said}) == 1, "they do not use one experiment"


@pytest.mark.parametrize("left", ["no table", "no version", "an early version"])
def test_a_store_that_was_left_half_made_is_made_anew(left: str, outputs: Path) -> None:
    path = outputs / "mlflow.db"
    with closing(sqlite3.connect(path)) as database, database:
        if left == "no version":
            database.execute("DELETE FROM alembic_version")
        else:
            database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    if left == "no table":
        path.write_bytes(b"")
    assert Mirror(point(outputs)).experiment
    assert (outputs / "mlflow.db.half-made").exists()


def test_a_file_that_is_not_mlflows_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE mine (value INTEGER)")
    Mirror(point(tmp_path))  # MLflow adds its tables to it, as it always did
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT COUNT(*) FROM mine").fetchone() == (0,)
    assert not (tmp_path / "mlflow.db.half-made").exists()
