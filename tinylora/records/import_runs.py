"""Run folders into MLflow, through one writer: for runs whose jobs wrote nothing but their folders.

Importing twice changes nothing. Of a run that has not ended, the lines up to the saved state before its newest one are
taken: it will continue from one of these two states, so these lines will not be made again. A folder that is damaged is
named and left out; the others are imported all the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from filelock import Timeout

from tinylora.records.checks import wrong_lines
from tinylora.records.folder import (
    LOCK,
    METRICS,
    PREVIOUS,
    SUMMARY,
    MetricLine,
    RunFolder,
    read_config,
    run_folders,
    saved_step,
)
from tinylora.settings.errors import FailureError, TinyLoraError, first_line
from tinylora.settings.files import held
from tinylora.settings.leftovers import clear

SYNC_LOCK = ".sync.lock"
UNREADABLE = (TinyLoraError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What reading a damaged record raises: text that is none, what is not there, what is something else, deep nesting."""


@dataclass(frozen=True)
class Synced:
    """What was done."""

    runs: int
    """Runs that the store now holds as their folders do."""
    problems: list[str]
    """Folders that could not be read, and stores that did not answer."""
    damaged: dict[str, str] = field(default_factory=dict)
    """The names of the folders that could not be read (a folder's name is its run_key), and why."""


class SettledFolder(RunFolder):
    """A run folder of which nothing is read that may be made again."""

    def lines(self) -> list[MetricLine]:
        """The lines that stay."""
        status = self.status()
        if status is not None and status.final:
            return super().lines()
        settled = saved_step(self.path / PREVIOUS)
        return [line for line in super().lines() if line.step <= settled]


def readable(outputs: Path) -> tuple[list[SettledFolder], dict[str, str]]:
    """The run folders in `outputs` that can be read, and why others cannot, by their names."""
    folders, damaged = [], {}
    for path in run_folders(outputs):
        try:
            folder = SettledFolder(read_config(path, outputs))
            folder.described()
            folder.reason()
            if wrong := wrong_lines(RunFolder.lines(folder)):
                raise ValueError(f"{path / METRICS}: {wrong}")
        except UNREADABLE as error:
            damaged[path.name] = why_unreadable(error)
        else:
            folders.append(folder)
    return folders, damaged


def why_unreadable(error: Exception) -> str:
    """What reading a damaged record stumbled on, in a line."""
    if isinstance(error, TinyLoraError):
        return error.given
    said = first_line(error)[:200]
    return said if type(error) is ValueError else f"{type(error).__name__}: {said}"


def sync(outputs: Path, servers: bool = False) -> Synced:
    """Bring the SQLite store in `outputs` up to date with the runs there; and with `servers` those that have one.

    A run with a server is left to the process that trains it now, which writes itself.
    """
    groups: dict[tuple[str, str], list[RunFolder]] = {}
    done, problems = 0, []
    with held(outputs / SYNC_LOCK):
        clear(outputs)
        folders, damaged = readable(outputs)
        for folder in folders:
            config = folder.config
            if config.tracking.uri is None or (servers and not _in_use(folder.path)):
                groups.setdefault((config.tracking_uri, config.tracking.experiment), []).append(folder)
        for group in groups.values():
            try:
                from tinylora.records.mirror import Mirror  # MLflow is needed where there is something to write

                Mirror(group[0].config).push(group, final=True)
                done += len(group)
            except FailureError as error:
                problems.append(f"{error.given}\n  remedy: {error.remedy}")
    return Synced(done, [*(f"{name}: {why}" for name, why in damaged.items()), *problems], damaged)


def _in_use(path: Path) -> bool:
    if (path / SUMMARY).exists() or not (path / LOCK).exists():
        return False
    try:
        with held(path / LOCK, seconds=0):
            return False
    except Timeout:
        return True
