"""Run folders that are as they were when the store beside them was last brought up to date: they are not read again.

Nothing is concluded from this but that nothing is to be done, and only while the store itself is the same file with the
same size and times. So whatever else changes a store or a folder has all of them compared as before. What is remembered
lies in the cache folder of the machine, and can be removed at any time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tinylora.records.folder import LOCK
from tinylora.settings.files import cache_folder
from tinylora.settings.remembered import recall_file, remember_file
from tinylora.settings.store_urls import STORE

FOLDER = "mirrored"  # below the cache folder of the machine
BESIDE = ("", "-wal", "-journal")  # files of an SQLite store

Facts = list[list[Any]]
"""Name, size, time of change, and number of each file, in order."""


def facts_of(folders: Iterable[Path]) -> dict[str, Facts]:
    """What is compared of each run folder, by its name; folders that cannot be looked at are left out."""
    found = {}
    for folder in folders:
        with suppress(OSError), os.scandir(folder) as entries:
            found[folder.name] = sorted(_facts(entry.name, entry.stat()) for entry in entries if entry.name != LOCK)
    return found


def unchanged(outputs: Path, now: Mapping[str, Facts]) -> set[str]:
    """The names of the folders that the store held as they are `now`, as far as the store is what it was then."""
    known = recall_file(_file(outputs))
    folders = known.get("folders")
    if not known.get("store") or known["store"] != _store(outputs) or not isinstance(folders, dict):
        return set()
    return {name for name, facts in folders.items() if now.get(name) == facts}


def remember(outputs: Path, folders: Mapping[str, Facts]) -> None:
    """Remember that the store beside these folders holds what they hold."""
    remember_file(_file(outputs), {"store": _store(outputs), "folders": dict(folders)})


def _file(outputs: Path) -> Path:
    return cache_folder() / FOLDER / f"{hashlib.sha256(str(outputs.resolve()).encode()).hexdigest()[:16]}.json"


def _store(outputs: Path) -> Facts:
    """What is compared of the store: nothing where there is none."""
    found = []
    for suffix in BESIDE:
        with suppress(OSError):
            found.append(_facts(suffix, os.stat(outputs / f"{STORE}{suffix}")))
    return found


def _facts(name: str, status: os.stat_result) -> list[Any]:
    return [name, status.st_size, status.st_mtime_ns, status.st_ino]
