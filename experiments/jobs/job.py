"""What runs in a job: it trains the packs that it was given, with the sources that were copied at submission.

A scheduler gives notice of a job's end by a signal: the one that submitit asked for (before the time limit, or by
`scancel --signal`), USR1, TERM or HUP. The pack then stops before its next step, with all states saved. Only then is
submitit's own handler called, which saves the job for its next start and requeues it. TERM can also mean that the job
was cancelled: SLURM then no longer counts it as running, and the job ends without being requeued.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from submitit import JobEnvironment
from submitit.helpers import DelayedSubmission

from experiments.jobs import ledger, slurm
from experiments.jobs.ledger import Submission, Sweep
from experiments.jobs.one_pack import ENDED, run_pack, say_busy, say_error
from experiments.jobs.side_by_side import Places, starter, train_side_by_side
from tinylora.engine.meeting import MEETING
from tinylora.engine.ranks import Ranks, ranks_of_process
from tinylora.records.folder import BusyError
from tinylora.records.stopping import StopRequest
from tinylora.settings.errors import TinyLoraError

PORTS = range(10_000, 30_000)  # at which the processes of a job find each other


@dataclass(frozen=True)
class PackJob:
    """A job as submitit pickles it: where its sweep is described, and which packs of it to train."""

    sweep: str
    submission: int
    packs: tuple[int, ...]

    def __call__(self) -> None:
        """Train the packs: one after another, or as many at once as the job has places."""
        paths = JobEnvironment().paths
        for path in (paths.submitted_pickle, paths.result_pickle):  # left half written by a kill, it stops submitit
            path.with_suffix(path.suffix + ".save_tmp").unlink(missing_ok=True)
        try:
            sweep, submission = self._read()
            notice = Notice(StopRequest())
            if submission.packs_per_job == 1:
                for pack in self.packs:
                    run_pack(sweep, submission, pack, notice)
            elif (status := self._side_by_side(sweep, submission, notice)) != 0:
                sys.exit(status)
            notice.ignore()
        except TinyLoraError as error:
            say_error(error)
            sys.exit(error.exit_status)

    def _side_by_side(self, sweep: Sweep, submission: Submission, notice: Notice) -> int:
        """Train the packs, several at once; the exit status."""
        before = {pack: sweep.ended(submission, pack) for pack in self.packs}  # a start of this job before
        places = Places(
            [pack for pack, status in before.items() if status is None],
            submission.packs_per_job,
            starter(sweep, submission, JobEnvironment().job_id),
            lambda pack, status: sweep.note_end(submission, pack, status),
        )
        if not train_side_by_side(places, notice.stop):
            print("all packs have stopped", file=sys.stderr, flush=True)
            notice.obey(sweep)
        return places.status or max((status for status in before.values() if status is not None), default=0)

    def checkpoint(self) -> DelayedSubmission | None:
        """The same job again; None, after which submitit lets it fail, where it was requeued often enough."""
        _, submission = self._read()
        most = submission.settings["max_requeues"]
        if self._requeued() >= most:
            print(f"not requeued: launcher.max_requeues={most} is reached", file=sys.stderr)
            return None
        return DelayedSubmission(self)

    def _requeued(self) -> int:
        """How often this job was queued again: as SLURM counts; locally, from the recorded starts of its packs."""
        if "SLURM_JOB_ID" in os.environ:
            return int(os.environ.get("SLURM_RESTART_COUNT", "0"))
        sweep, submission = self._read()
        return max(len(sweep.attempts(submission, pack)) for pack in self.packs) - 1

    def _read(self) -> tuple[Sweep, Submission]:
        return ledger.submitted(Path(self.sweep), self.submission)


class Notice:
    """Turns a scheduler's signal into a request to stop, and calls submitit's handler once the pack has stopped."""

    def __init__(self, stop: StopRequest) -> None:
        self.stop = stop
        self.environment = JobEnvironment()
        self.ranks = _join_ranks(self.environment)
        self.own = self.environment._usr_sig()
        self.requeue: Any = signal.getsignal(self.own)
        self.received = 0
        self.numbers = {self.own, signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP}
        for number in self.numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as SIGHUP is under nohup
                signal.signal(number, self._receive)

    def ignore(self) -> None:
        """The packs are done: from now on notice is ignored.

        Python gives handlers of its own up while it ends, and a signal would kill it: the job would be queued again.
        """
        for number in self.numbers:
            signal.signal(number, signal.SIG_IGN)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if not self.received:
            print(f"{signal.Signals(number).name}: stopping before the next step", file=sys.stderr, flush=True)
        self.received = number
        self.stop.ask(f"the job was told to end ({signal.Signals(number).name})")

    def obey(self, sweep: Sweep) -> None:
        """Requeue this job and end it; without requeueing where it was cancelled, or where SLURM itself requeues it."""
        self.received = max(self.ranks.gather(self.received))  # a signal may have reached some of them alone
        if not self.ranks.leads:
            sys.exit(0)  # rank 0 decides what becomes of the job
        if sweep.cancelled or (self.received in (signal.SIGTERM, signal.SIGHUP) and not self._terminated_alone()):
            sys.exit(ENDED)
        self.requeue(self.own, None)

    def wait(self, sweep: Sweep, busy: BusyError, until: float) -> None:
        """Wait a moment for a run folder that another process holds; after `until` requeue this job and end it."""
        if self.stop.reason is not None:
            self.obey(sweep)
        if time.monotonic() > until:
            print(f"{busy.given} is still held by another process", file=sys.stderr, flush=True)
            self.requeue(self.own, None)
        say_busy(busy)

    def _terminated_alone(self) -> bool:
        """Whether SLURM still counts the job as running: then TERM was no cancellation but notice of its end."""
        in_slurm = "SLURM_JOB_ID" in os.environ
        return in_slurm and slurm.state_of(str(self.environment.job_id)) == "RUNNING"


def _join_ranks(environment: JobEnvironment) -> Ranks:
    """Say which rank this process of the job is, and wait for the others.

    In SLURM, rank 0 is on the node from which srun starts the tasks, and writes its port for each start of the job. In
    the background all are on one machine, and the port follows from the job's number; it is below the range from which
    the system hands out ports.
    """
    os.environ |= {
        "RANK": str(environment.global_rank),
        "WORLD_SIZE": str(environment.num_tasks),
        "LOCAL_RANK": str(environment.local_rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(PORTS.start + int(environment.raw_job_id) % len(PORTS)),
    }
    if environment.num_nodes > 1:
        os.environ["MASTER_ADDR"] = os.environ["SLURM_LAUNCH_NODE_IPADDR"]
    else:
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    if environment.name() == "slurm":
        start = os.environ.get("SLURM_RESTART_COUNT", "0")
        os.environ[MEETING] = str(environment.paths.folder / f"{environment.job_id}_meeting{start}")
    return ranks_of_process()
