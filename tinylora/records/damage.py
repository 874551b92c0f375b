"""Whether a run folder can be trusted: one that cannot is named and set aside, and the others go on.

A run that has not ended continues from a saved state, and needs the metrics of all steps up to it. One that has ended
needs all its metrics, and no state any more. Bits that have flipped in a number of metrics.jsonl or summary.json are
not noticed; those of a state are, where training continues from it (`train.state`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tinylora.records.folder import (
    CONFIG,
    DIGESTS,
    LOCK,
    METRICS,
    PREVIOUS,
    STATE,
    SUMMARY,
    DamagedError,
    RunFolder,
    Status,
    lines_of,
    saved_step,
)
from tinylora.records.reading import UNREADABLE
from tinylora.settings.errors import TinyLoraError, first_line


def require_whole(folder: RunFolder) -> None:
    """Raise DamagedError where a run cannot be continued, or is not the record of how it ended."""
    if (not folder.path.is_dir() and os.path.lexists(folder.path)) or (folder.path / LOCK).is_dir():
        raise DamagedError(
            f"{folder.path} cannot be locked",
            f"a run has a folder, with a file {LOCK} in it",
            "move away what lies in its place",
        )
    described, summary = folder.described(), folder.summary()
    if described is None:
        _require_not_begun(folder.path)
        return
    folder.check()
    saved = [saved_step(folder.path / name) for name in (STATE, PREVIOUS) if (folder.path / name).exists()]
    steps = len(lines_of(folder.path)) - 1  # read after the states, which a process may be writing: lines come first
    if summary is not None and summary["status"] != Status.cut_short.value:
        if not (steps == summary["step"] == _count_lines(folder.path / METRICS) - 1):
            raise _incomplete(folder.path, f"those of the steps 0 to {summary['step']}, at which it ended", steps)
    elif saved and max(saved) < 0:
        raise DamagedError(
            f"{folder.path}: its saved states are damaged",
            "a run continues from a saved state",
            f"restore {STATE}, or remove the folder to train this run anew",
        )
    elif saved and not any(0 <= step <= steps for step in saved):
        raise _incomplete(folder.path, f"those of the steps 0 to {max(saved)}, from which it would continue", steps)


@dataclass(frozen=True)
class Seen:
    """What a look at a run folder shows."""

    damage: str | None
    """Why it cannot be trusted; None where it can."""
    digests: Mapping[str, str]
    """The recorded digests of what the run is made with, by name; none before it has begun."""


def look_at(folder: RunFolder) -> Seen:
    """A look at a run folder. Files that have not changed are not read again."""
    signature = _signature(folder.path)
    if folder.path not in _looked_at or _looked_at[folder.path][0] != signature:
        _looked_at[folder.path] = signature, _look(folder)
    return _looked_at[folder.path][1]


def damage_of(folder: RunFolder) -> str | None:
    """Why a run folder cannot be trusted; None where it can."""
    return look_at(folder).damage


def status_of(folder: RunFolder) -> Status | None:
    """How a run stands, `damaged` included; None before it has begun."""
    return folder.status() if damage_of(folder) is None else Status.damaged


_looked_at: dict[Path, tuple[object, Seen]] = {}


def _look(folder: RunFolder) -> Seen:
    try:
        require_whole(folder)
        provenance = (folder.described() or {}).get("provenance", {})
    except TinyLoraError as error:
        return Seen(f"{error.given}; {error.rule}", {})
    except UNREADABLE as error:
        return Seen(f"{folder.path} cannot be read: {first_line(error)}", {})
    return Seen(None, {name: str(provenance[name]) for name in DIGESTS if name in provenance})


def _signature(path: Path) -> list[object]:
    """Time, size and number of the files that are looked at."""
    found: list[object] = []
    for name in (CONFIG, METRICS, SUMMARY, STATE, PREVIOUS):
        try:
            status = (path / name).stat()
            found.append((status.st_mtime_ns, status.st_size, status.st_ino))
        except OSError:
            found.append(None)
    return found


def _count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _require_not_begun(path: Path) -> None:
    left = [name for name in (METRICS, STATE, PREVIOUS, SUMMARY) if (path / name).exists()]
    if left:
        raise DamagedError(
            f"{path / CONFIG} is missing, and {', '.join(left)} is there",
            "a run folder says which run it holds",
            f"restore the file, or remove the folder {path} to train this run anew",
        )


def _incomplete(path: Path, wanted: str, steps: int) -> DamagedError:
    found = f"has whole lines up to step {steps} only" if steps >= 0 else "has no whole line"
    return DamagedError(
        f"{path / METRICS} {found}",
        f"a run has the metrics of all its steps, here {wanted}",
        "restore the file, or remove the folder to train this run anew",
    )
