"""Which problems a run has answered rightly: items.jsonl, a line for each evaluation of each suite, in order.

    {"step": 0, "suite": "test", "items": 1024, "samples": 4, "ids": "<16 hex>", "greedy_strict": "<base64>", ...}

Accuracies are means over problems, and two runs that were asked the same problems (`ids`) can be compared problem by
problem. Bits are packed, the first in the highest place, 1 for a right answer: one for each problem where greedy, and
where sampled one for each sample, those of a problem together. A line is written before the metrics of its step, so
what metrics say of an evaluation is here, too; the two must agree.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinylora.records.measured import MetricLine, Metrics
from tinylora.records.reading import UNREADABLE, DamagedError, parse_lines, why_unreadable
from tinylora.settings.errors import UsageError

ITEMS = "items.jsonl"
FIRST_RECIPE = 3
"""Runs of earlier recipes have no such file."""
Bits = npt.NDArray[np.bool_]
GREEDY, SAMPLED = ("greedy_strict", "greedy_flexible"), ("sampled_strict", "sampled_flexible")
FIELDS = ("step", "suite", "items", "samples", "ids", *GREEDY, *SAMPLED)
EVALUATED = re.compile(r"eval/([^/]+)/sampled_strict")
IDS = re.compile(r"[0-9a-f]{16}")
MOST = 2**31  # completions of a line


@dataclass(frozen=True, eq=False)
class ItemLine:
    """What was right in one evaluation of one suite."""

    step: int
    suite: str
    ids: str
    """16 hex digits over the ids of the problems, in order."""
    greedy_strict: Bits  # (items,)
    greedy_flexible: Bits  # (items,)
    sampled_strict: Bits  # (items, samples)
    sampled_flexible: Bits  # (items, samples)

    def text(self) -> str:
        """The line of items.jsonl."""
        items, samples = self.sampled_strict.shape
        plain = {"step": self.step, "suite": self.suite, "items": items, "samples": samples, "ids": self.ids}
        packed = {
            name: base64.b64encode(np.packbits(getattr(self, name)).tobytes()).decode() for name in (*GREEDY, *SAMPLED)
        }
        return json.dumps(plain | packed) + "\n"


def ids_of(problems: Iterable[str]) -> str:
    """16 hex digits over ids of problems in order."""
    return hashlib.sha256("\n".join(problems).encode()).hexdigest()[:16]


def read_items(path: Path) -> list[ItemLine]:
    """The lines of an items.jsonl. UsageError where there is none, DamagedError where it is not as it was written."""
    if not path.exists():
        raise UsageError(
            f"{path}: no such file",
            f"the outcome of each problem is recorded from recipe {FIRST_RECIPE} on",
            "use the accuracies in the run's metrics, or train the run anew",
        )
    try:
        lines, wrong = parse_items(path.read_bytes())
    except UNREADABLE as error:
        lines, wrong = [], why_unreadable(error)
    if wrong is not None:
        raise DamagedError(f"{path} is damaged: {wrong}", "it is read as it was written", "restore the file")
    return lines


def parse_items(content: bytes) -> tuple[list[ItemLine], str | None]:
    """The lines of an items.jsonl up to the first that is not whole, and what is wrong there."""
    return parse_lines(content, _parse_line)


def _parse_line(plain: Any) -> ItemLine:
    """A line. ValueError says what is wrong with it."""
    if not isinstance(plain, dict) or plain.keys() != set(FIELDS):
        raise ValueError(f"it has other fields than {', '.join(FIELDS)}")
    step, suite, items, samples, ids = (plain[name] for name in FIELDS[:5])
    if type(step) is not int or step < 0:
        raise ValueError(f"its step is {str(step)[:40]!r}")
    if not isinstance(suite, str) or not isinstance(ids, str) or not IDS.fullmatch(ids):
        raise ValueError("it names no suite, or its ids are not 16 hex digits")
    if type(items) is not int or type(samples) is not int or min(items, samples) < 1 or items * samples > MOST:
        raise ValueError(f"it is of {str(items)[:40]} items with {str(samples)[:40]} samples")
    greedy = [_bits(plain[name], items) for name in GREEDY]
    sampled = [_bits(plain[name], items * samples).reshape(items, samples) for name in SAMPLED]
    return ItemLine(step, suite, ids, *greedy, *sampled)


def _bits(text: Any, count: int) -> Bits:
    if not isinstance(text, str):
        raise ValueError("its bits are no text")
    packed = np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8)
    bits = np.unpackbits(packed)
    if len(packed) != -(-count // 8) or bits[count:].any():
        raise ValueError(f"it has other bits than those of {count} completions")
    return bits[:count].astype(np.bool_)


def lines_with_items(folder: Path, lines: Sequence[MetricLine], recipe: int) -> tuple[int, str | None]:
    """How many of the metric lines of a run folder, from the first on, have all their outcomes; and what is wrong.

    Runs of recipes before FIRST_RECIPE have none and need none. None is wrong where there are as many as there should
    be; where there are more, all lines have theirs, and what is wrong says so.
    """
    path = folder / ITEMS
    if not path.exists() and recipe < FIRST_RECIPE:
        return len(lines), None
    items, wrong = parse_items(path.read_bytes()) if path.exists() else ([], "it is missing")
    found = iter(items)
    for place, line in enumerate(lines):
        for suite in _suites(line.metrics):
            item = next(found, None)
            if item is None:
                return place, wrong or f"its lines end before {suite} of step {line.step}"
            if (differs := _difference(item, line, suite)) is not None:
                return place, differs
    if path.exists() and next(found, None) is not None:
        wrong = wrong or "it has lines of more evaluations than were made"
    return len(lines), wrong if items or path.exists() else None


def _suites(metrics: Metrics) -> Iterator[str]:
    """The suites of an evaluation, in order."""
    return (match[1] for name in metrics if (match := EVALUATED.fullmatch(name)))


def _difference(item: ItemLine, line: MetricLine, suite: str) -> str | None:
    """Where the outcomes of a suite and the metrics of its evaluation do not agree."""
    if (item.step, item.suite) != (line.step, suite):
        return f"it has {item.suite[:80]} of step {item.step} where {suite} of step {line.step} belongs"
    for name in (*GREEDY, *SAMPLED):
        bits, said = getattr(item, name), line.metrics.get(f"eval/{suite}/{name}")
        if said != int(bits.sum()) / bits.size:
            return f"{int(bits.sum())} of {bits.size} are right by {name} of {suite}, step {line.step}: not {said}"
    return None
