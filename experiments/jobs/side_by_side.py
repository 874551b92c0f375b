"""Several packs of one job at once, each in a process of its own with its own GPU: a whole node is one job.

A job has places, one for each pack that it trains at the same time. Where a pack has ended, its place takes the next
one of the job. Each pack writes a log of its own and has a fate of its own: an error or a kill ends it and no other.
Notice is handed on to all of them; when all have stopped, with their states saved, the job is queued again as a whole.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from experiments.jobs.ledger import JOBS, Submission, Sweep, pack_log
from experiments.jobs.one_pack import AGAIN
from tinylora.records.stopping import StopRequest
from tinylora.settings.groups import PACKS_AT_ONCE

SECONDS_BETWEEN_LOOKS = 0.5
KILLED = 128 + signal.SIGKILL  # a shell's exit status for it: the batch script then queues the job again
VISIBLE = "CUDA_VISIBLE_DEVICES"
ERRORS = (1, 2)  # exit statuses of a pack that would fail again
Start = Callable[[int, int], "subprocess.Popen[bytes]"]
"""Starts the process of a pack in a place."""
Failed = Callable[[int, int], None]


class Places:
    """The places of a job, and the processes that are in them."""

    def __init__(self, packs: Sequence[int], places: int, start: Start, failed: Failed) -> None:
        """Nothing is started yet; `failed` is told of a pack that has failed, and its exit status."""
        self.waiting, self.free, self.start, self.failed = list(packs), list(range(places)), start, failed
        self.going: dict[int, tuple[int, subprocess.Popen[bytes]]] = {}
        """By place: the pack and its process."""
        self.statuses: dict[int, int] = {}
        """Exit statuses of the packs that have ended: 0, above for an error, below for one that a signal has killed."""

    def fill(self) -> None:
        """Start what waits where there is room."""
        while self.waiting and self.free:
            pack, place = self.waiting.pop(0), self.free.pop(0)
            self.going[place] = pack, self.start(pack, place)

    def collect(self) -> None:
        """See which packs have ended."""
        for place, (pack, process) in list(self.going.items()):
            if (status := process.poll()) is not None:
                del self.going[place]
                assert process.stdin is not None
                process.stdin.close()
                self.statuses[pack] = status
                self.free.append(place)
                if status != 0:
                    print(f"pack {pack} has ended with status {status}: see its log", file=sys.stderr, flush=True)
                if status in ERRORS:
                    self.failed(pack, status)

    def tell(self) -> None:
        """Tell all that are there to stop."""
        for _, process in self.going.values():
            process.send_signal(signal.SIGTERM)

    @property
    def done(self) -> bool:
        """Whether all packs have been trained to their end."""
        return not self.waiting and not self.going and not any(self.statuses.values())

    @property
    def status(self) -> int:
        """The exit status of the job: of a killed pack, so that the job is queued again, else of one that failed."""
        found = self.statuses.values()
        if any(status < 0 or status == AGAIN for status in found):
            return KILLED
        return max(found, default=0)


def train_side_by_side(places: Places, stop: StopRequest) -> bool:
    """Train all packs; False where notice came, and all processes have ended since."""
    told = False
    while True:
        if stop.reason is None:
            places.fill()
        elif not told:
            places.tell()
            told = True
        places.collect()
        if not places.going and (told or not places.waiting):
            return not told or places.done
        time.sleep(SECONDS_BETWEEN_LOOKS)


def starter(sweep: Sweep, submission: Submission, job: str) -> Start:
    """Starts a pack of a submission, with the GPU of its place, if the job has any, and a log of its own."""
    given = os.environ.get(VISIBLE, "")
    devices = [name for name in given.split(",") if name]

    def start(pack: int, place: int) -> subprocess.Popen[bytes]:
        own = {PACKS_AT_ONCE: str(submission.packs_per_job)} | ({VISIBLE: devices[place]} if devices else {})
        asked = [str(sweep.folder), str(submission.number), str(pack)]
        folder, name = sweep.place(submission) / JOBS, pack_log(job, pack)
        with ExitStack() as stack:
            out, err = (stack.enter_context((folder / f"{name}.{kind}").open("ab")) for kind in ("out", "err"))
            return subprocess.Popen(
                [sys.executable, "-P", "-u", "-m", "experiments.jobs.one_pack", *asked],
                env=os.environ | own,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
            )

    return start
