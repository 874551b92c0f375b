"""What a pack writes down: after every step metrics and states, at the end how each run ended, now and then MLflow.

The loop is given a recorder and does not know whether it writes. Of the ranks of a pack (`engine.ranks`) all do the
same work: the one that leads has a `FolderRecorder`, the others a `Recorder`, which is silent.

After every step the order is: the metrics of all lanes, their states, the fate of lanes that ended, the mirror. Metrics
beyond a lane's newest saved state are dropped when it continues, and written anew: the steps are made again, with the
same result. So a kill at any moment costs at most the steps since the last saved states.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tinylora.adapters.adapter_file import save_adapter
from tinylora.records.folder import ADAPTER, RunFolder, Status, Unmirrored
from tinylora.train.pack import LaneMetrics, LaneRun, Metrics, Pack
from tinylora.train.provenance import provenance
from tinylora.train.state import load_states, save_state

if TYPE_CHECKING:
    from tinylora.records.mirror import Mirror

SAVING_SHARE = 0.05  # of the time at most is spent on saving states: those of a few values are saved at every step


class Recorder:
    """Takes note of what happens to the lanes of one pack. This one, for ranks that follow, notes nothing."""

    def begin(self) -> None:
        """The lanes are loaded: say what the runs are made with, and that they go on."""

    def drop_after(self, steps: Mapping[int, int]) -> None:
        """Each lane, by its index, continues after this step: forget what was noted beyond it."""

    def step(self, metrics: LaneMetrics) -> None:
        """The metrics of some lanes at the steps where they now stand."""

    def conclude(self, lane: LaneRun, status: Status, reason: str | None = None) -> None:
        """The run of a lane has ended."""

    def save(self) -> None:
        """Save the state of every lane that has moved on since it was saved last."""

    def cut_short(self, reason: str) -> None:
        """Training stops here; the runs that have not ended can be continued from their last saved states."""

    def push(self) -> None:
        """Bring the mirror up to date, unless that was done a moment ago."""


class FolderRecorder(Recorder):
    """Writes run folders (`folders`, one for each lane of the pack), and mirrors them."""

    def __init__(self, pack: Pack, folders: Sequence[RunFolder], mirror: Mirror | Unmirrored) -> None:
        self.pack, self.folders, self.mirror = pack, folders, mirror
        self._all_saved, self._saved_at, self._saving_seconds = False, -math.inf, 0.0

    def begin(self) -> None:
        """Write config.yaml; UsageError where it was begun with another model, basis or data."""
        for lane, folder in zip(self.pack.lanes, self.folders, strict=True):
            folder.describe(provenance(self.pack, lane))
            folder.reopen()

    def drop_after(self, steps: Mapping[int, int]) -> None:
        """Cut metrics.jsonl of every lane behind its step."""
        for index, step in steps.items():
            self.folders[index].drop_after(step)

    def step(self, metrics: LaneMetrics) -> None:
        """Add a line to metrics.jsonl of each lane; save states unless that took too much of the time lately."""
        lanes = [self.pack.lanes[index] for index in metrics]
        for lane in lanes:
            self.folders[lane.index].append(lane.step, metrics[lane.index])
        now = time.perf_counter()
        self._all_saved = (
            any(lane.done for lane in lanes) or (now - self._saved_at) * SAVING_SHARE >= self._saving_seconds
        )
        if self._all_saved:
            for lane in lanes:
                save_state(self.folders[lane.index].path, lane)
            self._saved_at = time.perf_counter()
            self._saving_seconds = self._saved_at - now

    def conclude(self, lane: LaneRun, status: Status, reason: str | None = None) -> None:
        """Write summary.json, and adapter.safetensors of a finished run."""
        folder, trained = self.folders[lane.index], self.pack.engine.adapters.lane(lane.index)
        if status is Status.finished:
            origin = {"model_digest": self.pack.model_digest}
            if self.pack.basis is not None:
                origin["basis_digest"] = self.pack.basis.digest
            save_adapter(folder.path / ADAPTER, self.pack.engine.adapters, lane.index, origin)
        counts: Metrics = {"trained_values": trained.trained_values, "trained_bytes": trained.trained_bytes}
        folder.conclude(status, reason, counts)

    def save(self) -> None:
        """Save the state of every lane that has none of its step."""
        for lane in self.pack.lanes:
            folder = self.folders[lane.index].path
            if lane.failure is None and max(load_states(folder), default=-1) < lane.step:
                save_state(folder, lane)

    def cut_short(self, reason: str) -> None:
        """Say so of every run that has not ended, and mirror it."""
        for lane in self.pack.lanes:
            folder = self.folders[lane.index]
            if folder.status() is Status.running:
                folder.drop_after(max(load_states(folder.path), default=-1))
                self.conclude(lane, Status.cut_short, reason)
        self.mirror.push(self.folders, final=True)

    def push(self) -> None:
        """Mirror the folders, where their lines are not beyond the saved states: those could be dropped again."""
        if self._all_saved:
            self.mirror.push(self.folders)
