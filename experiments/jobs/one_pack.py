"""Training one pack in a job: what is recorded of it, what happens at a notice, and what waits for what.

As a program it is one of several packs that a job trains side by side (see `side_by_side`), started by its job:

    python -m experiments.jobs.one_pack <folder of the sweep> <submission> <pack>
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Protocol

from experiments.jobs import ledger
from experiments.jobs.ledger import Submission, Sweep
from experiments.sweep import run_packs
from tinylora.engine.ranks import Ranks
from tinylora.records.folder import BusyError, Unmirrored
from tinylora.records.stopping import Stopped, StopRequest
from tinylora.settings.errors import TinyLoraError

STORE_PATIENCE = 900.0  # seconds that a tracking server may be away
FOLDER_PATIENCE = 900.0  # seconds that a run folder may be held by another process
SECONDS_BETWEEN_TRIES = 10.0
ENDED = 3  # exit status of a job, or of a pack's process, that was stopped and stays so
AGAIN = 75  # exit status of a pack's process that asks for its job to be queued again


class PackNotice(Protocol):
    """How a pack is told to stop, and what is done then."""

    ranks: Ranks
    stop: StopRequest

    def obey(self, sweep: Sweep) -> None:
        """End this process after the pack has stopped."""

    def wait(self, sweep: Sweep, busy: BusyError, until: float) -> None:
        """Wait a moment for a run folder that another process holds; after `until` give up, and end this process."""


class ToldByJob:
    """Notice to one of several packs: a signal from its job or from the scheduler, or the job's process is gone."""

    def __init__(self) -> None:
        """Listen. A job's process holds the other end of this one's standard input, which ends with it."""
        self.ranks, self.stop = Ranks(), StopRequest()
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._receive)
        threading.Thread(target=self._await_end_of_job, daemon=True).start()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.stop.ask(f"its job was told to end ({signal.Signals(number).name})")

    def _await_end_of_job(self) -> None:
        os.read(0, 1)  # not by `sys.stdin`: Python cannot end while a thread holds it
        self.stop.ask("the process of its job is gone")

    def obey(self, sweep: Sweep) -> NoReturn:
        """End; the job decides what comes then."""
        sys.exit(ENDED)

    def wait(self, sweep: Sweep, busy: BusyError, until: float) -> None:
        """Wait a moment; after `until` have the job queued again, once its other packs have ended."""
        if self.stop.reason is not None:
            self.obey(sweep)
        if time.monotonic() > until:
            print(f"{busy.given} is still held by another process", file=sys.stderr, flush=True)
            sys.exit(AGAIN)
        say_busy(busy)


def say_busy(busy: BusyError) -> None:
    """Say what is waited for, and wait a moment."""
    print(f"{busy.given} is held by another process: waiting for it", file=sys.stderr, flush=True)
    time.sleep(SECONDS_BETWEEN_TRIES)


def run_pack(sweep: Sweep, submission: Submission, number: int, notice: PackNotice) -> None:
    """Train a pack to its end, or until the notice."""
    if notice.ranks.any(notice.stop.reason) is not None:
        notice.obey(sweep)
    keys = submission.packs[number]
    points, names = [sweep.config(key) for key in keys], {key: sweep.runs[key]["label"] for key in keys}
    if notice.ranks.leads:
        _note_attempt(sweep, submission, number)
        print(f"pack {number} of sweep {sweep.id}", file=sys.stderr, flush=True)
    mirror: Any = Unmirrored()
    if notice.ranks.leads and points[0].tracking.uri is not None:  # a server takes many writers, a file does not
        from tinylora.records.mirror import Mirror

        mirror = Mirror(points[0], patience=STORE_PATIENCE)
    until = time.monotonic() + FOLDER_PATIENCE
    while True:
        try:
            run_packs([points], names, mirror, notice.stop)
            return
        except Stopped as stopped:
            print(f"stopped with all states saved: {stopped}", file=sys.stderr, flush=True)
            return notice.obey(sweep)
        except BusyError as busy:  # of a process on a node that was lost: its lock is given up in time
            if notice.ranks.count > 1:
                raise
            notice.wait(sweep, busy, until)


def _note_attempt(sweep: Sweep, submission: Submission, pack: int) -> None:
    folder = sweep.place(submission) / ledger.ATTEMPTS
    folder.mkdir(exist_ok=True)
    job = os.environ.get("SLURM_JOB_ID") or os.environ.get("SUBMITIT_LOCAL_JOB_ID")
    attempt = {"time": round(time.time(), 3), "job": job, "host": socket.gethostname(), "process": os.getpid()}
    with (folder / f"{pack}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(attempt) + "\n")


def say_error(error: TinyLoraError) -> None:
    """Write an error into the log, from which `status` reads it."""
    print(f"error: {'; '.join(error.args)}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> int:
    """Train the pack that is named; the exit status."""
    folder, submission, pack = arguments
    notice = ToldByJob()
    try:
        sweep, found = ledger.submitted(Path(folder), int(submission))
        run_pack(sweep, found, int(pack), notice)
        return 0
    except TinyLoraError as error:
        say_error(error)
        return error.exit_status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
