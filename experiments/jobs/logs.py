"""What jobs have written: the logs of the jobs that last had some runs, and what is added to them."""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.jobs.ledger import JOBS, Submission, Sweep, pack_log
from experiments.jobs.watch import active_packs

ALL = 0  # lines: all that there are
SECONDS_BETWEEN_READS = 1.0
SECONDS_BETWEEN_LOOKS = 5.0  # whether the jobs have ended
BLOCK = 64 * 1024  # bytes that are read at once from the end of a log


@dataclass(frozen=True)
class Job:
    """A job of a submission, in SLURM or in the background, and its packs."""

    sweep: Sweep
    submission: Submission
    name: str
    packs: tuple[int, ...]

    def logs(self) -> list[Path]:
        """Its logs so far: errors and output of each of its processes; none while it waits.

        Where packs have processes of their own, those of other packs are left out.
        """
        folder, own = self.sweep.place(self.submission) / JOBS, ["*_log"]
        if self.submission.packs_per_job > 1:
            own = ["0_log", *(pack_log(self.name, pack).removeprefix(f"{self.name}_") for pack in self.packs)]
        found = [f"{glob.escape(str(folder / self.name))}_{name}.{kind}" for kind in ("err", "out") for name in own]
        return sorted(Path(path) for pattern in found for path in glob.glob(pattern))

    def __str__(self) -> str:
        numbers = ", ".join(map(str, self.packs))
        return f"job {self.name} of sweep {self.sweep.id}, pack{'s' * (len(self.packs) > 1)} {numbers}"


def jobs_of(keys: Collection[str], sweeps: Sequence[Sweep]) -> list[Job]:
    """The jobs to which some runs, by key, were given last, in the order of their submission."""
    last: dict[str, tuple[Sweep, Submission, int]] = {}
    submitted = [(sweep, submission) for sweep in sweeps for submission in sweep.submissions if submission.jobs]
    for sweep, submission in sorted(submitted, key=lambda each: each[1].time):
        for number, pack in enumerate(submission.packs):
            last |= dict.fromkeys(set(keys) & set(pack), (sweep, submission, number))
    packs: dict[tuple[str, int, str], set[int]] = {}
    owners = {}
    for sweep, submission, number in last.values():
        name = submission.job(number)
        assert name is not None, "only submissions with jobs were asked"
        place = (sweep.id, submission.number, name)
        packs.setdefault(place, set()).add(number)
        owners[place] = (sweep, submission)
    jobs = [Job(*owners[place], place[2], tuple(sorted(found))) for place, found in packs.items()]
    return sorted(jobs, key=lambda job: (job.submission.time, job.packs))


def follow(jobs: Sequence[Job], places: dict[Path, int]) -> Iterator[tuple[Job, Path, bytes]]:
    """What is added to the logs of some jobs, line by line, until all have ended.

    `places` are the bytes of each log that are known. Where SLURM does not answer it is asked again.
    """
    looked, going = -SECONDS_BETWEEN_LOOKS, True
    while going:
        if time.monotonic() - looked >= SECONDS_BETWEEN_LOOKS:
            going, looked = _any_active(jobs), time.monotonic()  # before they are read: nothing is written later
        for job in jobs:
            for path in job.logs():
                added = _from(path, places.get(path, 0), whole=going)
                if added:
                    places[path] = places.get(path, 0) + len(added)
                    yield job, path, added
        if going:
            time.sleep(SECONDS_BETWEEN_READS)


def _any_active(jobs: Sequence[Job]) -> bool:
    sweeps = {job.sweep.id: job.sweep for job in jobs}
    active = active_packs(list(sweeps.values()), patient=True)
    wanted = {(job.sweep.id, job.submission.number, pack) for job in jobs for pack in job.packs}
    return any(
        queued is not None and (sweep.id, submission.number, pack) in wanted
        for sweep in sweeps.values()
        for submission, pack, queued in active.packs(sweep)
    )


def _from(path: Path, start: int, whole: bool) -> bytes:
    """What a log has from some byte on; `whole` lines alone."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            found = file.read()
            return found[: found.rfind(b"\n") + 1] if whole else found
    except FileNotFoundError:  # removed meanwhile
        return b""


def tail(path: Path, lines: int) -> tuple[bytes, int]:
    """The last lines of a file (ALL: the whole) and its size in bytes; endless files are read from their end."""
    with path.open("rb") as file:
        size = start = file.seek(0, os.SEEK_END)
        found = b""
        while start > 0 and (lines == ALL or found.rstrip(b"\n").count(b"\n") < lines):
            begin = max(start - BLOCK, 0)
            file.seek(begin)
            found, start = file.read(start - begin) + found, begin
    return (found if lines == ALL else b"".join(found.splitlines(keepends=True)[-lines:])), size
