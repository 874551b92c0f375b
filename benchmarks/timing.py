"""Timing side by side: alternating calls, so that a machine that gets slower does so for all; medians and spread."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch

PACKAGES = ("torch", "transformers", "trl", "peft", "mlflow")


@dataclass(frozen=True)
class Timing:
    """Seconds of repeated calls."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle call."""
        return median(self.seconds)

    def __str__(self) -> str:
        """Median and quartiles: `0.65 (0.62-0.70)`."""
        low, _, high = quantiles(self.seconds, n=4) if len(self.seconds) > 1 else [self.median] * 3
        return f"{self.median:.3g} ({low:.3g}-{high:.3g})"

    def as_json(self) -> dict[str, Any]:
        """Median and all calls."""
        return {"median_s": self.median, "calls_s": list(self.seconds)}


def timed(call: Callable[[], object]) -> float:
    """Seconds of one call; work that it left on an accelerator is waited for."""
    started = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def alternate(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """All calls in turn, `rounds` times, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            taken = timed(call)
            if number:
                seconds[name].append(taken)
    return {name: Timing(tuple(taken)) for name, taken in seconds.items()}


def peak_memory() -> int:
    """Bytes of this process' memory at its largest so far. Not by getrusage: that counts what its parent had, too."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def machine() -> dict[str, Any]:
    """Where and with what the numbers were made."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no accelerator"
    return {
        "date": date.today().isoformat(),
        "processor": f"{platform.machine()}, {torch.get_num_threads()} threads, {device}",
        "python": platform.python_version(),
        "versions": versions,
    }


def markdown(heading: tuple[str, ...], rows: list[list[str]]) -> str:
    """A table; the first column is text, the others are numbers."""
    lines = [heading, ["---", *["---:"] * (len(heading) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
