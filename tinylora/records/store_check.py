"""What is known of a store before anything is trained: an experiment that was deleted, artifacts that have no place.

MLflow keeps a deleted experiment under its name until `mlflow gc`, and takes no run into it.
"""

from __future__ import annotations

import os
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from tinylora.settings.errors import UsageError
from tinylora.settings.rules import shown
from tinylora.settings.store_urls import OF_FILES, url_of

DELETED = "deleted"  # MLflow's word
LONGEST_PATH = 460  # bytes: SQLite opens 512, and journals and a store that is being made have longer names
SECONDS_FOR_A_LOCK = 5.0


def require_openable(file: Path | None) -> None:
    """Raise UsageError where the path of an SQLite store is longer than SQLite can open."""
    if file is not None and (length := len(os.fsencode(file))) > LONGEST_PATH:
        raise UsageError(
            f"MLflow's store {shown(file)}",
            f"SQLite cannot open paths of more than {LONGEST_PATH} bytes, and this one has {length}",
            "give outputs_dir=<shorter path>, or another tracking.uri",
        )


def require_artifacts(uri: str, name: str, artifacts: str) -> None:
    """Raise UsageError where the files of an experiment's runs cannot be written from here."""
    folder = local_folder(artifacts)
    if folder is not None and (why := _why_not_writable(folder)):
        raise UsageError(
            f"experiment {name} in {shown(uri)}: {folder} {why}",
            "MLflow copies the files of ended runs into the folder that was set when the experiment was made",
            "make it writable; an experiment of another name (tracking.experiment) has its folder beside the store",
        )


def deleted(uri: str, name: str, number: str) -> UsageError:
    """What to say of an experiment that was deleted in MLflow."""
    restore = f"MLFLOW_TRACKING_URI={shlex.quote(uri)} mlflow experiments restore --experiment-id {number}"
    return UsageError(
        f"experiment {name} in {shown(uri)}: it was deleted in MLflow (id {number})",
        "a deleted experiment takes no runs, and keeps its name until `mlflow gc` removes it for good",
        f"`{restore}`, or give tracking.experiment=<another name>",
    )


def check_experiment(file: Path, name: str) -> None:
    """The same for a store of SQLite, which is only read and needs no MLflow. Nothing where it is not there yet."""
    require_openable(file)
    if not file.is_file():
        return
    query = "SELECT experiment_id, lifecycle_stage, artifact_location FROM experiments WHERE name = ?"
    try:
        address = f"{file.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=SECONDS_FOR_A_LOCK)) as database:
            found = database.execute(query, (name,)).fetchone()
    except (sqlite3.Error, UnicodeDecodeError):
        return  # damaged or busy: whoever writes to it says so
    if found is not None:
        number, stage, artifacts = map(str, found)
        if stage == DELETED:
            raise deleted(url_of(file), name, number)
        require_artifacts(url_of(file), name, artifacts)


def local_folder(artifacts: str) -> Path | None:
    """The folder of an artifact location; None where it is of a server or another machine's."""
    parts = urlsplit(artifacts)
    if parts.scheme not in OF_FILES or parts.netloc not in ("", "localhost"):
        return None
    return Path(url2pathname(parts.path) if parts.scheme else artifacts)


def _why_not_writable(folder: Path) -> str | None:
    """Why a folder cannot be made or written to, which is only looked at; None where it can."""
    for place in (folder, *folder.parents):
        if os.path.lexists(place):
            if not os.path.isdir(place):
                return f"cannot be made: {place} is no folder"
            return None if os.access(place, os.W_OK | os.X_OK) else f"cannot be written to ({place})"
    return None
