"""Train a pack of lanes from wherever each stands to its end, recording every step.

After every step, in this order: the metrics lines of all lanes, the states of all lanes, the fate of lanes that ended,
and now and then the mirror in MLflow. A kill between any two of them loses nothing that is not made again the same.
Where states are so large that saving them takes long (full fine-tuning), they are saved less often.
Of the ranks of a pack (`ranks`) all do the same, and one writes.
"""

from __future__ import annotations

import errno
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tinylora.engine.ranks import Ranks, ranks_of_process, require_work
from tinylora.records.folder import RunFolder, RunRecord, Status, Unmirrored
from tinylora.records.progress import LaneProgress, Progress, Silent
from tinylora.records.stopping import Stopped, StopRequest
from tinylora.settings.config import Algorithm, RunConfig
from tinylora.settings.errors import FailureError
from tinylora.train.checkpoint import ADAPTER, common_states, load_states, restore, save_adapter, save_state
from tinylora.train.evaluate import evaluate
from tinylora.train.grpo import grpo_step
from tinylora.train.pack import LaneRun, Metrics, Pack, load_pack, open_lane
from tinylora.train.provenance import provenance
from tinylora.train.sft import sft_step

if TYPE_CHECKING:
    from tinylora.records.mirror import Mirror

BASIS_CACHE = "basis"  # folder below outputs_dir
SAVING_SHARE = 0.05  # of the time at most is spent on saving states: those of a few values are saved at every step


def run_pack(
    configs: Sequence[RunConfig],
    labels: Sequence[str],
    progress: Progress,
    mirror: Mirror | Unmirrored | None = None,
    stop: StopRequest | None = None,
) -> list[RunRecord]:
    """Run the points of one pack; those that have ended before are skipped. Returns their records, in order.

    `mirror` stands in for the points' own MLflow store. Raises FailureError where a folder is in use, damaged or cannot
    be written, UsageError where it holds another run, Stopped after `stop` was asked for.
    """
    ranks = ranks_of_process()
    require_work(configs, ranks.count)
    folders = [RunFolder(config) for config in configs]
    with ranks.noting_errors(), ExitStack() as held, clear_disk_errors():
        ended = ranks.first(lambda: _take(folders, held))
        mirror = (mirror or _store_of(configs[0])) if ranks.leads else Unmirrored()
        progress = progress if ranks.leads else Silent()
        open_folders = [folder for folder in folders if folder.config.run_key not in ended]
        if open_folders:
            open_labels = [label for label, folder in zip(labels, folders, strict=True) if folder in open_folders]
            run = PackRun if ranks.leads else FollowingRun
            run(open_folders, open_labels, mirror, progress, stop or StopRequest(), ranks).run()

        def write() -> list[RunRecord]:
            if not isinstance(mirror, Unmirrored):
                progress.phase("writing records to MLflow")
            mirror.push(folders, final=True)
            return [folder.record(skipped=folder.config.run_key in ended) for folder in folders]

        return ranks.first(write)


def _take(folders: Sequence[RunFolder], held: ExitStack) -> set[str]:
    """Lock the folders; returns the keys of the runs that have ended."""
    for folder in folders:
        held.enter_context(folder.locked())
    return {folder.config.run_key for folder in folders if (status := folder.status()) and status.final}


def _store_of(config: RunConfig) -> Mirror:
    from tinylora.records.mirror import Mirror  # MLflow is not everywhere, nor needed for run folders

    return Mirror(config)


@contextmanager
def clear_disk_errors() -> Iterator[None]:
    """Turn the errors of a full or read-only disk into a FailureError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO):
            raise
        raise FailureError(
            f"writing {error.filename or 'a record'}: {error.strerror}",
            "every step is recorded before the next one starts; what was finished before is safe",
            "make room (or give another outputs_dir); the same command then continues from the last saved step",
        ) from error


class PackRun:
    """The lanes of one pack with their folders."""

    def __init__(
        self,
        folders: Sequence[RunFolder],
        labels: Sequence[str],
        mirror: Mirror | Unmirrored,
        progress: Progress,
        stop: StopRequest,
        ranks: Ranks,
    ) -> None:
        configs = [folder.config for folder in folders]
        self.folders, self.mirror, self.progress, self.stop, self.ranks = folders, mirror, progress, stop, ranks
        self.pack: Pack = load_pack(configs, Path(configs[0].outputs_dir) / BASIS_CACHE, progress, ranks)
        self.lanes = [
            open_lane(self.pack, index, config, label)
            for index, (config, label) in enumerate(zip(configs, labels, strict=True))
        ]
        self.last: list[Metrics] = [{} for _ in self.lanes]
        self.step_seconds: list[float] = []
        self.saved, self.saved_at, self.saving_seconds = False, -math.inf, 0.0
        progress.phase("trained values: " + ", ".join(map(self._describe_count, self.lanes)))
        self._begin()

    def _begin(self) -> None:
        for lane, folder in zip(self.lanes, self.folders, strict=True):
            folder.describe(provenance(self.pack, lane))
            folder.reopen()

    def _describe_count(self, lane: LaneRun) -> str:
        trained = self.pack.adapter.lane(lane.index)
        return f"{trained.trained_values} ({trained.trained_bytes} bytes) in {lane.label}"

    def run(self) -> None:
        """Train to the end; on Ctrl-C, SIGTERM or an error the lanes are recorded as cut short and can be continued."""
        self._resume()
        try:
            self._evaluate_untrained()
            while active := self._active():
                self._stop_if_asked()
                self._step(active)
            for lane in self.lanes:
                if lane.failure is None:
                    self._conclude(lane, Status.finished)
        except KeyboardInterrupt:
            self._cut_short("interrupted")
            raise
        except Stopped as stopped:
            with suppress(FailureError):  # a store that does not answer can wait; a scheduler does not
                self._cut_short(str(stopped))
            raise
        except Exception as error:
            with suppress(OSError, FailureError):  # on a full disk, say: the error itself matters more
                self._cut_short(f"{type(error).__name__}: {error}")
            raise

    def _stop_if_asked(self) -> None:
        reason = self.ranks.any(self.stop.reason)
        if reason is not None:
            self._save_unsaved()
            raise Stopped(reason)

    def _save_unsaved(self) -> None:
        for lane in self.lanes:
            if lane.failure is None and max(load_states(self.folders[lane.index].path), default=-1) < lane.step:
                save_state(self.folders[lane.index].path, lane)

    def _cut_short(self, reason: str) -> None:
        """Record that the lanes which had not ended stop here, at the last step whose state is saved."""
        for lane in self.lanes:
            folder = self.folders[lane.index]
            if folder.status() is Status.running:
                folder.drop_after(max(load_states(folder.path), default=-1))
                self._conclude(lane, Status.cut_short, reason)
        self.mirror.push(self.folders, final=True)

    def _resume(self) -> None:
        """Put every lane where its states say, and drop the records of what will be done again."""
        states = common_states([load_states(folder.path) for folder in self.folders])
        for lane, state in zip(self.lanes, states, strict=True):
            if state is not None:
                restore(lane, state)
                self.pack.adapter.round()
        self._drop_after([-1 if state is None else state.step for state in states])

    def _drop_after(self, steps: Sequence[int]) -> None:
        for folder, step in zip(self.folders, steps, strict=True):
            folder.drop_after(step)

    def _active(self) -> list[LaneRun]:
        return [lane for lane in self.lanes if lane.failure is None and not lane.done]

    def _evaluate_untrained(self) -> None:
        """Step 0. All lanes still are the base model and the evaluation's noise is common: one measurement is all's."""
        fresh = [self.lanes[index] for index in self.ranks.first(self._without_lines)]
        if fresh:
            base = evaluate(self.pack, [fresh[0].index], self.progress)[0]
            self._record(fresh, [base] * len(fresh))

    def _without_lines(self) -> list[int]:
        return [lane.index for lane in self.lanes if not self.folders[lane.index].lines()]

    def _step(self, active: list[LaneRun]) -> None:
        """One optimizer step of all active lanes, with evaluation where it is due, recorded."""
        self.progress.phase(f"training {len(active)} lanes")
        started = time.perf_counter()
        train = grpo_step if self.pack.config.algorithm.name is Algorithm.grpo else sft_step
        metrics = train(self.pack, active)
        going = [lane for lane in active if lane.failure is None]
        for lane in going:
            lane.step += 1
        due = [lane for lane in going if self._evaluation_due(lane)]
        found = evaluate(self.pack, [lane.index for lane in due], self.progress) if due else []
        for lane, values in zip(due, found, strict=True):
            metrics[active.index(lane)] |= values
        self._record(going, [metrics[active.index(lane)] for lane in going])
        for lane in active:
            if lane.failure is not None:
                self._conclude(lane, Status.failed, lane.failure)
        if self.saved:  # lines beyond the saved states are made again where the run is continued
            self.mirror.push(self.folders)
        self.step_seconds.append(time.perf_counter() - started)
        self._show()

    def _evaluation_due(self, lane: LaneRun) -> bool:
        every = lane.config.eval.every
        return lane.done or (every > 0 and lane.step % every == 0)

    def _record(self, lanes: Sequence[LaneRun], metrics: Sequence[Metrics]) -> None:
        for lane, values in zip(lanes, metrics, strict=True):
            self.folders[lane.index].append(lane.step, values)
            self.last[lane.index] = values
        now = time.perf_counter()
        if any(lane.done for lane in lanes) or (now - self.saved_at) * SAVING_SHARE >= self.saving_seconds:
            for lane in lanes:
                save_state(self.folders[lane.index].path, lane)
            self.saved_at = time.perf_counter()
            self.saving_seconds = self.saved_at - now
            self.saved = True
        else:
            self.saved = False

    def _conclude(self, lane: LaneRun, status: Status, reason: str | None = None) -> None:
        folder, adapter = self.folders[lane.index], self.pack.adapter
        trained = adapter.lane(lane.index)
        if status is Status.finished:
            origin = {"model_digest": self.pack.model_digest}
            if self.pack.basis is not None:
                origin["basis_digest"] = self.pack.basis.digest
            save_adapter(folder.path / ADAPTER, adapter, lane.index, origin)
        counts = {"trained_values": trained.trained_values, "trained_bytes": trained.trained_bytes}
        folder.conclude(status, reason, counts)

    def _show(self) -> None:
        recent = sorted(self.step_seconds[-20:])
        steps_left = max((lane.config.training_steps - lane.step for lane in self._active()), default=0)
        shown = []
        for lane in self.lanes:
            state = "failed" if lane.failure else "finished" if lane.done else "training"
            last = self.last[lane.index]
            reward, tokens = last.get("train/reward"), last.get("train/completion_tokens")
            shown.append(LaneProgress(lane.label, lane.step, lane.config.training_steps, reward, tokens, state))
        self.progress.lanes(shown, recent[len(recent) // 2] * steps_left)


class FollowingRun(PackRun):
    """The same in a rank that does not lead: nothing is written. It reads states, before any are written anew."""

    def _begin(self) -> None:
        pass

    def _save_unsaved(self) -> None:
        pass

    def _cut_short(self, reason: str) -> None:
        pass

    def _drop_after(self, steps: Sequence[int]) -> None:
        pass

    def _record(self, lanes: Sequence[LaneRun], metrics: Sequence[Metrics]) -> None:
        pass

    def _conclude(self, lane: LaneRun, status: Status, reason: str | None = None) -> None:
        pass
