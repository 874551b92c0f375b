"""The run folder, which is the record of a run: what was asked, what was measured, how it ended.

    config.yaml            settings, identity and provenance (digests, versions, commit)
    metrics.jsonl          one line per step with all its metrics, in order; step 0 is the untrained model
    items.jsonl            which problems were answered rightly, one line for each evaluation and suite (see `items`)
    samples.jsonl.gz, v.jsonl   some of what the model said (see `samples`), v at every evaluation (see `kept`)
    state.safetensors      what is needed to continue (see `train.state`)
    adapter.safetensors    the stored v of a finished run
    summary.json           how it ended: status, reason, warnings, first and last metrics

MLflow is a mirror of these folders (see `mirror`). `reading` finds and reads them, `damage` says which can be trusted.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from itertools import takewhile
from typing import Any

import yaml

from tinylora.records.digests import DIGESTS
from tinylora.records.items import ITEMS, ItemLine, parse_items
from tinylora.records.measured import (
    COUNTS,
    CUT_SHORT,
    FAILED,
    FINISHED,
    METRICS,
    SUMMARY,
    WARNINGS,
    MetricLine,
    Metrics,
    line_of,
    lines_of,
    parse_summary,
)
from tinylora.records.reading import (
    ADAPTER,
    CONFIG,
    PREVIOUS,
    STATE,
    DamagedError,
    read_config,
    read_yaml,
    run_folders,
    saved_step,
)
from tinylora.settings.config import RunConfig, as_plain
from tinylora.settings.errors import FailureError, UsageError, first_line
from tinylora.settings.files import held, write_atomically
from tinylora.settings.leftovers import LOCK

__all__ = [  # what others need of a run folder is imported from here
    "ADAPTER",
    "CONFIG",
    "ITEMS",
    "LOCK",
    "METRICS",
    "PREVIOUS",
    "STATE",
    "SUMMARY",
    "DamagedError",
    "MetricLine",
    "Metrics",
    "lines_of",
    "read_config",
    "read_yaml",
    "run_folders",
    "saved_step",
]
ABSENT = "(absent: its record does not say)"
LATER = ("tokenizer_digest", "form_digest")
"""The digests that records of earlier versions lack."""


class Status(Enum):
    """How a run stands."""

    running = "running"
    finished = FINISHED
    failed = FAILED
    cut_short = CUT_SHORT
    damaged = "damaged"
    """Its folder cannot be read any more (see `damage`): set aside, and never written down."""

    @property
    def final(self) -> bool:
        """Whether the same command leaves the run as it is."""
        return self in (Status.finished, Status.failed)


@dataclass(frozen=True)
class RunRecord:
    """What a sweep returns for a point."""

    config: RunConfig
    status: Status
    reason: str | None
    skipped: bool  # ended before, not trained now
    summary: Metrics  # the last metrics by name, and those of the untrained model with `base/` in front
    warnings: Sequence[str] = ()  # what was said of its training, each in three lines


class BusyError(FailureError):
    """Another process holds a run folder; or one on a node that was lost still seems to."""


class RunFolder:
    """Reads and writes the folder of one run."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.path = config.folder
        self._read: tuple[object, dict[str, Any]] | None = None  # of config.yaml: its time and size, its content

    def locked(self) -> AbstractContextManager[None]:
        """Hold the folder, else BusyError: one process at a time has it, and one that was killed has nothing."""
        self.path.mkdir(parents=True, exist_ok=True)
        busy = BusyError(
            f"run folder {self.path}",
            "one process at a time trains a run, and another one holds this folder now",
            "wait for it to end (or stop it); the same command then continues or skips the run",
        )
        return held(self.path / LOCK, seconds=0, busy=busy)

    def check(self) -> None:
        """Raise DamagedError where the folder holds another run's settings."""
        written = self.described()
        if written is not None and written.get("scientific") != self._scientific():
            raise DamagedError(
                f"{self.path / CONFIG}: it was written by run {written.get('run_key')} with other settings",
                f"this is the folder of run {self.config.run_key}",
                "give another outputs_dir, or remove the folder",
            )

    def describe(self, provenance: dict[str, Any]) -> None:
        """Write config.yaml, once. UsageError where model, basis, data or prompts are not those it began with."""
        written = self.described()
        if written is None:
            content = {
                "run_key": self.config.run_key,
                "scientific": self._scientific(),
                "config": as_plain(self.config),
                "provenance": provenance,
            }
            self._write(CONFIG, yaml.safe_dump(content, sort_keys=False))
            return
        self.require_same(written["provenance"], provenance, (*DIGESTS, "basis_digest"))

    def require_same(self, begun_with: Mapping[str, Any], now: Mapping[str, Any], names: Sequence[str]) -> None:
        """Raise UsageError, naming both, where one of these digests is not the one that is recorded."""
        for name in names:
            if begun_with.get(name) != now.get(name) and not (name in LATER and name not in begun_with):
                raise UsageError(
                    f"run folder {self.path}",
                    f"it was made with {name} {begun_with.get(name) or ABSENT}, and this is {now.get(name) or ABSENT}",
                    "restore the files it was made with, give another outputs_dir, or remove the folder",
                )

    def described(self) -> dict[str, Any] | None:
        """The content of config.yaml, or None before the run has begun. Raises DamagedError.

        A file that has not changed is not read again.
        """
        path = self.path / CONFIG
        if not path.exists():
            return None
        status = path.stat()
        signature = (status.st_mtime_ns, status.st_size, status.st_ino)
        if self._read is None or self._read[0] != signature:
            content = read_yaml(path)
            if not isinstance(content, dict) or not isinstance(content.get("provenance"), dict):
                raise DamagedError(
                    f"{path} is damaged: it has no settings and provenance",
                    "a run folder says which run it holds",
                    f"restore the file, or remove the folder {self.path}",
                )
            self._read = signature, content
        return self._read[1]

    def append(self, step: int, metrics: Metrics, durable: bool = False) -> None:
        """Add the line of one step; if `durable`, it is on the disk when this returns (unless fsync is off)."""
        self._append(METRICS, line_of(step, round(time.time(), 3), metrics), durable)

    def append_items(self, lines: Sequence[ItemLine]) -> None:
        """Add the outcomes of an evaluation, before the metrics of its step; on the disk when this returns."""
        self._append(ITEMS, "".join(line.text() for line in lines), durable=True)

    def lines(self) -> list[MetricLine]:
        """The lines of the steps 0, 1, 2, ..., up to the first that is missing, damaged or cut by a kill."""
        return lines_of(self.path)

    def drop_after(self, step: int) -> None:
        """Keep the lines up to `step`: what comes after has no saved state and is done again."""
        self._keep(METRICS, "".join(line_of(**vars(line)) for line in self.lines() if line.step <= step))
        if (items := self.path / ITEMS).exists():
            kept = takewhile(lambda line: line.step <= step, parse_items(items.read_bytes())[0])
            self._keep(ITEMS, "".join(line.text() for line in kept))

    def conclude(self, status: Status, reason: str | None, extra: dict[str, Any]) -> None:
        """Write summary.json."""
        lines = self.lines()
        summary = {
            "status": status.value,
            "reason": reason,
            "step": lines[-1].step if lines else 0,
            "training_seconds": sum(line.metrics.get("time/step_s", 0.0) for line in lines),
            **extra,
            "base": lines[0].metrics if lines else {},
            "last": lines[-1].metrics if lines else {},
        }
        self._write(SUMMARY, json.dumps(summary, indent=1) + "\n")

    def status(self) -> Status | None:
        """How the run stands; None before it has begun."""
        try:
            summary = self.summary()
        except DamagedError:
            return Status.damaged
        if summary is not None:
            return Status(summary["status"])
        return Status.running if (self.path / CONFIG).exists() else None

    def reason(self) -> str | None:
        """Why the run failed or was cut short."""
        return (self.summary() or {}).get("reason")

    def reopen(self) -> None:
        """Forget how an unfinished run ended last time: it goes on."""
        (self.path / SUMMARY).unlink(missing_ok=True)

    def record(self, skipped: bool) -> RunRecord:
        """The run as a sweep returns it."""
        summary = self.summary()
        assert summary is not None, f"{self.path} has no summary yet"
        metrics = {f"base/{name}": value for name, value in summary["base"].items()} | summary["last"]
        metrics |= {name: summary[name] for name in COUNTS if name in summary}
        status, said = Status(summary["status"]), summary.get(WARNINGS, ())
        return RunRecord(self.config, status, summary["reason"], skipped, metrics, said)

    def summary(self) -> dict[str, Any] | None:
        """The content of summary.json, or None where the run has not ended. Raises DamagedError."""
        path = self.path / SUMMARY
        if not path.exists():
            return None
        try:
            return parse_summary(path.read_bytes())
        except (OSError, ValueError) as error:
            raise DamagedError(
                f"{path} is damaged: {first_line(error)}",
                "summary.json says how a run ended",
                "remove the file: the same command then concludes the run again",
            ) from error

    def _append(self, name: str, text: str, durable: bool) -> None:
        with (self.path / name).open("a", encoding="utf-8") as file:
            file.write(text)
            if durable and self.config.fsync:
                file.flush()
                os.fsync(file.fileno())

    def _keep(self, name: str, kept: str) -> None:
        path = self.path / name
        if path.exists() and path.read_bytes() != kept.encode():
            self._write(name, kept)

    def _write(self, name: str, content: str) -> None:
        write_atomically(self.path / name, content.encode(), self.config.fsync)

    def _scientific(self) -> Any:
        return json.loads(json.dumps(self.config.scientific()))


class Unmirrored:
    """Stands in for the mirror where run folders are all that is written (see `sync`), which needs no MLflow."""

    def push(self, folders: Sequence[RunFolder], final: bool = False) -> None:
        """Write nothing."""
