"""Addresses of MLflow's stores: the URL of an SQLite file, and the file of a URL, by SQLAlchemy's own rules.

A path is no part of a URL as it is: `?`, `#` and `%` mean something there. SQLAlchemy takes a quarter of a second to
import, so that happens where an address is needed. MLflow creates the folders of a `sqlite:///` address by its text,
quoted signs and all; it leaves the same address with the driver's name alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tinylora.settings.errors import UsageError, first_line
from tinylora.settings.paths import absolute
from tinylora.settings.rules import shown

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

STORE = "mlflow.db"
ARTIFACTS = "mlflow-artifacts"  # the folder beside it
"""The default store of an outputs_dir."""
SQLITE, DRIVER = "sqlite", "sqlite+pysqlite"
IN_MEMORY = ("", ":memory:")
FORM = "sqlite:///<path>, or sqlite:////<absolute path>, in which % is written %25, ? %3F and # %23"
OF_FILES = ("", "file")  # schemes
MANAGED = ("databricks",)  # what MLflow knows by its name alone


def url_of(path: Path) -> str:
    """The URL of an SQLite file, which MLflow and SQLAlchemy understand as that file."""
    from sqlalchemy.engine import URL

    plain = URL.create(SQLITE, database=str(path)).render_as_string()
    return plain if plain == f"{SQLITE}:///{path}" else URL.create(DRIVER, database=str(path)).render_as_string()


def file_of(url: str) -> Path | None:
    """The file of an SQLite store by its URL; None for another store, and for what is no URL."""
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = _parsed(url)
    except ArgumentError:
        return None
    return Path(parsed.database) if parsed is not None and parsed.database not in (None, *IN_MEMORY) else None


def as_store(text: str, name: str) -> str:
    """An address of a store as it is kept: of an SQLite file with its absolute path. Raises UsageError."""
    from sqlalchemy.exc import ArgumentError

    said, remedy = f"{name}={shown(text)}", f"give {name}=sqlite:///<path>, or the address of a server"
    try:
        scheme = urlsplit(text).scheme
    except ValueError as error:
        raise UsageError(said, f"it is the address of a store: {first_line(error)}", remedy) from error
    if scheme in OF_FILES and text not in MANAGED:
        raise UsageError(
            said, "a store is an SQLite file or a server: MLflow no longer keeps records in folders", remedy
        )
    try:
        parsed = _parsed(text)
    except ArgumentError as error:
        raise UsageError(said, f"the address of an SQLite file is {FORM}: {first_line(error)}", remedy) from error
    if parsed is None:
        return text
    if parsed.host or "?" in text or parsed.drivername not in (SQLITE, DRIVER):
        raise UsageError(said, f"the address of an SQLite file is {FORM}, and nothing else", remedy)
    if parsed.database is None or parsed.database in IN_MEMORY:
        raise UsageError(said, "a store outlives the process, and this one would be in its memory", remedy)
    return url_of(absolute(parsed.database, name))


def _parsed(url: str) -> URL | None:
    """The parts of an SQLite URL; None for another one. Raises ArgumentError where it has no such parts."""
    if not url.lower().startswith(SQLITE):
        return None
    from sqlalchemy.engine import make_url

    return make_url(url)
