"""Faults at the k-th SQL statement or commit of a process, on whatever SQLite store."""

from __future__ import annotations

import os
import signal
import sqlite3
from typing import Any


def arm(mode: str, k: int, events: str | None) -> None:
    """Have the k-th statement of this process kill it (sqlkill), or fail once as on a bad disk (sqlerror)."""
    counted = [0]
    listed = open(events, "w", buffering=1) if events else None  # noqa: SIM115 - open for as long as the process is

    def happens(what: str) -> None:
        counted[0] += 1
        if listed is not None:
            print(" ".join(what.split())[:160], file=listed)
        if counted[0] == k and mode == "sqlkill":
            os.kill(os.getpid(), signal.SIGKILL)
        if counted[0] == k and mode == "sqlerror":
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR, "SQLITE_IOERR"
            raise error

    class Cursor(sqlite3.Cursor):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            happens(sql)
            return super().execute(sql, *values)

        def executemany(self, sql: str, *values: Any) -> sqlite3.Cursor:
            happens(sql)
            return super().executemany(sql, *values)

    class Connection(sqlite3.Connection):
        def cursor(self, factory: Any = None) -> Any:
            return super().cursor(factory or Cursor)

        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            happens(sql)
            return super().execute(sql, *values)

        def commit(self) -> None:
            if self.in_transaction:
                happens("COMMIT")
            super().commit()

    connect = sqlite3.connect

    def connected(*words: Any, **named: Any) -> Any:
        return connect(*words, **{"factory": Connection} | named)

    sqlite3.connect = sqlite3.dbapi2.connect = connected  # type: ignore[attr-defined]
