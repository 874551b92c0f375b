"""Train a pack of lanes from wherever each stands to its end, recording every step.

The recorder (`recorder`) decides what is written, and when. All ranks of a pack (`engine.ranks`) train; the one that
leads records.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from tinylora.engine.ranks import Ranks, ranks_of_process, require_work
from tinylora.records.damage import require_whole
from tinylora.records.folder import DamagedError, RunFolder, RunRecord, Status, Unmirrored
from tinylora.records.later import LaterMirror
from tinylora.records.progress import LaneProgress, Progress, Silent
from tinylora.records.stopping import Stopped, StopRequest
from tinylora.settings.config import Algorithm, RunConfig
from tinylora.settings.errors import FailureError
from tinylora.train.evaluate import Evaluation, evaluate
from tinylora.train.found import FoundSuites
from tinylora.train.grpo import grpo_step
from tinylora.train.guards import Kind
from tinylora.train.inputs import require_noted_template
from tinylora.train.pack import LaneMetrics, LaneRun, Metrics, Pack, load_pack
from tinylora.train.random_search import random_search_step
from tinylora.train.recorder import FolderRecorder, Recorder
from tinylora.train.sft import sft_step
from tinylora.train.state import State, common_states, restore, set_aside_damaged, usable_states
from tinylora.train.untrained import evaluate_untrained

if TYPE_CHECKING:
    from tinylora.records.mirror import Mirror


STEPS = {
    Algorithm.grpo: grpo_step,
    Algorithm.sft: sft_step,
    Algorithm.random_search: random_search_step,
}
OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE}
OF_THE_DISK |= {errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG}
"""Errors of a full, broken or read-only disk, and of what lies in a file's place."""


def run_pack(
    configs: Sequence[RunConfig],
    labels: Sequence[str],
    progress: Progress,
    mirror: Mirror | Unmirrored | None = None,
    stop: StopRequest | None = None,
) -> list[RunRecord]:
    """Run the points of one pack; returns their records, in order.

    Those that have ended before are skipped, and those whose folder is damaged are set aside. `mirror` stands in for
    the points' own MLflow store. Raises FailureError where a folder is in use or cannot be written to, UsageError where
    its run was begun with other files, Stopped after `stop` was asked for.
    """
    ranks = ranks_of_process()
    require_work(configs, ranks.count)
    for config in configs:
        require_noted_template(config)  # of a job, which begins later than it was asked for
    folders = [RunFolder(config) for config in configs]
    with ranks.noting_errors(), ExitStack() as held, explained_disk_errors():
        ended, damaged = ranks.first(lambda: _take(folders, held, progress))
        if not ranks.leads:
            mirror, progress = Unmirrored(), Silent()
        writer = mirror or LaterMirror(configs[0])
        whole = [folder for folder in folders if folder.config.run_key not in damaged]
        going = [folder for folder in whole if folder.config.run_key not in ended]
        if going:
            names = [label for label, folder in zip(labels, folders, strict=True) if folder in going]
            _train(going, names, writer, progress, stop or StopRequest(), ranks)

        def write() -> list[RunRecord]:
            if not isinstance(writer, Unmirrored):
                progress.phase("writing records to MLflow")
            writer.push(whole, final=True)
            return [_record(folder, ended, damaged) for folder in folders]

        return ranks.first(write)


def _take(folders: Sequence[RunFolder], held: ExitStack, progress: Progress) -> tuple[set[str], dict[str, str]]:
    """Lock the folders; returns the keys of the runs that have ended, and why others are damaged, by run key."""
    ended: set[str] = set()
    damaged: dict[str, str] = {}
    for folder in folders:
        key = folder.config.run_key
        try:
            require_whole(folder)
            held.enter_context(folder.locked())
            require_whole(folder)  # nobody else changes it from here on
            for part in folder.path.glob("*.part"):  # of a process that was killed
                part.unlink()
            status = folder.status()
            if status is not None and status.final:
                ended.add(key)
            else:
                for news in set_aside_damaged(folder):
                    progress.phase(news)
        except DamagedError as error:
            damaged[key] = error.given
    return ended, damaged


def _record(folder: RunFolder, ended: set[str], damaged: Mapping[str, str]) -> RunRecord:
    """The record of a run after its pack was trained."""
    key = folder.config.run_key
    if key in damaged:
        return RunRecord(folder.config, Status.damaged, damaged[key], skipped=False, summary={})
    return folder.record(skipped=key in ended)


@contextmanager
def explained_disk_errors() -> Iterator[None]:
    """Turn the errors of a full or read-only disk into a FailureError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in OF_THE_DISK:
            raise
        raise FailureError(
            f"writing {error.filename or 'a record'}: {error.strerror}",
            "every step is recorded before the next one starts; what was finished before is safe",
            "make room, or move away what lies there, or give another outputs_dir; the same command then goes on from "
            "the last saved step",
        ) from error


def _train(
    folders: Sequence[RunFolder],
    labels: Sequence[str],
    mirror: Mirror | LaterMirror | Unmirrored,
    progress: Progress,
    stop: StopRequest,
    ranks: Ranks,
) -> None:
    configs = [folder.config for folder in folders]
    pack = load_pack(configs, labels, progress, ranks)
    recorder = FolderRecorder(pack, folders, mirror) if ranks.leads else Recorder()
    trained = [(lane.label, pack.engine.adapters.lane(lane.index)) for lane in pack.lanes]
    counts = [
        f"{v.trained_values} ({v.trained_bytes} bytes, degrees of freedom: {v.degrees_of_freedom}) in {label}"
        for label, v in trained
    ]
    progress.phase("trained values: " + ", ".join(counts))
    recorder.begin()
    states = common_states([usable_states(folder) for folder in folders])
    for lane, folder, state in zip(pack.lanes, folders, states, strict=True):
        if state is not None:
            lane.watch.see_again(line for line in folder.lines() if line.step <= state.step)
    PackRun(pack, recorder, progress, stop).run(states)


class PackRun:
    """The training of one pack."""

    def __init__(self, pack: Pack, recorder: Recorder, progress: Progress, stop: StopRequest) -> None:
        self.pack, self.recorder, self.progress, self.stop = pack, recorder, progress, stop
        self.last: LaneMetrics = {}
        self.step_seconds: list[float] = []

    def run(self, states: Sequence[State | None]) -> None:
        """Train from the lanes' states (None: from the beginning) to the end.

        On Ctrl-C, SIGTERM or an error the runs are recorded as cut short, and can be continued.
        """
        self._resume(states)
        try:
            self._evaluate_untrained([index for index, state in enumerate(states) if state is None])
            while active := self._active():
                self._stop_if_asked()
                self._step(active)
            for lane in self.pack.lanes:
                if lane.failure is None:
                    self.recorder.conclude(lane, Status.finished)
        except KeyboardInterrupt:
            self.recorder.cut_short("interrupted")
            raise
        except Stopped as stopped:
            with suppress(FailureError):  # a store that does not answer can wait; a scheduler does not
                self.recorder.cut_short(str(stopped))
            raise
        except Exception as error:
            with suppress(OSError, FailureError):  # on a full disk, say: the error itself matters more
                self.recorder.cut_short(f"{type(error).__name__}: {error}")
            raise

    def _resume(self, states: Sequence[State | None]) -> None:
        """Put every lane where its state says, and drop the records of what will be done again."""
        for lane, state in zip(self.pack.lanes, states, strict=True):
            if state is not None:
                restore(lane, state)
                self.pack.engine.adapters.round()
        self.recorder.drop_after({index: -1 if state is None else state.step for index, state in enumerate(states)})
        self._end(self.pack.lanes)  # one that was killed as it ended

    def _end(self, lanes: Sequence[LaneRun]) -> None:
        """Conclude those of some lanes that have failed, or have no signal and are to stop then."""
        for lane in lanes:
            if not lane.done:
                lane.failure = lane.failure or lane.watch.end
            if lane.failure is not None:
                self.recorder.conclude(lane, Status.failed, lane.failure)

    @staticmethod
    def _companies(lanes: Sequence[LaneRun]) -> list[list[LaneRun]]:
        """The lanes that are computed in one batch: those that had no signal once are apart from the others.

        Rounding depends on what else is in a batch. So the others are the same bit for bit, whether these go on or not.
        """
        with_signal = [lane for lane in lanes if lane.watch.of_kind(Kind.no_signal) is None]
        without = [lane for lane in lanes if lane.watch.of_kind(Kind.no_signal) is not None]
        return [company for company in (with_signal, without) if company]

    def _active(self) -> list[LaneRun]:
        return [lane for lane in self.pack.lanes if lane.failure is None and not lane.done]

    def _stop_if_asked(self) -> None:
        reason = self.pack.engine.ranks.any(self.stop.reason)
        if reason is not None:
            self.recorder.save()
            raise Stopped(reason)

    def _evaluate_untrained(self, fresh: Sequence[int]) -> None:
        """Step 0. All lanes are the base model still, with common noise: one measurement serves all."""
        if fresh:
            base = evaluate_untrained(self.pack, fresh[0], self.progress, self.stop)
            if base is not None:
                self._record({index: base.metrics for index in fresh}, {index: base for index in fresh})
                return
            failure = self.pack.lanes[fresh[0]].failure
            for index in fresh:
                self.pack.lanes[index].failure = failure
                self.recorder.conclude(self.pack.lanes[index], Status.failed, failure)

    def _step(self, active: list[LaneRun]) -> None:
        """One optimizer step of all active lanes, with evaluation where it is due, recorded."""
        self.progress.phase(f"training {len(active)} lane{'' if len(active) == 1 else 's'}")
        started = time.perf_counter()
        train = STEPS[self.pack.config.algorithm.name]
        metrics: LaneMetrics = {}
        for company in self._companies(active):
            metrics |= train(self.pack, company)
        going = [lane for lane in active if lane.failure is None]
        for lane in going:
            lane.step += 1
            metrics[lane.index] |= self._watch(lane, metrics[lane.index])
        every = self.pack.config.eval.every
        due = [lane for lane in going if lane.done or lane.watch.end or (every > 0 and lane.step % every == 0)]
        found, so_far = self._evaluate(due)
        for index, evaluation in found.items():
            metrics[index] |= evaluation.metrics
        for each in so_far:
            each.forget()  # first: a kill in between costs time, and leaves no file behind
        self._record({lane.index: metrics[lane.index] for lane in going}, found)
        self._end(active)
        self.recorder.push()
        self.step_seconds.append(time.perf_counter() - started)
        self._show()

    def _evaluate(self, due: Sequence[LaneRun]) -> tuple[dict[int, Evaluation], list[FoundSuites]]:
        """What some lanes are worth now, and what is to be forgotten when that is recorded."""
        found: dict[int, Evaluation] = {}
        so_far = [FoundSuites(self.pack, [lane.index for lane in company]) for company in self._companies(due)]
        for each in so_far:
            found |= evaluate(self.pack, each.lanes, self.progress, self.stop, each)
        return found, so_far

    def _watch(self, lane: LaneRun, metrics: Metrics) -> Metrics:
        """Say what a lane's step shows for the first time (`guards`); returns it as metrics."""
        alerts = lane.watch.see(lane.step, metrics)
        for alert in alerts:
            self.progress.warn(f"{lane.label}: {alert}")
        return {alert.kind.metric: float(alert.since) for alert in alerts}

    def _record(self, metrics: LaneMetrics, evaluations: Mapping[int, Evaluation]) -> None:
        self.last |= metrics
        self.recorder.step(metrics, evaluations)

    def _show(self) -> None:
        recent = sorted(self.step_seconds[-20:])
        steps_left = max((lane.config.training_steps - lane.step for lane in self._active()), default=0)
        shown = []
        for lane in self.pack.lanes:
            state = "failed" if lane.failure else "finished" if lane.done else "training"
            last = self.last.get(lane.index, {})
            reward, tokens = last.get("train/reward"), last.get("train/completion_tokens")
            shown.append(LaneProgress(lane.label, lane.step, lane.config.training_steps, reward, tokens, state))
        self.progress.lanes(shown, recent[len(recent) // 2] * steps_left)
