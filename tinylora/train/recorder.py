"""What a pack writes down: metrics after every step, states nearly as often, MLflow now and then, how each run ended.

The loop is given a recorder and does not know whether it writes. Of the ranks of a pack (`engine.ranks`) all do the
same work: the one that leads has a `FolderRecorder`, the others a `Recorder`, which is silent.

After every step the order is: the outcomes of evaluations, v there, and the metrics of all lanes, their states (where
saving costs little time), the fate of lanes that ended, the mirror. Metrics beyond the state from which a lane
continues are dropped, and written anew when the steps are made again, with the same result. So a kill costs at most the
steps since the last saved states.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import tinylora
from tinylora import answers
from tinylora.adapters.adapter_file import save_adapter
from tinylora.models.find import MINIATURES, resolve_folder, resolved_commit
from tinylora.models.gguf import made_from
from tinylora.models.load import parameter_count
from tinylora.records.folder import ADAPTER, RunFolder, Status, Unmirrored
from tinylora.records.kept import KeptFile
from tinylora.records.measured import WARNINGS
from tinylora.records.samples import SampleFile
from tinylora.records.source import git_state
from tinylora.train.evaluate import Evaluation
from tinylora.train.kept import kept_of
from tinylora.train.pack import LaneMetrics, LaneRun, Pack
from tinylora.train.state import drop_states_after, newest_step, save_state

if TYPE_CHECKING:
    from tinylora.records.later import LaterMirror
    from tinylora.records.mirror import Mirror

SAVING_SHARE = 0.05  # most of the time that may go into saving states: small ones are thus saved at every step


class Recorder:
    """Takes note of what happens to the lanes of one pack. This one, for ranks that follow, notes nothing."""

    def begin(self) -> None:
        """The lanes are loaded: say what the runs are made with, and that they go on."""

    def drop_after(self, steps: Mapping[int, int]) -> None:
        """Each lane, by its index, continues after this step: forget what was noted beyond it."""

    def step(self, metrics: LaneMetrics, evaluations: Mapping[int, Evaluation]) -> None:
        """The metrics of some lanes at the steps where they now stand, and what was found where they were evaluated."""

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

    def __init__(self, pack: Pack, folders: Sequence[RunFolder], mirror: Mirror | LaterMirror | Unmirrored) -> None:
        self.pack, self.folders, self.mirror = pack, folders, mirror
        self.samples = [SampleFile(folder.path, folder.config.fsync) for folder in folders]
        self.kept = [KeptFile(folder.path, folder.config.fsync) for folder in folders]
        self._all_saved, self._saved_at, self._saving_seconds = False, -math.inf, 0.0

    def begin(self) -> None:
        """Write config.yaml and remove summary.json. UsageError where model, basis, data or prompts have changed."""
        for lane, folder in zip(self.pack.lanes, self.folders, strict=True):
            folder.describe(provenance(self.pack, lane))
            folder.reopen()

    def drop_after(self, steps: Mapping[int, int]) -> None:
        """Drop the lines of metrics and items, the samples, the kept v and the states after these steps."""
        for index, step in steps.items():
            self._drop_records_after(index, step)
            drop_states_after(self.folders[index].path, step)

    def _drop_records_after(self, index: int, step: int) -> None:
        self.folders[index].drop_after(step)
        lines = self.folders[index].lines()
        self.samples[index].resume(lines)
        self.kept[index].resume(lines)

    def step(self, metrics: LaneMetrics, evaluations: Mapping[int, Evaluation]) -> None:
        """Add to the records of each lane, its metrics last; save states unless that took too much time lately."""
        lanes = [self.pack.lanes[index] for index in metrics]
        now = time.perf_counter()
        self._all_saved = (
            any(lane.done for lane in lanes) or (now - self._saved_at) * SAVING_SHARE >= self._saving_seconds
        )
        for lane in lanes:
            folder, evaluation = self.folders[lane.index], evaluations.get(lane.index)
            durable, edge = self._all_saved or evaluation is not None, lane.step == 0 or lane.done
            shown = evaluation.samples if evaluation else ()
            counted = self.samples[lane.index].append(lane.samples, shown, edge, durable)
            if evaluation is not None:
                folder.append_items(evaluation.items)
                if (kept := kept_of(lane)) is not None:
                    self.kept[lane.index].append(kept)
            folder.append(lane.step, metrics[lane.index] | counted, durable)
        if self._all_saved:
            for lane in lanes:
                save_state(self.folders[lane.index].path, lane)
            self._saved_at = time.perf_counter()
            self._saving_seconds = self._saved_at - now

    def conclude(self, lane: LaneRun, status: Status, reason: str | None = None) -> None:
        """Write summary.json, and adapter.safetensors of a finished run."""
        folder, trained = self.folders[lane.index], self.pack.engine.adapters.lane(lane.index)
        if status is Status.finished:
            origin = {"model_digest": self.pack.model_digest, "tokenizer_digest": self.pack.tokenizer_digest}
            if self.pack.basis is not None:
                origin["basis_digest"] = self.pack.basis.digest
            save_adapter(folder.path / ADAPTER, self.pack.engine.adapters, lane.index, origin, lane.config.fsync)
        extra: dict[str, Any] = {"trained_values": trained.trained_values, "trained_bytes": trained.trained_bytes}
        if lane.watch.alerts:
            extra[WARNINGS] = [str(alert) for alert in lane.watch.alerts]
        folder.conclude(status, reason, extra)

    def save(self) -> None:
        """Save the state of every lane whose newest saved state is older than its step."""
        for lane in self.pack.lanes:
            folder = self.folders[lane.index].path
            if lane.failure is None and newest_step(folder) < lane.step:
                save_state(folder, lane)

    def cut_short(self, reason: str) -> None:
        """Say so of every run that has not ended, and mirror it."""
        for lane in self.pack.lanes:
            folder = self.folders[lane.index]
            if folder.status() is Status.running:
                self._drop_records_after(lane.index, newest_step(folder.path))
                self.conclude(lane, Status.cut_short, reason)
        self.mirror.push(self.folders, final=True)

    def push(self) -> None:
        """Mirror the folders, where their lines are not beyond the saved states: those could be dropped again."""
        if self._all_saved:
            self.mirror.push(self.folders)


def provenance(pack: Pack, lane: LaneRun) -> dict[str, Any]:
    """Plain values that say what exactly a lane's run is made with, beside its identity, and how much it trains."""
    engine, adapter = pack.engine, pack.engine.adapters.lane(lane.index)
    commit = resolved_commit(lane.config.model)
    shipped = lane.config.model.path is None and (MINIATURES / lane.config.model.name).exists()
    return {
        "trained_values": adapter.trained_values,
        "trained_bytes": adapter.trained_bytes,
        "trained_bits": adapter.trained_bits,
        "degrees_of_freedom": adapter.degrees_of_freedom,
        "modules": len(engine.adapters.names),
        "groups": len(getattr(adapter, "groups", engine.adapters.names)),
        "lr_setting": lane.config.lr,
        "projection_seed_setting": lane.config.projection_seed,
        "model.parameters": parameter_count(engine.model),
        "layout": f"{'shared rows' if engine.layout.trees else 'rows of their own'}; {engine.layout.reading.words}",
        "model_digest": pack.model_digest,
        "tokenizer_digest": pack.tokenizer_digest,
        "form_digest": pack.form.digest,
        **({} if commit is None else {"model_commit": commit}),
        **made_from(resolve_folder(lane.config.model)),
        **({} if pack.basis is None else {"basis_digest": pack.basis.digest}),
        "data_digest": pack.task.data_digest,
        "prompt_digest": pack.task.prompt_digest,
        "checker_version": answers.VERSION,
        "data_commits": dict(pack.task.data_commits),
        "data_notes": list(pack.task.notes),
        "scale_model": shipped,
        **git_state(),
        **_versions(),
    }


@cache
def _versions() -> dict[str, Any]:
    numbers = {"tinylora": tinylora.__version__, "python": platform.python_version()}
    numbers |= {name: version(name) for name in ("torch", "transformers")}
    return {f"version.{name}": number for name, number in numbers.items()}
