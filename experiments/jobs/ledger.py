"""The folder of a submitted sweep, `outputs_dir/sweeps/<id>/`, which records what was submitted; jobs only read it.

    sweep.json       its runs (settings and label, by run key) and its submissions (packs, job ids, commit, settings)
    <n>/code/        the sources at the n-th submission (see `snapshot`)
    <n>/jobs/        scripts and logs of its jobs and packs, and what submitit hands to them
    <n>/attempts/    a line for every start of a pack: job, host, time; and that it failed, where its job went on
    cancelled        written by `experiments.cancel`, removed by the next submission: jobs do not requeue themselves

The id is a hash of the run keys, so that the same command finds its sweep again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from experiments.jobs.settings import Kind
from experiments.jobs.slurm import PREFIX
from tinylora.settings.config import RunConfig, as_plain
from tinylora.settings.errors import FailureError, UsageError
from tinylora.settings.files import held, write_atomically
from tinylora.settings.given_files import GIB, json_of, read_regular, text_of
from tinylora.settings.recorded import from_plain

SWEEPS, SWEEP, LOCK = "sweeps", "sweep.json", ".lock"
CODE, JOBS, ATTEMPTS, CANCELLED = "code", "jobs", "attempts", "cancelled"


@dataclass(frozen=True)
class Submission:
    """What was submitted at once: an array of jobs, or several."""

    number: int
    time: float
    """Seconds since the epoch."""
    kind: Kind
    command: list[str]
    """What was typed after `python -m experiments.run`."""
    settings: dict[str, Any]
    source: dict[str, Any]
    """git_commit and git_dirty of the copied sources."""
    packs: list[list[str]]
    """Run keys of each pack."""
    jobs: list[str] = field(default_factory=list)
    """Ids: of each pack's job in SLURM, or of the local processes that share the packs; none for a dry run."""
    array_size: int | None = None
    """Jobs of each array, where SLURM takes none that has all of them; None: one array has all."""
    shares: int | None = None
    """Jobs that share the packs; None: each pack has a job of its own."""

    @property
    def packs_per_job(self) -> int:
        """How many packs a job trains at once."""
        return int(self.settings.get("packs_per_job", 1))

    @property
    def packs_of_jobs(self) -> list[tuple[int, ...]]:
        """The packs of each job."""
        count = self.shares or len(self.packs)
        return [tuple(range(job, len(self.packs), count)) for job in range(count)]

    @property
    def arrays(self) -> list[range]:
        """The jobs of each array."""
        count = self.shares or len(self.packs)
        size = self.array_size or count
        return [range(first, min(first + size, count)) for first in range(0, count, size)]

    def place_of(self, pack: int) -> tuple[int, int]:
        """The array that has a pack, and the place of the pack's job there."""
        count = self.shares or len(self.packs)
        return divmod(pack % count, self.array_size or count)

    def job(self, pack: int) -> str | None:
        """The id of the job that has a pack; None for a dry run."""
        return self.jobs[pack % len(self.jobs)] if self.jobs else None

    def as_plain(self) -> dict[str, Any]:
        """What sweep.json has of it.

        Jobs of older sources that still wait read it, too, and do not know `array_size` and `shares`: these are left
        out where they say nothing that is needed later. Which packs a local process has, it knows itself.
        """
        plain = asdict(self)
        if self.array_size is None:
            del plain["array_size"]
        if self.shares is None or self.packs_per_job == 1:
            del plain["shares"]
        return plain

    def log_of(self, pack: int, job: str) -> str:
        """The name of the file to which a pack's errors go in a job."""
        return f"{pack_log(job, pack)}.err" if self.packs_per_job > 1 else f"{job}_0_log.err"


@dataclass(frozen=True)
class Sweep:
    """What sweep.json says."""

    folder: Path
    runs: dict[str, dict[str, Any]]
    """By run key: `config` (plain) and `label`."""
    submissions: list[Submission]

    @property
    def id(self) -> str:
        """Name of the folder."""
        return self.folder.name

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled after its last submission."""
        return (self.folder / CANCELLED).exists()

    def config(self, key: str) -> RunConfig:
        """The settings of a run."""
        return from_plain(self.runs[key]["config"])

    def place(self, submission: Submission) -> Path:
        """The folder of a submission."""
        return self.folder / str(submission.number)

    def job_name(self, submission: Submission, array: int = 0) -> str:
        """The name of the jobs of an array in SLURM."""
        return f"{PREFIX}{self.id}-{submission.number}" + (f".{array}" if array else "")

    def attempts(self, submission: Submission, pack: int) -> list[dict[str, Any]]:
        """The starts of a pack, in order."""
        path = self.place(submission) / ATTEMPTS / f"{pack}.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []

    def ended(self, submission: Submission, pack: int) -> int | None:
        """The exit status with which a pack has failed whose job went on with others; None where it has not."""
        path = self.place(submission) / ATTEMPTS / f"{pack}.failed"
        return int(path.read_text(encoding="utf-8")) if path.exists() else None

    def note_end(self, submission: Submission, pack: int, status: int) -> None:
        """Record the exit status of a pack that has failed: its job trains it no more."""
        write_atomically(self.place(submission) / ATTEMPTS / f"{pack}.failed", str(status).encode())

    def save(self) -> None:
        """Write sweep.json."""
        submissions = [each.as_plain() for each in self.submissions]
        content = {"id": self.id, "runs": self.runs, "submissions": submissions}
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / SWEEP, (json.dumps(content, indent=1) + "\n").encode())

    def drop(self, submission: Submission) -> None:
        """Remove a submission that failed; the whole sweep where it has no other one."""
        self.submissions.remove(submission)
        shutil.rmtree(self.place(submission), ignore_errors=True)
        if self.submissions:
            self.save()
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


def sweep_of(points: Sequence[RunConfig], labels: Sequence[str]) -> Sweep:
    """The sweep of some points: as it is on the disk, or a new one that is not written yet."""
    outputs = Path(points[0].outputs_dir)
    keys = sorted(point.run_key for point in points)
    folder = outputs / SWEEPS / hashlib.sha256("".join([str(outputs), *keys]).encode()).hexdigest()[:8]
    if (folder / SWEEP).exists():
        return read(folder)
    runs = {
        point.run_key: {"label": label, "config": as_plain(point)} for point, label in zip(points, labels, strict=True)
    }
    return Sweep(folder, runs, [])


def read(folder: Path) -> Sweep:
    """The sweep of a folder. Raises FailureError where sweep.json is damaged."""
    try:
        content = json_of(text_of(read_regular(folder / SWEEP, GIB)))
        submissions = [Submission(**entry | {"kind": Kind(entry["kind"])}) for entry in content["submissions"]]
        return Sweep(folder, content["runs"], submissions)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FailureError(
            f"{folder / SWEEP} is damaged",
            "sweep.json says what was submitted",
            "restore it, or remove the folder: the run folders hold all results",
        ) from error


def submitted(folder: Path, number: int) -> tuple[Sweep, Submission]:
    """A sweep by its folder, and one of its submissions. Raises FailureError where sweep.json is damaged."""
    sweep = read(folder)
    return sweep, next(submission for submission in sweep.submissions if submission.number == number)


def pack_log(job: str, pack: int) -> str:
    """The name of a log, without its ending, of a pack that has a process of its own."""
    return f"{job}_pack{pack}_log"


def all_sweeps(outputs: Path) -> list[Sweep]:
    """All sweeps that were submitted with an outputs_dir, oldest submission first."""
    sweeps = [read(path.parent) for path in (outputs / SWEEPS).glob(f"*/{SWEEP}")]
    return sorted(sweeps, key=lambda sweep: max((s.time for s in sweep.submissions), default=0.0))


def find(outputs: Path, given: str) -> Sweep:
    """The sweep with this id, or the beginning of one. Raises UsageError."""
    sweeps = all_sweeps(outputs)
    found = [sweep for sweep in sweeps if sweep.id.startswith(given)]
    if len(found) == 1:
        return found[0]
    what = "several sweeps" if found else "no sweep"
    said, elsewhere = f"sweep {given}: {what} in {outputs / SWEEPS}", "--outputs-dir <outputs_dir of the sweep>"
    if not sweeps:
        raise UsageError(
            said,
            "only sweeps that were submitted, with hydra/launcher=slurm or local, have an id, and none was from here",
            f"give {elsewhere}; a sweep that trains in a terminal shows there how it stands, and ends with Ctrl-C",
        )
    meant = ", ".join(sweep.id for sweep in found or sweeps)
    raise UsageError(said, "an id, or its beginning, is that of one sweep", f"give one of {meant}; or {elsewhere}")


@contextmanager
def locked(outputs: Path) -> Iterator[None]:
    """One process at a time submits or cancels: a second one waits, and then sees what the first has done.

    Where there is no sweep in the end it leaves no folder of them. Raises FailureError where the folder cannot be
    written to or has no locks.
    """
    folder = outputs / SWEEPS
    with ExitStack() as stack:
        try:
            stack.enter_context(held(folder / LOCK))
        except FailureError:
            if folder.exists():
                raise
            stack.enter_context(held(folder / LOCK))  # the one that was waited for has left no folder
        try:
            yield
        finally:
            if [path.name for path in folder.iterdir()] == [LOCK]:
                with suppress(OSError):  # another process has begun to use it
                    (folder / LOCK).unlink()
                    folder.rmdir()
