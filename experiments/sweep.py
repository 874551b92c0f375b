"""A sweep in this process: its points are checked, formed into packs and trained, one pack after another.

PyTorch takes seconds to import, so what needs it is imported when something is on the screen.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.display import counted, open_progress, print_summary, time_left
from experiments.planning.capacity import Place, require_memory
from experiments.planning.packing import packs_of_sweep, unfinished
from tinylora.engine.ranks import rank_of_process, ranks_of_process
from tinylora.records.damage import status_of
from tinylora.records.folder import RunFolder, RunRecord, Unmirrored
from tinylora.records.progress import labels
from tinylora.records.stopping import Stopped, StopRequest
from tinylora.settings.config import RunConfig
from tinylora.settings.errors import FailureError

if TYPE_CHECKING:
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
    begun = time.monotonic()
    records = run_packs(in_order(points), names, mirror, stop)
    if rank_of_process() == 0:
        print_summary([(names[point.run_key], records[point.run_key]) for point in points], time.monotonic() - begun)
    return [records[point.run_key] for point in points]


def check(points: Sequence[RunConfig], in_jobs: bool = False, place: Place | None = None) -> None:
    """Find out what can be known before training. Raises UsageError or FailureError for a point that cannot run.

    Points `in_jobs`, and those that write run folders alone, have no MLflow store to be looked at. `place` is where
    they would run; None: here.
    """
    with open_progress() as progress:
        progress.phase(f"checking {counted(len(points), 'run')}")
        require_memory(unfinished(points), place)
        from tinylora.train import preflight

        notes = preflight.check(points, in_jobs)
    if rank_of_process() == 0:
        for note in notes:
            print(note, file=sys.stderr)


def in_order(points: Sequence[RunConfig]) -> list[list[RunConfig]]:
    """The packs of some points, each where the sweep first names one of its points."""
    place = {point.run_key: number for number, point in enumerate(points)}
    return sorted(packs_of_sweep(points), key=lambda pack: place[pack[0].run_key])


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

    stop, ranks, points = stop or StopRequest(), ranks_of_process(), [point for pack in packs for point in pack]
    began, steps = time.monotonic(), _steps_left(points)
    records: dict[str, RunRecord] = {}
    for number, pack in enumerate(packs, start=1):
        which = f"pack {number} of {len(packs)}"
        reason = ranks.any(stop.reason)
        if reason is not None and unfinished(pack):
            raise Stopped(reason)
        try:
            with open_progress(f"{which}, {counted(len(pack), 'run')}" if len(packs) > 1 else "") as progress:
                found = run_pack(pack, [names[point.run_key] for point in pack], progress, mirror, stop)
            records |= {record.config.run_key: record for record in found}
        finally:
            if ranks.leads and len(packs) > 1:
                print(f"{which}: {_standing(points, began, steps)}", file=sys.stderr, flush=True)
    return records


def _standing(points: Sequence[RunConfig], began: float, steps: int) -> str:
    """For a line: "60 finished, 228 waiting, about 35 min left", at the pace since `began`, when `steps` were left."""
    statuses = [status_of(RunFolder(point)) for point in points]
    counts = Counter("waiting" if status is None else status.value for status in statuses)
    said, left = ", ".join(f"{count} {name}" for name, count in counts.items()), _steps_left(points)
    return said + time_left((time.monotonic() - began) * left / (steps - left) if left < steps else None)


def _steps_left(points: Sequence[RunConfig]) -> int:
    left = 0
    for point in unfinished(points):
        lines = RunFolder(point).lines()
        left += point.training_steps - (lines[-1].step if lines else 0)
    return left


def require_finished(records: Sequence[RunRecord]) -> None:
    """Raise FailureError where some of the runs did not finish."""
    finished = {record.config.run_key: record.status.value == "finished" for record in records}
    if not all(finished.values()):
        raise FailureError(
            f"{len(finished) - sum(finished.values())} of {counted(len(finished), 'run')} did not finish",
            "a sweep is complete when every run has finished; the table gives the reasons",
            "a run that was cut short goes on with the same command; one that failed would fail again: change its "
            "settings (often a smaller lr), or remove its folder; a damaged one needs its file restored, or its folder "
            "removed",
        )
