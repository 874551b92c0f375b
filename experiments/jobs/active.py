"""Which packs of submitted sweeps wait or run now, and how they are ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from experiments.jobs import slurm
from experiments.jobs.ledger import CANCELLED, JOBS, Submission, Sweep
from experiments.jobs.settings import Kind
from experiments.jobs.slurm import QueuedJob


class Active:
    """Which packs wait or run now, by sweep, submission and pack."""

    def __init__(self, sweeps: Sequence[Sweep]) -> None:
        """Ask SLURM, where any of the sweeps was sent there. Raises FailureError where it does not answer."""
        used = any(s.kind is Kind.slurm and s.jobs for sweep in sweeps for s in sweep.submissions)
        self.queued = {(job.name, job.place): job for job in (slurm.queued_jobs() if used else [])}

    def job(self, sweep: Sweep, submission: Submission, pack: int) -> QueuedJob | None:
        """The job of a pack, where it has not ended."""
        if submission.kind is Kind.slurm:
            return self.queued.get((sweep.job_name(submission), pack))
        for share, process in enumerate(submission.jobs):
            if pack % len(submission.jobs) == share and process_lives(process, sweep.place(submission)):
                begun = bool(sweep.attempts(submission, pack))
                return QueuedJob("", pack, process, "RUNNING" if begun else "PENDING", "", "")
        return None

    def runs(self, sweeps: Sequence[Sweep]) -> dict[str, str]:
        """The job of each run that waits or runs, by run key."""
        found: dict[str, str] = {}
        for sweep in sweeps:
            for submission in sweep.submissions:
                for number, pack in enumerate(submission.packs):
                    job = self.job(sweep, submission, number)
                    if job is not None:
                        found |= dict.fromkeys(pack, job.job_id)
        return found


def cancel(sweep: Sweep) -> list[str]:
    """End all jobs of a sweep; returns their ids."""
    active = Active([sweep])
    found: dict[str, Kind] = {}
    for submission in sweep.submissions:
        for pack in range(len(submission.packs)):
            job = active.job(sweep, submission, pack)
            if job is not None:
                found[job.job_id] = submission.kind
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
    """Whether a local process is there and is the one that was started for this submission."""
    try:
        return os.fsencode(place / JOBS) in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False
