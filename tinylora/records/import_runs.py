"""Run folders into MLflow, through one writer: for runs whose jobs wrote nothing but their folders.

Importing twice changes nothing. Of a run that has not ended, the lines up to the saved state before its newest one are
taken: it will continue from one of these two states, so these lines will not be made again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tinylora.records.folder import LOCK, PREVIOUS, SUMMARY, MetricLine, RunFolder
from tinylora.records.reading import read_config, run_folders, saved_step
from tinylora.settings.errors import FailureError, TinyLoraError
from tinylora.settings.files import Timeout, held

SYNC_LOCK = ".sync.lock"


@dataclass(frozen=True)
class Synced:
    """What was done."""

    runs: int
    """Runs that the store now holds as their folders do."""
    problems: list[str]
    """Folders that could not be read, and servers that did not answer."""


class SettledFolder(RunFolder):
    """A run folder of which nothing is read that may be made again."""

    def lines(self) -> list[MetricLine]:
        """The lines that stay."""
        status = self.status()
        if status is not None and status.final:
            return super().lines()
        settled = saved_step(self.path / PREVIOUS)
        return [line for line in super().lines() if line.step <= settled]


def sync(outputs: Path, servers: bool = False) -> Synced:
    """Bring the SQLite store in `outputs` up to date with the runs there; and with `servers` those that have one.

    A run with a server is left to the process that trains it now, which writes itself.
    """
    problems: list[str] = []
    groups: dict[tuple[str, str], list[RunFolder]] = {}
    for path in run_folders(outputs):
        try:
            config = read_config(path, outputs)
        except TinyLoraError as error:
            problems.append(f"{path.name}: {error.given}")
            continue
        if config.tracking.uri is None or (servers and not _in_use(path)):
            groups.setdefault((config.tracking_uri, config.tracking.experiment), []).append(SettledFolder(config))
    done = 0
    with held(outputs / SYNC_LOCK):
        for folders in groups.values():
            try:
                _push(folders)
                done += len(folders)
            except FailureError as error:
                problems.append(error.given)
    return Synced(done, problems)


def _push(folders: list[RunFolder]) -> None:
    from tinylora.records.mirror import Mirror

    Mirror(folders[0].config).push(folders, final=True)


def _in_use(path: Path) -> bool:
    if (path / SUMMARY).exists() or not (path / LOCK).exists():
        return False
    try:
        with held(path / LOCK, seconds=0):
            return False
    except Timeout:
        return True
