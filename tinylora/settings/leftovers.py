"""Temporary files, and the removal of those that a killed process has left.

A name says which process of which machine writes the file: `.<name>.<pid>@<host>.tmp`. A leftover is removed only where
that process is known to be dead: one of another machine may live. A folder holds a lock file instead, which tells on
every machine: the `.part` files of a run are written by the holder of its lock, and so is all of a `.unpack-*` folder.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
from pathlib import Path

from filelock import Timeout

from tinylora.settings.errors import FailureError
from tinylora.settings.files import held

LOCK = ".lock"
UNPACKING = ".unpack-"
HOST = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())
_WRITTEN = "csv|md|tex|svg|pdf|png|html"
_NAMED = re.compile(
    rf"\..+\.(?P<here>\d+)@{re.escape(HOST)}\.tmp|\..+\.(?:{_WRITTEN})\.(?P<report>\d+)\.tmp|\.write-test-(?P<test>\d+)"
)
"""Temporary files of this machine; earlier versions did not name it, and wrote reports and tests of a folder so."""


def temporary(path: Path) -> Path:
    """The name under which this process writes a file before it takes its place."""
    return path.with_name(f".{path.name}.{os.getpid()}@{HOST}.tmp")


def clear_files(folder: Path) -> None:
    """Remove the temporary files that dead processes of this machine have left in a folder."""
    for path in _entries(folder):
        found = _NAMED.fullmatch(path.name)
        if found and _dead(int(found["here"] or found["report"] or found["test"])):
            path.unlink(missing_ok=True)


def clear_outputs(outputs: Path) -> None:
    """Remove what dead processes have left in an outputs_dir: such files, unpacked archives, parts of run files."""
    clear_files(outputs)
    for path in (each for each in _entries(outputs) if each.is_dir() and not each.is_symlink()):
        if path.name.startswith(UNPACKING):
            if _free(path):
                shutil.rmtree(path, ignore_errors=True)
        elif any(each.suffix == ".part" for each in _entries(path)):
            _clear_parts(path)


def _clear_parts(folder: Path) -> None:
    """Remove the `.part` files of a run folder that no process holds, while holding it."""
    if not (folder / LOCK).exists():
        return
    try:
        with held(folder / LOCK, seconds=0):
            for path in folder.glob("*.part"):
                path.unlink(missing_ok=True)
    except (Timeout, FailureError, OSError):
        return


def _free(unpacking: Path) -> bool:
    """Whether the process that unpacks there is dead; earlier versions said it by the number in the name alone."""
    if not (unpacking / LOCK).exists():
        number = unpacking.name.removeprefix(UNPACKING)
        return number.isdecimal() and _dead(int(number))
    try:
        with held(unpacking / LOCK, seconds=0):
            return True
    except (Timeout, FailureError):
        return False


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _dead(number: int) -> bool:
    """Whether no process of this machine has a number; this process has no leftover when it looks for some."""
    if number == os.getpid():
        return True
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # another user's
        return False
    return False
