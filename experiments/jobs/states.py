"""What became of submitted sweeps: which packs wait or run and how they are ended, and the state of each run.

The state is read from the run folder, the pack's job and that job's log.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from statistics import median
from typing import Any

from experiments.display import time_left
from experiments.jobs import slurm
from experiments.jobs.endings import why_ended
from experiments.jobs.ledger import CANCELLED, JOBS, Submission, Sweep
from experiments.jobs.settings import Kind
from experiments.jobs.slurm import QueuedJob
from tinylora.engine.ranks import gone
from tinylora.records.damage import damage_of
from tinylora.records.folder import RunFolder, Status

RECENT = 20  # steps whose median time gives the rate


class State(Enum):
    """How a run stands."""

    running = "running"
    ending = "ending"
    """Its job has ended, and SLURM clears up after it: it may be queued again."""
    queued = "queued"
    finished = "finished"
    failed = "failed"
    stopped = "stopped"
    """It has not ended and its job is gone: killed, lost, or out of time and not requeued any more."""
    damaged = "damaged"
    """Its folder cannot be read any more: restore the file that is named, or remove the folder."""
    cancelled = "cancelled"
    unsubmitted = "not submitted"

    @property
    def active(self) -> bool:
        """Whether a job has it."""
        return self in (State.running, State.ending, State.queued)

    @property
    def bad(self) -> bool:
        """Whether it will not finish by itself."""
        return self in (State.failed, State.stopped, State.damaged, State.cancelled)


class Active:
    """Which packs wait or run now, by sweep, submission and pack."""

    def __init__(self, sweeps: Sequence[Sweep]) -> None:
        """Ask SLURM, where any of the sweeps was sent there. Raises FailureError where it does not answer."""
        used = any(s.kind is Kind.slurm and s.jobs for sweep in sweeps for s in sweep.submissions)
        self.queued = slurm.queued_jobs() if used else {}

    def packs(self, sweep: Sweep) -> Iterator[tuple[Submission, int, QueuedJob | None]]:
        """Every pack as it was submitted: its submission, its number there, and its job where that has not ended."""
        for submission in sweep.submissions:
            for pack in range(len(submission.packs)):
                yield submission, pack, self._job(sweep, submission, pack)

    def _job(self, sweep: Sweep, submission: Submission, pack: int) -> QueuedJob | None:
        if sweep.ended(submission, pack) is not None:
            return None
        if submission.kind is Kind.slurm:
            array, place = submission.place_of(pack)
            job = self.queued.get((sweep.job_name(submission, array), place))
            if job and job.state == "RUNNING" and submission.packs_per_job > 1 and not sweep.attempts(submission, pack):
                return replace(job, state="PENDING", reason="for a place in its job")
            return job
        process = submission.job(pack)
        if process is None or not process_lives(process, sweep.place(submission)):
            return None
        return QueuedJob(process, "RUNNING" if sweep.attempts(submission, pack) else "PENDING")

    def runs(self, sweeps: Sequence[Sweep]) -> dict[str, str]:
        """The job of each run that waits or runs, by run key."""
        found: dict[str, str] = {}
        for sweep in sweeps:
            for submission, pack, job in self.packs(sweep):
                if job is not None:
                    found |= dict.fromkeys(submission.packs[pack], job.job_id)
        return found


def cancel(sweep: Sweep) -> list[str]:
    """End all jobs of a sweep; returns their ids."""
    packs = Active([sweep]).packs(sweep)
    found = {job.job_id: submission.kind for submission, _, job in packs if job is not None}
    if not found:
        return []
    (sweep.folder / CANCELLED).touch()  # before they are told: no job requeues itself then
    in_slurm = [job for job, kind in found.items() if kind is Kind.slurm]
    if in_slurm:
        slurm.cancel(in_slurm)
    for process in found.keys() - set(in_slurm):
        with suppress(ProcessLookupError):
            os.kill(int(process), signal.SIGTERM)  # submitit's controller, which tells the job
    return list(found)


def process_lives(process: str, place: Path) -> bool:
    """Whether a local process is there and is the one that was started for this submission.

    A process has no command line in the moment after it was started. Neither has one that has ended.
    """
    try:
        command = Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False
    return os.fsencode(place / JOBS) in command if command else not gone(int(process))


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    step: int
    steps: int
    step_s: float | None = None
    """Seconds a step; None where it does not run, or has not recorded any."""

    def __str__(self) -> str:
        """For people, with the time that is left."""
        pace = "" if self.step_s is None else f", {self.step_s:.2f} s a step{time_left(self.left_s)}"
        return f"step {self.step}/{self.steps}{pace}"

    @property
    def left_s(self) -> float | None:
        """Seconds until the last step, at the pace of the last ones."""
        return None if self.step_s is None else self.step_s * (self.steps - self.step)


@dataclass(frozen=True)
class LaneState:
    """A line of the status."""

    key: str
    label: str
    state: State
    job: str
    requeued: int
    progress: Progress | None = None
    note: str = ""
    """Why it waits, failed or stopped, and where to read more."""

    def as_plain(self, sweep: Sweep) -> dict[str, Any]:
        """What `status --json` prints of a run."""
        at = self.progress
        far = (None, None, None, None) if at is None else (at.step, at.steps, at.step_s, at.left_s)
        done = dict(zip(("step", "steps", "step_s", "left_s"), far, strict=True))
        named = {"sweep": sweep.id, "run": self.key, "label": self.label, "state": self.state.value}
        return named | {"job": self.job, "requeued": self.requeued} | done | {"note": self.note}


def states_of(sweep: Sweep, active: Active, others: Sequence[Sweep] = ()) -> list[LaneState]:
    """The state of each run of a sweep, in the order of its points. `active` is asked before the folders are read.

    A run that one of the `others` has submitted, too, stands as there, where that was later.
    """
    related = [other for other in others if other.id != sweep.id and other.runs.keys() & sweep.runs.keys()]
    packs = [(owner, *pack) for owner in (sweep, *related) for pack in active.packs(owner)]
    last: dict[str, tuple[Sweep, Submission, int, QueuedJob | None]] = {}
    for owner, submission, pack, job in sorted(packs, key=lambda each: each[1].time):
        tried = bool(submission.jobs) or job is not None  # else a dry run, which changes nothing
        shown = [key for key in submission.packs[pack] if key in sweep.runs and (tried or key not in last)]
        last |= dict.fromkeys(shown, (owner, submission, pack, job))
    labels = {key: run["label"] for key, run in sweep.runs.items()}
    return [
        _state(*last[key], key, label) if key in last else _without_submission(sweep, key)
        for key, label in labels.items()
    ]


def _state(sweep: Sweep, submission: Submission, pack: int, job: QueuedJob | None, key: str, label: str) -> LaneState:
    """The state of a run by the last submission that has it."""
    folder = RunFolder(sweep.config(key))
    job_id = job.job_id if job is not None else submission.job(pack) or "-"
    requeued = max(len(sweep.attempts(submission, pack)) - 1, 0)
    if (damage := damage_of(folder)) is not None:
        return LaneState(key, label, State.damaged, job_id, requeued, note=damage)
    status = folder.status()
    if status is Status.finished:
        return LaneState(key, label, State.finished, job_id, requeued)
    log = sweep.place(submission) / JOBS / submission.log_of(pack, job_id)
    if status is Status.failed:
        return LaneState(key, label, State.failed, job_id, requeued, note=f"{folder.reason()}; log {log}")
    pace = _progress(folder)
    progress = pace and replace(pace, step_s=None)  # of a run that does not go on
    if job is not None and job.state == "COMPLETING":
        return LaneState(key, label, State.ending, job_id, requeued, progress)
    if job is not None and job.state != "PENDING":
        return LaneState(key, label, State.running, job_id, requeued, pace)
    if job is not None:
        waits = f"waits: {job.reason}" if job.reason not in ("", "None") else ""
        return LaneState(key, label, State.queued, job_id, requeued, progress, waits)
    if not submission.jobs:
        return LaneState(key, label, State.unsubmitted, "-", 0)
    state = State.cancelled if sweep.cancelled else State.stopped
    note = why_ended(log) or folder.reason() or "its job is gone and has written nothing"
    return LaneState(key, label, state, job_id, requeued, progress, f"{note}; log {log}")


def _without_submission(sweep: Sweep, key: str) -> LaneState:
    """A run that had ended before the sweep was first submitted, or is another sweep's."""
    folder = RunFolder(sweep.config(key))
    damage, status = damage_of(folder), folder.status()
    state = State(status.value) if status is not None and status.final else State.unsubmitted
    return LaneState(key, sweep.runs[key]["label"], State.damaged if damage else state, "-", 0, note=damage or "")


def _progress(folder: RunFolder) -> Progress | None:
    """How far a run is, and its pace, from its recorded lines; None where there is none."""
    lines = folder.lines()
    if not lines:
        return None
    step, steps = lines[-1].step, folder.config.training_steps
    seconds = [line.metrics["time/step_s"] for line in lines[-RECENT:] if "time/step_s" in line.metrics]
    return Progress(step, steps, median(seconds) if seconds else None)
