"""Whether the measurements of a run are whole: metrics.jsonl line by line, and the summary against these lines.

What is read here may be damaged, or made by someone else: nothing is believed, and what is wrong is said in a line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from tinylora.records.folder import MetricLine, Status

LINE = {"step", "time", "metrics"}


def parse_lines(content: bytes) -> list[MetricLine]:
    """The lines of a metrics.jsonl that is whole: steps 0 to n in order. ValueError says what is wrong with which."""
    if content and not content.endswith(b"\n"):
        raise ValueError("its last line is cut")
    lines = []
    for number, text in enumerate(content.split(b"\n")[:-1], start=1):
        plain = parse_json(text, f"line {number}")
        if not isinstance(plain, dict) or set(plain) != LINE:
            raise ValueError(f"line {number} has other fields than {', '.join(sorted(LINE))}")
        lines.append(MetricLine(**plain))
    if wrong := wrong_lines(lines):
        raise ValueError(wrong)
    return lines


def wrong_lines(lines: Sequence[MetricLine]) -> str | None:
    """What is wrong with lines: they have the steps 0 to n in order, a time, and metrics that are numbers or NaN."""
    for place, line in enumerate(lines):
        if not (isinstance(line.step, int) and not isinstance(line.step, bool) and line.step == place):
            return f"line {place + 1} is of step {str(line.step)[:40]}, where step {place} belongs"
        if not (_is_number(line.time) and math.isfinite(line.time) and line.time >= 0):
            return f"line {place + 1} has no time"
        if wrong := _wrong_metrics(line.metrics):
            return f"line {place + 1}: {wrong}"
    return None


def _wrong_metrics(metrics: Any) -> str | None:
    if not isinstance(metrics, dict):
        return "its metrics are no names with numbers"
    for name, value in metrics.items():
        if not (isinstance(name, str) and name and name.isprintable()):
            return f"{name!r:.40} is no name of a metric"
        if not _is_number(value) or math.isinf(value):
            return f"{name[:80]} is {str(value)[:40]}, which is no number"
    return None


def _is_number(value: Any) -> bool:
    """Whether it is a number that a float can hold."""
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**1023)


def parse_json(content: bytes | str, what: str) -> Any:
    """A JSON value. ValueError where it is none, also where it is nested deeper than any record."""
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError(f"{what} is nested too deep") from error
    except ValueError as error:
        raise ValueError(f"{what} is no JSON: {str(error)[:100]}") from error


def parse_summary(content: bytes) -> dict[str, Any]:
    """A summary.json. ValueError where it does not say how a run ended."""
    summary = parse_json(content, "it")
    if not isinstance(summary, dict):
        raise ValueError("it is no object")
    if summary.get("status") not in [status.value for status in Status]:
        raise ValueError(f"its status is {str(summary.get('status'))[:40]!r}")
    if not isinstance(summary.get("reason"), str | None):
        raise ValueError("its reason is no text")
    for name in ("base", "last"):
        if wrong := _wrong_metrics(summary.get(name)):
            raise ValueError(f"{name}: {wrong}")
    return summary


def wrong_end(summary: dict[str, Any], lines: Sequence[MetricLine], training_steps: int) -> str | None:
    """Where a summary and the lines do not agree: last step, first and last metrics, the end of a finished run."""
    last = lines[-1].step if lines else 0
    if summary.get("step", last) != last:
        return f"it ends at step {str(summary['step'])[:40]}, and the lines at step {last}"
    if summary["status"] == Status.finished.value and not (lines and last == training_steps):
        said = f"{len(lines)} lines" if lines else "no line"
        return f"it is finished, which takes steps 0 to {training_steps}, and has {said}"
    for name, place in (("base", 0), ("last", -1)) if lines else ():
        for metric, value in lines[place].metrics.items():
            if metric not in summary[name] or not _same(summary[name][metric], value):
                return f"{name} and the lines differ in {metric[:80]}"
    return None


def _same(one: float, other: float) -> bool:
    return one == other or (one != one and other != other)
