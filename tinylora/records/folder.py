"""The run folder, which is the record of a run: what was asked, what was measured, how it ended.

    config.yaml            settings, identity and provenance (digests, versions, commit)
    metrics.jsonl          one line per step with all its metrics, in order; step 0 is the untrained model
    state.safetensors      what is needed to continue (see `train.state`)
    adapter.safetensors    the stored v of a finished run
    summary.json           how it ended: status, reason, first and last metrics

MLflow is a mirror of these folders (see `mirror`): it can be lost and made again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from tinylora.settings.config import RunConfig, as_plain
from tinylora.settings.errors import FailureError, UsageError
from tinylora.settings.files import Timeout, held, write_atomically

CONFIG, METRICS, SUMMARY, LOCK = "config.yaml", "metrics.jsonl", "summary.json", ".lock"
STATE, PREVIOUS, ADAPTER = "state.safetensors", "state.previous.safetensors", "adapter.safetensors"
ABSENT = "(absent: its record does not say)"
BASIS_CACHE = "basis"  # folder below outputs_dir

Metrics = dict[str, float]


class Status(Enum):
    """How a run stands."""

    running = "running"
    finished = "finished"
    failed = "failed"
    cut_short = "cut short"

    @property
    def final(self) -> bool:
        """Whether the same command leaves the run as it is."""
        return self in (Status.finished, Status.failed)


@dataclass(frozen=True)
class MetricLine:
    """The metrics of one step, and when they were recorded (seconds since the epoch)."""

    step: int
    time: float
    metrics: Metrics


@dataclass(frozen=True)
class RunRecord:
    """What a sweep returns for a point."""

    config: RunConfig
    status: Status
    reason: str | None
    skipped: bool
    """Ended before, not trained now."""
    summary: Metrics
    """The last metrics by name, and those of the untrained model with `base/` in front."""


class RunFolder:
    """Reads and writes the folder of one run."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.path = config.folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder. A second process that wants it is refused; a process that was killed holds nothing."""
        self.path.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                stack.enter_context(held(self.path / LOCK, seconds=0))
            except Timeout:
                raise FailureError(
                    f"run folder {self.path}",
                    "one process at a time trains a run, and another one holds this folder now",
                    "wait for it to end (or stop it); the same command then continues or skips the run",
                ) from None
            yield

    def check(self) -> None:
        """Raise UsageError where the folder holds another run's settings."""
        written = self.described()
        if written is not None and written.get("scientific") != self._scientific():
            raise UsageError(
                f"run folder {self.path}",
                f"it was written by another config (run_key {written.get('run_key')}) than this run's "
                f"({self.config.run_key})",
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
            write_atomically(self.path / CONFIG, yaml.safe_dump(content, sort_keys=False).encode())
            return
        for name in ("model_digest", "basis_digest", "data_digest", "prompt_digest"):
            begun_with = written["provenance"].get(name)
            if begun_with != provenance.get(name):
                raise UsageError(
                    f"run folder {self.path}",
                    f"it was begun with {name} {begun_with or ABSENT}, and this is {provenance.get(name) or ABSENT}",
                    "restore the files it was begun with, give another outputs_dir, or remove the folder",
                )

    def described(self) -> dict[str, Any] | None:
        """The content of config.yaml, or None before the run has begun. Raises FailureError where it is damaged."""
        path = self.path / CONFIG
        if not path.exists():
            return None
        try:
            content = yaml.safe_load(path.read_text())
        except (yaml.YAMLError, UnicodeDecodeError):
            content = None
        if not isinstance(content, dict) or not isinstance(content.get("provenance"), dict):
            raise FailureError(
                f"{path} is damaged",
                "a run folder says which run it holds",
                f"restore the file, or remove the folder {self.path}",
            )
        return content

    def append(self, step: int, metrics: Metrics) -> None:
        """Add the line of one step."""
        with (self.path / METRICS).open("a") as file:
            file.write(_dump(MetricLine(step, round(time.time(), 3), metrics)))

    def lines(self) -> list[MetricLine]:
        """All whole lines; a last line that a kill has cut is left out."""
        return lines_of(self.path)

    def drop_after(self, step: int) -> None:
        """Keep the lines up to `step`: what comes after has no saved state and is done again."""
        path = self.path / METRICS
        kept = "".join(_dump(line) for line in self.lines() if line.step <= step)
        if path.exists() and path.read_text() != kept:
            write_atomically(path, kept.encode())

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
        write_atomically(self.path / SUMMARY, (json.dumps(summary, indent=1) + "\n").encode())

    def status(self) -> Status | None:
        """How the run stands; None before it has begun."""
        summary = self._summary()
        if summary is not None:
            return Status(summary["status"])
        return Status.running if (self.path / CONFIG).exists() else None

    def reason(self) -> str | None:
        """Why the run failed or was cut short."""
        summary = self._summary()
        return summary["reason"] if summary else None

    def reopen(self) -> None:
        """Forget how an unfinished run ended last time: it goes on."""
        (self.path / SUMMARY).unlink(missing_ok=True)

    def record(self, skipped: bool) -> RunRecord:
        """The run as a sweep returns it."""
        summary = self._summary()
        assert summary is not None, f"{self.path} has no summary yet"
        metrics = {f"base/{name}": value for name, value in summary["base"].items()} | summary["last"]
        metrics |= {name: summary[name] for name in ("trained_values", "trained_bytes") if name in summary}
        return RunRecord(self.config, Status(summary["status"]), summary["reason"], skipped, metrics)

    def _summary(self) -> dict[str, Any] | None:
        path = self.path / SUMMARY
        if not path.exists():
            return None
        try:
            content: dict[str, Any] = json.loads(path.read_text())
            Status(content["status"])
            return content
        except (ValueError, KeyError, TypeError) as error:
            raise FailureError(
                f"{path} is damaged",
                "summary.json says how a run ended",
                "remove the file: the same command then concludes the run again",
            ) from error

    def _scientific(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(json.dumps(self.config.scientific()))
        return content


class Unmirrored:
    """Stands in for the mirror where run folders are all that is written (see `sync`), which needs no MLflow."""

    def push(self, folders: Sequence[RunFolder], final: bool = False) -> None:
        """Write nothing."""


def _dump(line: MetricLine) -> str:
    return json.dumps(asdict(line)) + "\n"


def lines_of(folder: Path) -> list[MetricLine]:
    """The whole lines of a run folder's metrics.jsonl."""
    path = folder / METRICS
    if not path.exists():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1].splitlines()
    return [MetricLine(**json.loads(line)) for line in whole]


def require_writable(folder: Path) -> None:
    """Raise FailureError where `folder` cannot be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-test-{os.getpid()}"
        probe.write_bytes(b"tinylora")
        probe.unlink()
    except OSError as error:
        raise FailureError(
            f"outputs_dir={folder}: {error.strerror}",
            "all that a run writes goes there",
            "give a folder that can be written to and has room: outputs_dir=<folder>",
        ) from error
