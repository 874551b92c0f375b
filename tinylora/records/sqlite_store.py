"""Making MLflow's SQLite store, so that it is whole or not there, whatever is killed while it is made.

MLflow makes its schema in dozens of steps, and what a kill leaves of them cannot be opened again. So it is made aside
and renamed. A store that an earlier version left half-made holds no runs. It is kept under another name and made anew;
run folders are the record, from which it is filled again.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path


def make_store(path: Path, make: Callable[[str], None]) -> None:
    """Make the SQLite store at `path` where there is none, or a half-made one; to be called by its only writer.

    `make` makes the store of an MLflow URI.
    """
    if path.exists():
        if not _half_made(path):
            return
        path.replace(path.with_name(f"{path.name}.half-made"))
    path.parent.mkdir(parents=True, exist_ok=True)
    beginning = f".{path.name}.new-"
    for leftover in path.parent.glob(f"{beginning}*"):  # of a process that was killed: there is one writer at a time
        leftover.unlink()
    aside = path.with_name(f"{beginning}{uuid.uuid4().hex}")  # a name of its own: MLflow remembers the stores it made
    make(f"sqlite:///{aside}")
    aside.replace(path)


def _half_made(path: Path) -> bool:
    """Whether a store has no runs and lacks steps of its schema; what is no SQLite file at all is left to MLflow."""
    try:
        with closing(sqlite3.connect(path)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if tables and not tables & {"experiments", "alembic_version"}:
                return False  # not MLflow's
            if "runs" in tables and database.execute("SELECT 1 FROM runs LIMIT 1").fetchone():
                return False
            if "alembic_version" not in tables:
                return True
            versions = [version for (version,) in database.execute("SELECT version_num FROM alembic_version")]
    except sqlite3.DatabaseError:
        return False
    from mlflow.store.db.utils import _get_latest_schema_revision

    return versions != [_get_latest_schema_revision()]  # type: ignore[no-untyped-call]
