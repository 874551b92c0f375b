"""Finding run folders and reading their files, which may be damaged, cut by a kill, or of an earlier version."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from tinylora.settings.config import RunConfig
from tinylora.settings.errors import FailureError, TinyLoraError, UsageError, first_line
from tinylora.settings.recorded import from_plain
from tinylora.settings.tensor_files import read_metadata

CONFIG, METRICS, SUMMARY = "config.yaml", "metrics.jsonl", "summary.json"
STATE, PREVIOUS, ADAPTER = "state.safetensors", "state.previous.safetensors", "adapter.safetensors"
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, yaml.YAMLError, TinyLoraError)
"""What reading a damaged file can raise: UnicodeDecodeError and JSON's errors are ValueErrors."""
NESTED = 100  # levels: more than in any file that we write
METRIC_NAME = re.compile(r"[/\w.\- :]{1,250}")
LATEST = 1e11  # seconds since the epoch: the year 5138
LARGEST = 2**63

Metrics = dict[str, float]


class DamagedError(FailureError):
    """A file of a run folder is not what was written."""


@dataclass(frozen=True)
class MetricLine:
    """The metrics of one step, and when they were recorded (seconds since the epoch)."""

    step: int
    time: float
    metrics: Metrics


def line_of(step: int, time: float, metrics: Metrics) -> str:
    """A line of metrics.jsonl."""
    return json.dumps(asdict(MetricLine(step, time, metrics))) + "\n"


def lines_of(folder: Path) -> list[MetricLine]:
    """The lines of the steps 0, 1, 2, ... of a run, up to the first that is missing, damaged or cut by a kill."""
    path = folder / METRICS
    if not path.is_file():
        return []
    content = path.read_bytes()
    lines = []
    for step, text in zip(count(), content[: content.rfind(b"\n") + 1].split(b"\n")[:-1], strict=False):
        try:
            line = MetricLine(**json.loads(text))
        except (ValueError, TypeError, RecursionError):
            break
        if line.step != step or not _is_time(line.time) or not _are_metrics(line.metrics):
            break
        lines.append(line)
    return lines


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value < LATEST


def _are_metrics(metrics: object) -> bool:
    """Whether MLflow takes them, too: numbers of its size (also NaN and infinities) under names of its letters."""
    return isinstance(metrics, dict) and all(
        METRIC_NAME.fullmatch(name) and (isinstance(value, float) or (isinstance(value, int) and abs(value) < LARGEST))
        for name, value in metrics.items()
    )


def saved_step(path: Path) -> int:
    """The step of a saved state; -1 where there is none. Reads the header alone."""
    try:
        return int(read_metadata(path)["step"])
    except UNREADABLE:
        return -1


def run_folders(outputs: Path) -> Iterator[Path]:
    """The folders of all runs that have begun."""
    for path in sorted(outputs.glob(f"*/{CONFIG}")):
        yield path.parent


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises DamagedError."""
    try:
        return json.loads(path.read_bytes())
    except UNREADABLE as error:
        raise _damaged(path, error) from error


def read_yaml(path: Path) -> Any:
    """The content of a YAML file, by the faster loader where it is installed. Raises DamagedError."""
    try:
        content = path.read_bytes()
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        if _is_unusual(content):
            _require_flat(content, loader)
        return yaml.load(content, loader)
    except UNREADABLE as error:
        raise _damaged(path, error) from error


def _is_unusual(content: bytes) -> bool:
    """Whether YAML may be nested deeply or repeat parts of itself; to ask the parser takes as long as reading it."""
    if b"&" in content or content.count(b"[") + content.count(b"{") > NESTED:
        return True
    lines = (line for line in content.splitlines() if len(line) > NESTED)
    return any(len(line) - len(line.lstrip()) + line.count(b"- ") + line.count(b"? ") > NESTED for line in lines)


def _require_flat(content: bytes, loader: Any) -> None:
    """Raise ValueError for what would end the process (the loader overflows its stack) or never end."""
    depth = 0
    for event in yaml.parse(content, loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > NESTED or isinstance(event, yaml.AliasEvent):
            raise ValueError("it is nested too deeply, or repeats parts of itself")


def _damaged(path: Path, error: Exception) -> DamagedError:
    return DamagedError(
        f"{path} is damaged: {first_line(error)}",
        "a run folder is read as it was written",
        f"restore the file, or remove the folder {path.parent} to train that run anew",
    )


def read_config(path: Path, outputs: Path) -> RunConfig:
    """The config of a run folder, as one in `outputs`, wherever it was made. Raises DamagedError or UsageError."""
    try:
        config = from_plain(read_yaml(path / CONFIG)["config"])
    except (KeyError, TypeError, RecursionError) as error:
        raise _damaged(path / CONFIG, error) from error
    config = replace(config, outputs_dir=str(outputs))
    if config.run_key != path.name:
        raise UsageError(f"its settings are those of {config.run_key}", "a folder has its run's key as name", "restore")
    return config
