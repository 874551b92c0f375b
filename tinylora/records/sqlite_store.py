"""MLflow's SQLite store as a file: made whole or not at all, told from a damaged one, set aside and never deleted.

MLflow makes its schema in dozens of steps, and what a kill leaves of them cannot be opened again. So it is made aside
and renamed; so is the schema of an older version brought up to date. A store that was left half-made holds no runs. It
is kept under another name and made anew. One that is damaged may hold runs, so that only `experiments.sync --rebuild`
moves it. Run folders are the record, from which it is filled again.

SQLite's journals lie beside the file and belong to it by name. They go where it goes: beside another file they would
be played into that one.
"""

from __future__ import annotations

import glob
import shlex
import sqlite3
import uuid
import warnings
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path

from tinylora.records.folder import CONFIG
from tinylora.settings.errors import FailureError, causes, first_line
from tinylora.settings.store_urls import url_of

JOURNALS = ("-journal", "-wal", "-shm")
TABLES = frozenset({"experiments", "runs", "tags", "params", "metrics"})
"""Those of MLflow's that all its versions have."""
VERSION = "alembic_version"
MAGIC = b"SQLite format 3\0"
UNREADABLE = (sqlite3.Error, UnicodeDecodeError)
"""What reading a damaged file raises."""
SECONDS_FOR_THE_LOCK = 60.0  # another writer pushes a whole sweep in less
OF_THE_MACHINE = (3, 5, 6, 8, 10, 13, 14)
"""SQLite's codes of what is not the file's fault: permission, busy, locked, read-only, I/O, full, cannot open."""


def make_store(path: Path, make: Callable[[str], None], outputs: Path) -> None:
    """Make the SQLite store at `path` where there is none, or a half-made one; to be called by its only writer.

    `make` makes the store of an MLflow URI; `outputs` is the folder of the runs that it mirrors. A store of an older
    version of MLflow is brought up to date. Raises FailureError where the store is damaged.
    """
    for leftover in path.parent.glob(f"{glob.escape(_aside(path, '').name)}*"):  # of a process that was killed
        leftover.unlink()
    if path.exists() and not _half_made(path):
        if why := damage_of(path) or why_not_up_to_date(path):
            raise damaged(path, why, outputs)
        return
    set_aside(path, "half-made")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(path, uuid.uuid4().hex)  # a name of its own: MLflow remembers the stores it made
    make(url_of(aside))
    aside.replace(path)


def _aside(path: Path, own: str) -> Path:
    """Where a store is made before it takes its place."""
    return path.with_name(f".{path.name}.new-{own}")


def lock_of(path: Path) -> Path:
    """The lock file of a store, which its one writer holds."""
    return path.with_name(f".{path.name}.lock")


def set_aside(path: Path, word: str) -> Path:
    """Move a store and its journals to the first name `<name>.<word>[-n]` that is free; the new path."""
    target, n = path.with_name(f"{path.name}.{word}"), 0
    while any(Path(f"{target}{end}").exists() for end in ("", *JOURNALS)):
        n += 1
        target = path.with_name(f"{path.name}.{word}-{n}")
    for end in ("", *JOURNALS):
        if Path(f"{path}{end}").exists():
            Path(f"{path}{end}").replace(f"{target}{end}")
    return target


def _is_sqlite(path: Path) -> bool:
    """Whether a file begins as SQLite's do, or is empty. Others are not opened: SQLite would drop their journals."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) in (MAGIC, b"")


def _half_made(path: Path) -> bool:
    """Whether a store holds nothing and lacks steps of its schema; what is no SQLite file at all is another matter."""
    if not _is_sqlite(path):
        return False
    try:
        with closing(sqlite3.connect(path)) as database:
            tables = _tables(database)
            if tables and not tables & {"experiments", VERSION}:
                return False  # not MLflow's
            records = sorted(tables & {"runs", "metrics", "params"})
            if any(database.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() for table in records):
                return False
            return VERSION not in tables or _version(database) != _versions()[0]
    except UNREADABLE:
        return False


def damage_of(path: Path, thorough: bool = False) -> str | None:
    """What is wrong with an SQLite file that was MLflow's store; None where nothing is seen, or where it was none.

    That its tables are there is seen at once; `thorough` reads all of it (a gigabyte takes seconds). A file that
    cannot be read now, since it is locked, say, is not damaged.
    """
    if not _is_sqlite(path):
        return "file is not a database"
    try:
        with closing(sqlite3.connect(path)) as database:
            tables = _tables(database)
            if not tables & (TABLES | {VERSION}):
                return None
            if lacking := _lacking(database, tables):
                return lacking
            if not thorough:
                return None
            said = [str(row[0]) for row in database.execute("PRAGMA integrity_check(1)")]
            return None if said == ["ok"] else " ".join(said[0].split())
    except UnicodeDecodeError:
        return "its schema is no text"
    except sqlite3.Error as error:
        return None if of_the_machine(error) else first_line(error)


def _lacking(database: sqlite3.Connection, tables: set[str]) -> str | None:
    """Which part of its schema a store lacks. Of an older version, the tables that every version has."""
    from mlflow.store.db.base_sql_model import Base

    wanted = {VERSION, *TABLES}
    version = _version(database) if VERSION in tables else None
    if version == _versions()[0]:
        wanted |= set(Base.metadata.tables)
    if missing := sorted(wanted - tables):
        return f"it lacks the table {', '.join(missing)}"
    if version not in _versions():
        return f"its schema has version {version}, which this MLflow does not know (does it come from a newer one?)"
    for name, table in Base.metadata.tables.items() if version == _versions()[0] else ():
        present = {row[1] for row in database.execute(f"PRAGMA table_xinfo({name})")}
        if absent := sorted({column.name for column in table.columns} - present):
            return f"its table {name} lacks {', '.join(absent)}"
    return None


def of_the_machine(error: BaseException) -> bool:
    """Whether an error of SQLite, or one that wraps it, is of the machine and not of the file."""
    codes = (getattr(cause, "sqlite_errorcode", None) for cause in causes(error))
    return next((code & 0xFF in OF_THE_MACHINE for code in codes if code is not None), False)


def damaged(path: Path, why: str, outputs: Path) -> FailureError:
    """What to say of a damaged store that mirrors the runs of `outputs`."""
    return FailureError(
        f"{path} is damaged: {why}",
        f"the store mirrors the run folders, from which it can be made anew ({lost(path, outputs)})",
        f"python -m experiments.sync --rebuild --outputs-dir {shlex.quote(str(outputs))} keeps the file as "
        f"{path.name}.damaged and makes a new one; nothing has been moved yet",
    )


def lost(path: Path, outputs: Path) -> str:
    """How many runs of a store have no folder in `outputs`, in words: these a new store would not have."""
    without = runs_without_folders(path, outputs)
    if without is None:
        return "which runs it holds cannot be read"
    count, alone = without
    return f"of the {count} runs in it, {alone or 'none'} {'has' if alone == 1 else 'have'} no run folder there"


def runs_without_folders(path: Path, outputs: Path) -> tuple[int, int] | None:
    """How many active runs a store holds, and how many of them have no folder; None where that cannot be read."""
    query = (
        "SELECT tags.value FROM runs LEFT JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = 'run_key' "
        "WHERE runs.lifecycle_stage = 'active'"
    )
    if not _is_sqlite(path):
        return None
    try:
        with closing(sqlite3.connect(path)) as database:
            keys = [row[0] for row in database.execute(query)]
    except UNREADABLE:
        return None
    alone = [key for key in keys if not (isinstance(key, str) and key and (outputs / key / CONFIG).is_file())]
    return len(keys), len(alone)


def why_not_up_to_date(path: Path) -> str | None:
    """Bring the schema of an older version up to date, in a copy that then takes its place; why not, where it fails."""
    import sqlalchemy
    from mlflow.store.db.utils import _upgrade_db

    with closing(sqlite3.connect(path)) as database:
        if VERSION not in _tables(database) or _version(database) not in _versions()[1:]:
            return None
    aside = _aside(path, uuid.uuid4().hex)
    engine = sqlalchemy.create_engine(url_of(aside))
    try:
        with closing(sqlite3.connect(path)) as old, closing(sqlite3.connect(aside)) as new:
            old.backup(new)
        with warnings.catch_warnings(action="ignore"):  # of what SQLite does not need
            _upgrade_db(engine)  # type: ignore[no-untyped-call]
    except Exception as error:  # whatever a step of the schema stumbles on
        aside.unlink(missing_ok=True)
        if of_the_machine(error):
            raise
        return f"its schema is half upgraded: {first_line(error)[:200]}"
    finally:
        engine.dispose()
    aside.replace(path)
    forget(path)
    return None


def forget(path: Path) -> None:
    """Have MLflow close what it has open of a store in this process, which another file has replaced."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    engine = SqlAlchemyStore._engine_map.get(url_of(path))
    if engine is not None:
        engine.dispose()


def _tables(database: sqlite3.Connection) -> set[str]:
    return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _version(database: sqlite3.Connection) -> str | None:
    rows = database.execute(f"SELECT version_num FROM {VERSION}").fetchall()
    return str(rows[0][0]) if len(rows) == 1 else None


@cache
def _versions() -> tuple[str, ...]:
    """All versions of MLflow's schema, the newest first."""
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    scripts = ScriptDirectory.from_config(_get_alembic_config(""))  # type: ignore[no-untyped-call]
    return tuple(script.revision for script in scripts.walk_revisions())
