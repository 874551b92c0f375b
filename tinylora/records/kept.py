"""v at every evaluation of a run: v.jsonl, from which the adapter of each of these steps is made again.

    {"step": 0, "precision": "fp32", "shape": [1, 13], "v": "AAAA...", "scale": null, "digest": "0123456789abcdef"}

`v` is base64 of the stored values in little-endian order (of whole numbers int8, with their `scale`), the tensor of a
`Lane` whatever the adapter; `digest` is over the other fields. With the run's settings that is all an adapter is made
of. Small adapters alone are kept: at most `LARGEST` bytes at an evaluation and `MOST` in a run, both before base64.
Full fine-tuning and larger LoRAs would write megabytes at every evaluation, which a record that is copied into MLflow
and into archives has no room for; of these the last v is in adapter.safetensors.

A line is written before the metrics of its step, and dropped with them. Where there is the file, each evaluation has
its line, or the run is damaged. A run without it is whole: earlier versions wrote none, and it may be removed. It is
then not begun anew.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from tinylora.records.items import EVALUATED
from tinylora.records.measured import MetricLine
from tinylora.records.reading import parse_lines
from tinylora.settings.choices import Precision
from tinylora.settings.config import RunConfig
from tinylora.settings.files import write_atomically

KEPT = "v.jsonl"
LARGEST = 2**14  # bytes of one v: 4,096 values in fp32
MOST = 2**22  # bytes of all v of a run
FIELDS = ("step", "precision", "shape", "v", "scale", "digest")


@dataclass(frozen=True)
class KeptV:
    """The stored v of a run at one step."""

    step: int
    precision: Precision
    shape: tuple[int, ...]
    v: bytes
    scale: float | None
    """Of whole numbers."""

    @property
    def digest(self) -> str:
        """16 hex digits over all of it."""
        return hashlib.sha256(json.dumps(self._plain()).encode()).hexdigest()[:16]

    def text(self) -> str:
        """The line of v.jsonl."""
        return json.dumps(self._plain() | {"digest": self.digest}) + "\n"

    def _plain(self) -> dict[str, Any]:
        values = base64.b64encode(self.v).decode()
        plain = {"step": self.step, "precision": self.precision.value, "shape": list(self.shape)}
        return plain | {"v": values, "scale": self.scale}


class KeptFile:
    """Adds to the v.jsonl of one run."""

    def __init__(self, folder: Path, fsync: bool) -> None:
        self.path, self.fsync = folder / KEPT, fsync
        self._given_up = False

    def resume(self, lines: Sequence[MetricLine]) -> None:
        """Drop what is of later steps than these lines, which are made again. A file that was removed stays away."""
        self._given_up = not self.path.exists() and any(map(is_evaluated, lines))
        if self.path.exists():
            last, content = lines[-1].step if lines else -1, self.path.read_bytes()
            kept = "".join(each.text() for each in takewhile(lambda each: each.step <= last, parse_kept(content)[0]))
            if kept.encode() != content:
                write_atomically(self.path, kept.encode(), self.fsync)

    def append(self, kept: KeptV) -> None:
        """Add a line, on the disk when this returns (unless fsync is off)."""
        if self._given_up:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(kept.text())
            if self.fsync:
                file.flush()
                os.fsync(file.fileno())


def is_small(config: RunConfig, values: int) -> bool:
    """Whether so many trained values of a run are kept at its evaluations."""
    size, every, steps = values * width_of(config.precision), config.eval.every, config.training_steps
    evaluations = 2 + (steps // every if every > 0 else 0)
    return 0 < size <= LARGEST and size * evaluations <= MOST


def width_of(precision: Precision) -> int:
    """Bytes of a stored value in the file."""
    return 1 if precision.whole else precision.size


def is_evaluated(line: MetricLine) -> bool:
    """Whether an evaluation was made at a step."""
    return any(map(EVALUATED.fullmatch, line.metrics))


def read_kept(folder: Path) -> list[KeptV]:
    """What is kept of a run, up to the first line that is not whole; nothing where there is no file."""
    path = folder / KEPT
    return parse_kept(path.read_bytes())[0] if path.exists() else []


def parse_kept(content: bytes) -> tuple[list[KeptV], str | None]:
    """The lines of a v.jsonl up to the first that is not whole, and what is wrong there."""
    return parse_lines(content, _parse_line)


def _parse_line(plain: Any) -> KeptV:
    """A line. ValueError says what is wrong with it."""
    if not isinstance(plain, dict) or plain.keys() != set(FIELDS):
        raise ValueError(f"it has other fields than {', '.join(FIELDS)}")
    step, shape, scale = plain["step"], plain["shape"], plain["scale"]
    if type(step) is not int or step < 0:
        raise ValueError(f"its step is {str(step)[:40]!r}")
    if not isinstance(shape, list) or any(type(size) is not int or not 0 < size <= LARGEST for size in shape):
        raise ValueError(f"its shape is {str(shape)[:40]}")
    if not isinstance(plain["precision"], str) or not isinstance(plain["v"], str):
        raise ValueError("its precision or its values are no text")
    precision = Precision(plain["precision"])
    if not isinstance(scale, float if precision.whole else type(None)):
        raise ValueError(f"its scale is {str(scale)[:40]}")
    found = KeptV(step, precision, tuple(shape), base64.b64decode(plain["v"], validate=True), scale)
    if len(found.v) != math.prod(shape) * width_of(precision):
        raise ValueError(f"it has {len(found.v)} bytes for a v of shape {shape}")
    if found.digest != plain["digest"]:
        raise ValueError("its digest is not that of its values")
    return found


def lines_with_kept(folder: Path, lines: Sequence[MetricLine]) -> tuple[int, str | None]:
    """How many of the metric lines of a run folder, from the first on, have the v of their evaluation; what is wrong.

    All have where there is no file. None is wrong where there are as many as there should be.
    """
    if not (folder / KEPT).exists():
        return len(lines), None
    kept, wrong = parse_kept((folder / KEPT).read_bytes())
    found = iter(kept)
    for place, line in enumerate(lines):
        if not is_evaluated(line):
            continue
        if (each := next(found, None)) is None:
            return place, wrong or f"its lines end before step {line.step}"
        if each.step != line.step:
            return place, f"it has v of step {each.step} where step {line.step} belongs"
    if wrong is None and (more := next(found, None)) is not None:
        wrong = f"it has v of step {more.step}, which was not evaluated"
    return len(lines), wrong
