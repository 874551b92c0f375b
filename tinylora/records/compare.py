"""Whether a run that was made again is what it was: line by line, bit for bit.

Times are left out, and metrics that one record alone has, as a compact archive keeps few. A line is the same where all
metrics that both have are, to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinylora.records.folder import CONFIG, read_yaml
from tinylora.records.measured import MetricLine, lines_of
from tinylora.records.reading import UNREADABLE, why_unreadable
from tinylora.settings.errors import UsageError

TIMES = "time/"


@dataclass(frozen=True)
class Compared:
    """One run in two records."""

    run_key: str
    lines: int
    """Lines that both have: one for each step from 0 on."""
    same: int
    """Of these, how many from the first on are the same."""
    difference: str | None
    """The first difference; None where there is none."""


def compare(one: Path, other: Path) -> list[Compared]:
    """The runs that two outputs_dirs have in common. Raises UsageError where one is damaged."""
    keys = sorted(path.parent.name for path in one.glob(f"*/{CONFIG}") if (other / path.parent.name / CONFIG).exists())
    try:
        return [_compared(one / key, other / key) for key in keys]
    except UNREADABLE as error:
        rule, remedy = "the settings and metrics of both are read", "restore the file, or move that run away"
        raise UsageError(why_unreadable(error), rule, remedy) from error


def _compared(one: Path, other: Path) -> Compared:
    made_with = [read_yaml(folder / CONFIG)["provenance"] for folder in (one, other)]
    lines = list(zip(lines_of(one), lines_of(other), strict=False))
    found = next(_differences(lines), None)
    if found is None:
        return Compared(one.name, len(lines), len(lines), None)
    step, difference = found
    differing = [name for name in made_with[0] if made_with[0][name] != made_with[1].get(name)]
    known = f" (made with another {', '.join(sorted(differing))})" if differing else ""
    return Compared(one.name, len(lines), step, f"step {step}: {difference}{known}")


def _differences(lines: Sequence[tuple[MetricLine, MetricLine]]) -> Iterator[tuple[int, str]]:
    """Step and first metric of each line that differs."""
    for one, other in lines:
        common = [name for name in one.metrics if name in other.metrics and not name.startswith(TIMES)]
        for name in common:
            values = one.metrics[name], other.metrics[name]
            if repr(values[0]) != repr(values[1]):  # NaN is NaN
                yield one.step, f"{name} is {values[0]!r} and {values[1]!r}"
                break
