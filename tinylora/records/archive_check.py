"""Whether a run in an archive is whole, before it becomes a run folder; the same is asked of what goes into one."""

from __future__ import annotations

from pathlib import Path

from tinylora.records.checks import parse_lines, parse_summary, wrong_end
from tinylora.records.digests import contradictions
from tinylora.records.folder import CONFIG, METRICS, SUMMARY, Status, read_config, read_yaml
from tinylora.records.import_runs import UNREADABLE
from tinylora.settings.errors import UsageError


def check_run(folder: Path, outputs: Path) -> None:
    """Raise UsageError, or another of UNREADABLE, where a run folder is not the whole record of a run that ended."""
    config = read_config(folder, outputs)
    _provenance(folder)
    content = (folder / METRICS).read_bytes() if (folder / METRICS).exists() else b""
    try:
        lines = parse_lines(content)
    except ValueError as error:
        raise _damaged(folder / METRICS, error) from error
    try:
        summary = parse_summary((folder / SUMMARY).read_bytes())
        if not Status(summary["status"]).final:
            raise ValueError(f"its status is {summary['status']!r}")
        if wrong := wrong_end(summary, lines, config.training_steps):
            raise ValueError(wrong)
    except ValueError as error:
        raise _damaged(folder / SUMMARY, error) from error


def check_same(new: Path, old: Path) -> None:
    """Raise UsageError where the run folder `old` is not the run `new`: other settings, another model, other data."""
    try:
        here, there = (read_yaml(folder / CONFIG) for folder in (old, new))
        if here["scientific"] != there["scientific"]:
            raise _other(old, f"{old} is there and is not run {new.name}")
        if differing := contradictions(_provenance(old), _provenance(new)):
            raise _other(old, f"{old} is there and was made with other files: {differing[0]}")
    except UsageError:
        raise
    except UNREADABLE as error:
        raise _other(old, f"{old} is there and is not run {new.name}: it cannot be read") from error


def _provenance(folder: Path) -> dict[str, object]:
    provenance = read_yaml(folder / CONFIG)["provenance"]
    if not isinstance(provenance, dict):
        raise UsageError(f"{folder / CONFIG} is damaged", "it says what a run was made with", "restore it")
    return provenance


def _damaged(path: Path, error: ValueError) -> UsageError:
    return UsageError(
        f"{path} is damaged: {error}",
        "a run that has ended has the lines of all its steps, and a summary that agrees with them",
        "restore the file, or remove the folder",
    )


def _other(old: Path, given: str) -> UsageError:
    return UsageError(
        given,
        "no run is overwritten by another",
        f"unpack into another folder, or move {old.name} away; nothing was unpacked",
    )
