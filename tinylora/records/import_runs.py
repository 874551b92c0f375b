"""Run folders into MLflow, through one writer: for runs whose jobs wrote nothing but their folders.

Idempotent, as the mirror is. Of a run that has not ended, the lines up to the saved state before its newest one are
taken: wherever it continues, these are not made again.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from tinylora.records.folder import CONFIG, LOCK, SUMMARY, MetricLine, RunFolder
from tinylora.settings.config import RunConfig
from tinylora.settings.errors import FailureError, TinyLoraError, UsageError
from tinylora.settings.recorded import from_plain

PREVIOUS = "state.previous.safetensors"  # see `checkpoint`, which imports torch
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


def saved_step(path: Path) -> int:
    """The step of a saved state; -1 where there is none. Reads the header alone."""
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        return int(header["__metadata__"]["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return -1


def run_folders(outputs: Path) -> Iterator[Path]:
    """The folders of all runs that have begun."""
    for path in sorted(outputs.glob(f"*/{CONFIG}")):
        yield path.parent


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
    with _one_at_a_time(outputs):
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


def read_config(path: Path, outputs: Path) -> RunConfig:
    """The config of a run folder, as one in `outputs`, wherever it was made."""
    try:
        written = yaml.load((path / CONFIG).read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        config = from_plain(written["config"])
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UsageError(f"{path / CONFIG} is damaged", "it says which run a folder holds", "restore it") from error
    config = replace(config, outputs_dir=str(outputs))
    if config.run_key != path.name:
        raise UsageError(f"its settings are those of {config.run_key}", "a folder has its run's key as name", "restore")
    return config


def _in_use(path: Path) -> bool:
    if (path / SUMMARY).exists() or not (path / LOCK).exists():
        return False
    with (path / LOCK).open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def _one_at_a_time(outputs: Path) -> Iterator[None]:
    try:
        descriptor = os.open(outputs / SYNC_LOCK, os.O_CREAT | os.O_RDWR, 0o666)
    except OSError as error:
        raise FailureError(
            f"{outputs}: {error.strerror}",
            "the SQLite store is written there",
            "give --outputs-dir of a folder that can be written to",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
