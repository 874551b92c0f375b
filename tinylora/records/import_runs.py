"""Run folders into MLflow, through one writer: for runs whose jobs wrote nothing but their folders.

Importing twice changes nothing. Of a run that has not ended, the lines up to the saved state before its newest one are
taken: it will continue from one of these two states, so these lines will not be made again. A folder that is damaged is
named and left out; the others are imported all the same.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from filelock import Timeout

from tinylora.records import sqlite_store
from tinylora.records.damage import damage_of
from tinylora.records.folder import LOCK, PREVIOUS, SUMMARY, MetricLine, RunFolder, read_config, run_folders, saved_step
from tinylora.records.reading import UNREADABLE, why_unreadable
from tinylora.records.unchanged import facts_of, remember, unchanged
from tinylora.settings.errors import FailureError, TinyLoraError
from tinylora.settings.files import held
from tinylora.settings.leftovers import clear_outputs
from tinylora.settings.store_urls import STORE, file_of

SYNC_LOCK = ".sync.lock"


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


def readable(outputs: Path, but: Collection[str] = ()) -> tuple[list[SettledFolder], dict[str, str]]:
    """The run folders in `outputs`, `but` these, that can be trusted, and why others cannot, by their names."""
    folders, damaged = [], {}
    for path in (path for path in run_folders(outputs) if path.name not in but):
        try:
            folder = SettledFolder(read_config(path, outputs))
            why = damage_of(folder)
        except UNREADABLE as error:
            why = why_unreadable(error)
        if why is None:
            folders.append(folder)
        else:
            damaged[path.name] = why.replace(f"{path}/", "")
    return folders, damaged


def sync(outputs: Path, servers: bool = False) -> Synced:
    """Bring the SQLite store in `outputs` up to date with the runs there; and with `servers` those that have one.

    A run with a server is left to the process that trains it now, which writes itself.
    """
    groups: dict[tuple[str, str], list[RunFolder]] = {}
    done, problems, held_now = 0, [], []
    with held(outputs / SYNC_LOCK):
        clear_outputs(outputs)
        now = facts_of(run_folders(outputs))  # before they are read
        same = unchanged(outputs, now)
        folders, damaged = readable(outputs, but=same)
        for folder in folders:
            config = folder.config
            if config.tracking.uri is None or (servers and not _in_use(folder.path)):
                groups.setdefault((config.tracking_uri, config.tracking.experiment), []).append(folder)
        for group in groups.values():
            try:
                from tinylora.records.mirror import Mirror  # MLflow is needed where there is something to write

                Mirror(group[0].config).push(group, final=True)
                done += len(group)
                held_now += [folder.path.name for folder in group if _is_settled(folder)]
            except TinyLoraError as error:
                problems.append(f"{error.given}\n  remedy: {error.remedy}")
        if folders:
            remember(outputs, {name: now[name] for name in (*same, *held_now) if name in now})
    return Synced(done + len(same), [*(f"{name}: {why}" for name, why in damaged.items()), *problems], damaged)


def _is_settled(folder: RunFolder) -> bool:
    """Whether a run has ended, and its store is the one beside it."""
    status = folder.status()
    return status is not None and status.final and folder.config.tracking.uri is None


def rebuild(outputs: Path) -> list[str]:
    """Set damaged SQLite stores of the runs in `outputs` aside, for `sync` to make them anew; what was done, in words.

    The store in `outputs` is set aside if it is whole, too, unless it holds runs that have no folder: FailureError.
    """
    own = (outputs / STORE).resolve()
    found = {file_of(folder.config.tracking_uri) for folder in readable(outputs)[0]}
    paths = {own, *(path.resolve() for path in found if path is not None)}
    with held(outputs / SYNC_LOCK):
        done = [_rebuild(path, outputs, path == own) for path in sorted(paths) if path.is_file()]
    return [said for said in done if said]


def _rebuild(path: Path, outputs: Path, own: bool) -> str | None:
    busy = FailureError(f"{path}: another process is writing to it", "it is set aside while none does", "wait for it")
    with held(sqlite_store.lock_of(path), sqlite_store.SECONDS_FOR_THE_LOCK, busy):
        why = sqlite_store.damage_of(path, thorough=True) or sqlite_store.why_not_up_to_date(path)
        runs, said = sqlite_store.runs_without_folders(path, outputs), sqlite_store.lost(path, outputs)
        if why is None and not own:
            return None
        if why is None and runs is not None and runs[1]:
            raise FailureError(
                f"{path} is whole, and {said}: these would not be in a new store",
                "a store is made anew from run folders, and nothing that it alone holds is given up for that",
                "leave it; or move it away, if a new one without these runs is wanted",
            )
        kept = sqlite_store.set_aside(path, "damaged")
        sqlite_store.forget(path)
    return f"{path} ({why or 'whole'}; {said}) is kept as {kept.name}"


def _in_use(path: Path) -> bool:
    if (path / SUMMARY).exists() or not (path / LOCK).exists():
        return False
    try:
        with held(path / LOCK, seconds=0):
            return False
    except Timeout:
        return True
