"""What a run measured: metrics.jsonl line by line, and the summary of how it ended.

Both may be damaged, or made by someone else: nothing is believed, and what is wrong is said in a line.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tinylora.settings.given_files import json_of

METRICS, SUMMARY = "metrics.jsonl", "summary.json"
FINISHED, FAILED, CUT_SHORT = "finished", "failed", "cut short"
"""How a run ends."""
COUNTS = ("trained_values", "trained_bytes")
"""What a summary counts beside its metrics ."""
WARNINGS = "warnings"
"""In a summary: what was said of the training, where anything was."""
METRIC_NAME = re.compile(r"[/\w.\- :]{1,250}")  # MLflow's own rule
LATEST = 1e11  # seconds since the epoch: the year 5138
LARGEST = 2**63

Metrics = dict[str, float]


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
    return read_lines(folder)[0]


def read_lines(folder: Path) -> tuple[list[MetricLine], str | None]:
    """The lines of a run as `lines_of` gives them, and what is wrong behind them; None where they are all there are."""
    path = folder / METRICS
    return parse_lines(path.read_bytes()) if path.exists() else ([], None)


def parse_lines(content: bytes) -> tuple[list[MetricLine], str | None]:
    """The lines of a metrics.jsonl up to the first that is not whole, and what is wrong there."""
    *texts, rest = content.split(b"\n")
    lines: list[MetricLine] = []
    for step, text in enumerate(texts):
        try:
            lines.append(_parse_line(text, step))
        except ValueError as error:
            return lines, f"line {step + 1}: {error}"
    return lines, "its last line is cut" if rest else None


def _parse_line(text: bytes, step: int) -> MetricLine:
    """The line of a step. ValueError says what is wrong with it."""
    plain = json_of(text)
    if not isinstance(plain, dict) or plain.keys() != {"step", "time", "metrics"}:
        raise ValueError("it has other fields than step, time and metrics")
    line = MetricLine(**plain)
    if type(line.step) is not int or line.step != step:
        raise ValueError(f"it is of step {str(line.step)[:40]}, where step {step} belongs")
    if not (_is_number(line.time) and 0 <= line.time < LATEST):
        raise ValueError("it has no time")
    require_metrics(line.metrics)
    return line


def require_metrics(metrics: Any) -> None:
    """Raise ValueError for what is no mapping of names to numbers (or NaN), as MLflow takes them."""
    if not isinstance(metrics, dict):
        raise ValueError("its metrics are no names with numbers")
    for name, value in metrics.items():
        if not METRIC_NAME.fullmatch(name):
            raise ValueError(f"{name!r:.40} is no name of a metric")
        if not _is_number(value) or math.isinf(value):
            raise ValueError(f"{name[:80]} is {str(value)[:40]}, which is no number")


def _is_number(value: Any) -> bool:
    """Whether it is a number that a float can hold."""
    return isinstance(value, float) or (type(value) is int and abs(value) < LARGEST)


def parse_summary(content: bytes) -> dict[str, Any]:
    """A summary.json. ValueError where it does not say how a run ended."""
    summary = json_of(content)
    if not isinstance(summary, dict):
        raise ValueError("it is no object")
    if summary.get("status") not in (FINISHED, FAILED, CUT_SHORT):
        raise ValueError(f"its status is {str(summary.get('status'))[:40]!r}")
    if "reason" not in summary or not isinstance(summary["reason"], str | None):
        raise ValueError("its reason is no text")
    if type(summary.get("step")) is not int:
        raise ValueError("its step is no whole number")
    for name in ("base", "last"):
        try:
            require_metrics(summary.get(name))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    for name in COUNTS:
        if not isinstance(summary.get(name), int | None):
            raise ValueError(f"its {name} is no whole number")
    warnings = summary.get(WARNINGS, [])
    if not (isinstance(warnings, list) and all(isinstance(warning, str) for warning in warnings)):
        raise ValueError("its warnings are no list of texts")
    return summary


def wrong_end(summary: dict[str, Any], lines: Sequence[MetricLine], training_steps: int) -> str | None:
    """Where a summary and the lines do not agree: last step, first and last metrics, the end of a finished run."""
    last = lines[-1].step if lines else 0
    if summary["step"] != last:
        return f"it ends at step {summary['step']}, and the lines at step {last}"
    if summary["status"] == FINISHED and not (lines and last == training_steps):
        said = f"{len(lines)} lines" if lines else "no line"
        return f"it is finished, which takes steps 0 to {training_steps}, and has {said}"
    for name, place in (("base", 0), ("last", -1)) if lines else ():
        for metric, value in lines[place].metrics.items():
            if metric not in summary[name] or not _same(summary[name][metric], value):
                return f"{name} and the lines differ in {metric[:80]}"
    return None


def _same(one: float, other: float) -> bool:
    return one == other or (one != one and other != other)
