"""Whether a run folder can be trusted: one that cannot is named and set aside, and the others go on.

A run that has not ended continues from a saved state, and needs the metrics of all steps up to it, and the outcomes of
their evaluations. One that has ended needs all of these, and no state any more. Samples and kept v may be missing
altogether; where there are some, they are those that the metrics speak of. Bits that have flipped in a number of
metrics.jsonl or summary.json are not noticed; those of a state are, where training continues from it (`train.state`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinylora.records.digests import DIGESTS
from tinylora.records.folder import (
    CONFIG,
    LATER,
    LOCK,
    METRICS,
    PREVIOUS,
    STATE,
    SUMMARY,
    DamagedError,
    RunFolder,
    Status,
)
from tinylora.records.items import ITEMS, lines_with_items
from tinylora.records.kept import KEPT, lines_with_kept
from tinylora.records.measured import MetricLine, read_lines, wrong_end
from tinylora.records.reading import UNREADABLE, config_of, saved_step, why_unreadable
from tinylora.records.samples import SAMPLES, lines_with_samples

NOT_NEEDED = "without this file the run is whole"


def require_whole(folder: RunFolder) -> None:
    """Raise DamagedError where a run cannot be continued, or is not the record of how it ended."""
    try:
        _require_whole(folder)
    except DamagedError:
        raise
    except UNREADABLE as error:
        raise _damaged(folder.path, why_unreadable(error), "is read as it was written") from error


def _require_whole(folder: RunFolder) -> None:
    _require_place(folder.path)
    described, summary = folder.described(), folder.summary()
    if described is None:
        _require_not_begun(folder.path)
        return
    folder.check()
    config_of(described, folder.path, folder.path.parent)
    # The states are read first: a process that trains this run now writes them after its lines.
    saved = [saved_step(folder.path / name) for name in (STATE, PREVIOUS) if (folder.path / name).exists()]
    lines, wrong = read_lines(folder.path)
    if summary is not None and summary["status"] != Status.cut_short.value:
        _require_end(folder, summary, lines, wrong)
        return
    absent = [name for name in DIGESTS if name not in LATER and not isinstance(described["provenance"].get(name), str)]
    if saved and max(saved) < 0:
        raise _damaged(folder.path / STATE, "it cannot be read, nor can the state before it", "continues from a state")
    if saved and not any(0 <= step < len(lines) for step in saved):
        why = f"{wrong or 'lines are missing'}; its states are of step {' and '.join(map(str, sorted(saved)))}"
        raise _damaged(folder.path / METRICS, why, "continues with the metrics of all steps before")
    count, wrong = lines_with_items(folder.path, lines, folder.config.recipe)
    if saved and not any(0 <= step < count for step in saved):
        raise _damaged(folder.path / ITEMS, str(wrong), "continues with the outcomes of all evaluations before")
    count, wrong = lines_with_samples(folder.path, lines)
    if saved and not any(0 <= step < count for step in saved):
        raise _damaged(
            folder.path / SAMPLES, f"{wrong} ({NOT_NEEDED})", "continues with the samples of all steps before"
        )
    count, wrong = lines_with_kept(folder.path, lines)
    if saved and not any(0 <= step < count for step in saved):
        raise _damaged(folder.path / KEPT, f"{wrong} ({NOT_NEEDED})", "continues with the v of all evaluations before")
    if absent:
        raise _damaged(
            folder.path / CONFIG, f"it has no {absent[0]}", "continues with the files that it was begun with"
        )


def _require_end(folder: RunFolder, summary: dict[str, Any], lines: Sequence[MetricLine], wrong: str | None) -> None:
    """Raise DamagedError where a run that has ended lacks metrics, or its summary says other things than they."""
    if wrong is not None:
        raise _damaged(folder.path / METRICS, wrong, "that has ended has the metrics of all its steps")
    finished = summary["status"] == Status.finished.value
    if len(lines) <= summary["step"] > 0 or (finished and not lines):
        why = f"its lines end before step {summary['step']}, at which the run has ended"
        raise _damaged(folder.path / METRICS, why, "that has ended has the metrics of all its steps")
    if (differs := wrong_end(summary, lines, folder.config.training_steps)) is not None:
        raise _damaged(folder.path / SUMMARY, differs, "that has ended has a summary of its metrics")
    if (differs := lines_with_items(folder.path, lines, folder.config.recipe)[1]) is not None:
        raise _damaged(folder.path / ITEMS, differs, "that has ended has the outcomes of its evaluations, which agree")
    if (differs := lines_with_samples(folder.path, lines)[1]) is not None:
        raise _damaged(folder.path / SAMPLES, f"{differs} ({NOT_NEEDED})", "that has ended has its samples, or none")
    if (differs := lines_with_kept(folder.path, lines)[1]) is not None:
        raise _damaged(
            folder.path / KEPT, f"{differs} ({NOT_NEEDED})", "that has ended has v at each evaluation, or no file"
        )


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
    except DamagedError as error:
        return Seen(error.given, {})
    return Seen(None, {name: str(provenance[name]) for name in DIGESTS if name in provenance})


def _signature(path: Path) -> list[object]:
    """Time, size and number of the files that are looked at."""
    found: list[object] = []
    for name in (CONFIG, METRICS, ITEMS, SAMPLES, KEPT, SUMMARY, STATE, PREVIOUS):
        try:
            status = (path / name).stat()
            found.append((status.st_mtime_ns, status.st_size, status.st_ino))
        except OSError:
            found.append(None)
    return found


def _require_place(path: Path) -> None:
    if os.path.lexists(path) and not path.is_dir():
        raise _damaged(path, "it is no folder", "has a folder")
    if folders := [each.name for each in (path / LOCK, *path.glob("*.part")) if each.is_dir()]:
        raise _damaged(path / folders[0], "it is a folder", "is held by a lock, and written in files")


def _require_not_begun(path: Path) -> None:
    left = [name for name in (METRICS, ITEMS, SAMPLES, KEPT, STATE, PREVIOUS, SUMMARY) if (path / name).exists()]
    if left:
        raise _damaged(path / CONFIG, f"it is missing, and {', '.join(left)} is there", "says what it is a run of")


def _damaged(path: Path, why: str, rule: str) -> DamagedError:
    return DamagedError(
        f"{path} is damaged: {why}",
        f"a run {rule}",
        "restore the file, or remove the run's folder to train it anew",
    )
