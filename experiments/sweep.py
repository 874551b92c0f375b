"""A sweep in this process: its points are checked, formed into packs and trained, one pack after another.

PyTorch takes seconds to import, so what needs it is imported when something is on the screen.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.display import open_progress, print_summary, time_left
from experiments.planning.packing import form_packs
from tinylora.engine.ranks import rank_of_process, ranks_of_process
from tinylora.records.folder import RunFolder, Unmirrored
from tinylora.records.progress import labels
from tinylora.records.stopping import Stopped, StopRequest
from tinylora.settings.config import RunConfig
from tinylora.settings.errors import FailureError

if TYPE_CHECKING:
    from tinylora.records.folder import RunRecord
    from tinylora.records.mirror import Mirror


def run_sweep(
    points: Sequence[RunConfig], stop: StopRequest | None = None, mirror: Mirror | Unmirrored | None = None
) -> list[RunRecord]:
    """Train all points that have not ended and print their summary; returns the record of each, in their order.

    `mirror` stands in for the points' own MLflow store. Raises UsageError or FailureError before anything is started
    where a point cannot run; Stopped after `stop` was asked for, with all states saved.
    """
    check(points, in_jobs=isinstance(mirror, Unmirrored))
    names = dict(zip([point.run_key for point in points], labels(points), strict=True))
    records = run_packs(in_order(points), names, mirror, stop)
    if rank_of_process() == 0:
        print_summary([(names[point.run_key], records[point.run_key]) for point in points])
    return [records[point.run_key] for point in points]


def check(points: Sequence[RunConfig], in_jobs: bool = False) -> None:
    """Find out what can be known before training. Raises UsageError or FailureError for a point that cannot run.

    Points `in_jobs`, and those that write run folders alone, have no MLflow store to be looked at.
    """
    with open_progress() as progress:
        progress.phase(f"checking {_count(len(points), 'run')}")
        from tinylora.train import preflight

        preflight.check(points, in_jobs)


def in_order(points: Sequence[RunConfig]) -> list[list[RunConfig]]:
    """The packs of some points, each where the sweep first names one of its points."""
    place = {point.run_key: number for number, point in enumerate(points)}
    return sorted(form_packs(points), key=lambda pack: place[pack[0].run_key])


def run_packs(
    packs: Sequence[Sequence[RunConfig]],
    names: dict[str, str],
    mirror: Mirror | Unmirrored | None = None,
    stop: StopRequest | None = None,
) -> dict[str, RunRecord]:
    """Train pack after pack; returns the record of each point by run key. `names` are the points' labels, by run key.

    After each of several packs a line says how the runs stand. Raises Stopped as soon as a pack was stopped, or the
    next one would have something to train after `stop` was asked for.
    """
    from tinylora.train.loop import run_pack

    stop, ranks, standing = stop or StopRequest(), ranks_of_process(), Standing(packs)
    records: dict[str, RunRecord] = {}
    for number, pack in enumerate(packs, start=1):
        which = f"pack {number} of {len(packs)}"
        reason = ranks.any(stop.reason)
        if reason is not None and unfinished(pack):
            raise Stopped(reason)
        try:
            with open_progress(f"{which}, {_count(len(pack), 'run')}" if len(packs) > 1 else "") as progress:
                found = run_pack(pack, [names[point.run_key] for point in pack], progress, mirror, stop)
            records |= {record.config.run_key: record for record in found}
        finally:
            if ranks.leads and len(packs) > 1:
                print(f"{which}: {standing.describe()}", file=sys.stderr, flush=True)
    return records


class Standing:
    """How the runs of a sweep stand, and how long they still take at the pace since this was made."""

    def __init__(self, packs: Sequence[Sequence[RunConfig]]) -> None:
        self.points = [point for pack in packs for point in pack]
        self.began, self.steps = time.monotonic(), self._steps_left()

    def describe(self) -> str:
        """For a line: "60 finished, 228 waiting, about 35 min left"."""
        statuses = [RunFolder(point).status() for point in self.points]
        counts = Counter("waiting" if status is None else status.value for status in statuses)
        said, left = ", ".join(f"{count} {name}" for name, count in counts.items()), self._steps_left()
        done = self.steps - left
        return said + time_left((time.monotonic() - self.began) * left / done if done else None)

    def _steps_left(self) -> int:
        """Optimizer steps that are still to be trained, of all runs together."""
        left = 0
        for point in unfinished(self.points):
            lines = RunFolder(point).lines()
            left += point.training_steps - (lines[-1].step if lines else 0)
        return left


def unfinished(points: Sequence[RunConfig]) -> list[RunConfig]:
    """The points whose runs have neither finished nor failed."""
    statuses = [(point, RunFolder(point).status()) for point in points]
    return [point for point, status in statuses if status is None or not status.final]


def incomplete(records: Sequence[RunRecord]) -> FailureError | None:
    """What to say of the runs that did not finish; None where all did."""
    finished = {record.config.run_key: record.status.value == "finished" for record in records}
    if all(finished.values()):
        return None
    return FailureError(
        f"{len(finished) - sum(finished.values())} of {_count(len(finished), 'run')} did not finish",
        "a sweep is complete when every run has finished; the table gives the reasons",
        "a run that was cut short goes on with the same command; one that failed would fail again: change its "
        "settings (often a smaller lr), or remove its folder",
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
