"""The sweep of `make demo`, packed, v its eight points one after the other, each a command of its own.

All are whole processes from the command line, so that start-up, evaluation and records count. From the records of the
packed one: the time to the first step, and what recording costs a step.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from itertools import pairwise, product
from pathlib import Path
from statistics import median
from typing import Any

SIZES, PRECISIONS = (1, 13, 120, 1000), ("fp32", "bf16")
QUICK = ("steps=3", "eval.test_items=16", "eval.validation_items=16")
HEADING = ("demo sweep, whole processes", "seconds")


def measure(quick: bool = False) -> dict[str, Any]:
    """Seconds of the packed sweep and of each of its points alone."""
    extra = QUICK if quick else ()
    with tempfile.TemporaryDirectory() as folder:
        started = time.time()
        sizes, precisions = ",".join(map(str, SIZES)), ",".join(PRECISIONS)
        packed = _run(Path(folder), "-m", f"u={sizes}", f"precision={precisions}", *extra)
        first_step, recording = _from_records(Path(folder), started)
    with tempfile.TemporaryDirectory() as folder:
        points = [(u, precision) for u, precision in product(SIZES, PRECISIONS)]
        alone = [_run(Path(folder), f"u={u}", f"precision={precision}", *extra) for u, precision in points]
    return {
        "packed_s": packed,
        "alone_s": dict(zip([f"u={u} {precision}" for u, precision in points], alone, strict=True)),
        "to_first_step_s": first_step,
        "recording_per_step_s": recording,
    }


def rows(result: dict[str, Any]) -> list[list[str]]:
    """Lines of the table with HEADING."""
    alone, packed = sum(result["alone_s"].values()), result["packed_s"]
    return [
        ["8 points in one pack", f"{packed:.0f}"],
        ["8 points, 8 commands", f"{alone:.0f} ({alone / packed:.1f} times the pack)"],
        ["from the command to the end of the first step", f"{result['to_first_step_s']:.1f}"],
        ["records of a step, all 8 lanes", f"{result['recording_per_step_s']:.3f}"],
    ]


def _run(outputs: Path, *arguments: str) -> float:
    """Seconds of one command."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "experiments.run", *arguments, f"outputs_dir={outputs}"]
    subprocess.run(command, capture_output=True, check=True)
    return time.perf_counter() - started


def _from_records(outputs: Path, started: float) -> tuple[float, float]:
    """Seconds from the start to the end of step 1, and the median of what a step takes beyond its own `time/step_s`."""
    files = sorted(outputs.glob("*/metrics.jsonl"))
    runs = [[json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] for file in files]
    last_lane = max(runs, key=lambda lines: lines[1]["time"])  # lanes are recorded one after the other
    steps = pairwise(last_lane[1:-1])  # the last step ends with an evaluation
    beyond = [now["time"] - before["time"] - now["metrics"]["time/step_s"] for before, now in steps]
    return last_lane[1]["time"] - started, median(beyond)
