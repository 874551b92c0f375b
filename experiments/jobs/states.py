"""The state of each run of a submitted sweep, read from its run folder, its job and that job's log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from statistics import median

from experiments.display import time_left
from experiments.jobs.active import Active
from experiments.jobs.ledger import JOBS, Submission, Sweep
from experiments.jobs.settings import Kind
from experiments.jobs.slurm import QueuedJob
from tinylora.records.folder import RunFolder, Status

LOG_TAIL = 20_000  # bytes of a log in which the last line is looked for
RECENT = 20  # steps whose median time gives the rate


class State(Enum):
    """How a run stands."""

    running = "running"
    queued = "queued"
    finished = "finished"
    failed = "failed"
    stopped = "stopped"
    """It has not ended and its job is gone: killed, lost, or out of time and not requeued any more."""
    cancelled = "cancelled"
    unsubmitted = "not submitted"

    @property
    def active(self) -> bool:
        """Whether a job has it."""
        return self in (State.running, State.queued)

    @property
    def bad(self) -> bool:
        """Whether it will not finish by itself."""
        return self in (State.failed, State.stopped, State.cancelled)


@dataclass(frozen=True)
class LaneState:
    """A line of the status."""

    key: str
    label: str
    state: State
    job: str
    requeued: int
    progress: str = ""
    note: str = ""
    """Why it waits, failed or stopped, and where to read more."""


def states_of(sweep: Sweep, active: Active) -> list[LaneState]:
    """The state of each run of a sweep, in the order of its points. `active` is asked before the folders are read."""
    found: dict[str, LaneState] = {}
    for submission in sweep.submissions:  # the last one that has a run counts
        for number, pack in enumerate(submission.packs):
            job = active.job(sweep, submission, number)
            tried = bool(submission.jobs) or job is not None  # else a dry run, which changes nothing
            shown = [key for key in pack if tried or key not in found]
            found |= {key: _state(sweep, submission, number, key, job) for key in shown}
    return [found[key] if key in found else _without_submission(sweep, key) for key in sweep.runs]


def _state(sweep: Sweep, submission: Submission, pack: int, key: str, job: QueuedJob | None) -> LaneState:
    folder, label = RunFolder(sweep.config(key)), sweep.runs[key]["label"]
    job_id = _job_id(submission, pack, job)
    requeued = max(len(sweep.attempts(submission, pack)) - 1, 0)
    status = folder.status()
    if status is Status.finished:
        return LaneState(key, label, State.finished, job_id, requeued)
    log = sweep.place(submission) / JOBS / f"{job_id}_0_log.err"
    if status is Status.failed:
        return LaneState(key, label, State.failed, job_id, requeued, note=f"{folder.reason()}; log {log}")
    progress, left = _progress(folder)
    if job is not None and job.state != "PENDING":
        return LaneState(key, label, State.running, job_id, requeued, progress + left)
    if job is not None:
        waits = f"waits: {job.reason}" if job.reason not in ("", "None") else ""
        return LaneState(key, label, State.queued, job_id, requeued, progress, waits)
    if not submission.jobs:
        return LaneState(key, label, State.unsubmitted, "-", 0)
    state = State.cancelled if sweep.cancelled else State.stopped
    note = last_line(log) or folder.reason() or "its job is gone and has written nothing"
    return LaneState(key, label, state, job_id, requeued, progress, f"{note}; log {log}")


def _without_submission(sweep: Sweep, key: str) -> LaneState:
    """A run that had ended before the sweep was first submitted, or is another sweep's."""
    status = RunFolder(sweep.config(key)).status()
    states = {Status.finished: State.finished, Status.failed: State.failed}
    state = states.get(status, State.unsubmitted) if status else State.unsubmitted
    return LaneState(key, sweep.runs[key]["label"], state, "-", 0)


def _job_id(submission: Submission, pack: int, job: QueuedJob | None) -> str:
    if job is not None:
        return job.job_id
    if not submission.jobs:
        return "-"
    return submission.jobs[pack if submission.kind is Kind.slurm else pack % len(submission.jobs)]


def _progress(folder: RunFolder) -> tuple[str, str]:
    """How far a run is, and how long it still takes, from its recorded lines."""
    lines = folder.lines()
    if not lines:
        return "", ""
    step, steps = lines[-1].step, folder.config.training_steps
    seconds = [line.metrics["time/step_s"] for line in lines[-RECENT:] if "time/step_s" in line.metrics]
    if not seconds:
        return f"step {step}/{steps}", ""
    rate = median(seconds)
    return f"step {step}/{steps}", f", {rate:.2f} s a step{time_left(rate * (steps - step))}"


def last_line(log: Path) -> str:
    """The last line of a log that says something; empty where there is none."""
    return next((line for line in _backwards(log) if line.strip()), "").strip()[:300]


def _backwards(log: Path) -> Iterator[str]:
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(file.tell() - LOG_TAIL, 0))
            text = file.read().decode(errors="replace")
    except OSError:
        return iter(())
    return reversed(text.splitlines())
