"""What we ask of SLURM: which of our jobs are queued or running, whether it takes a script, to cancel jobs.

Only `squeue`, `sbatch`, `scancel` and `scontrol` are used, since many clusters have no accounting (`sacct`). A job is
found by its name, `tinylora-<sweep>-<submission>`, and its place in the array. So it is found even if the process that
submitted it was killed before it could write the job's id to sweep.json.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tinylora.settings.errors import FailureError, UsageError

COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol")
FORMAT = "%j|%K|%F|%A|%T|%r"  # name, place in the array, id of the array, own id, state, reason
PREFIX = "tinylora-"
USUAL_ARRAY = 1001  # jobs, where a cluster does not say how many
SECONDS = 60  # a controller that is busy answers late


@dataclass(frozen=True)
class QueuedJob:
    """A job that has not ended."""

    job_id: str
    state: str
    """PENDING, RUNNING, COMPLETING, ..."""
    reason: str = ""
    """Why it waits."""


def require_commands() -> None:
    """Raise UsageError where jobs cannot be submitted from this machine."""
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if missing:
        raise UsageError(
            f"hydra/launcher=slurm, but no {missing[0]} on PATH",
            "jobs are submitted with SLURM's own commands",
            "log in to a machine of the cluster (or load its slurm module), or give hydra/launcher=local",
        )


def queued_jobs() -> dict[tuple[str, int], QueuedJob]:
    """Our jobs that wait or run, by name and place in the array (0 for a job that is none).

    Raises FailureError where SLURM does not answer.
    """
    text = _answer(["squeue", "--me", "--noheader", "--array", f"--format={FORMAT}"])
    jobs = {}
    for line in text.splitlines():
        name, place, array, own, state, reason = line.split("|", 5)
        if name.startswith(PREFIX):
            is_array = place.strip().isdecimal()
            job_id = f"{array}_{place}" if is_array else own
            jobs[name, int(place) if is_array else 0] = QueuedJob(job_id, state, reason)
    return jobs


def state_of(job_id: str) -> str:
    """State of one job, `<array>_<place>` for one of an array; empty where SLURM does not know or answer."""
    try:
        return _answer(["squeue", "--noheader", "--jobs", job_id, "--format=%T"]).strip()
    except FailureError:
        return ""


def require_acceptable(script: Path) -> None:
    """Raise UsageError where SLURM would refuse a script: partition, account, memory, time, constraint."""
    asked = subprocess.run(["sbatch", "--test-only", str(script)], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        raise refused(asked.stderr)


def refused(said: str) -> UsageError:
    """The error for what sbatch does not take."""
    lines = [line.removeprefix("sbatch: ").removeprefix("error: ").strip() for line in said.splitlines()]
    lines = [line.removeprefix("allocation failure: ") for line in lines if line] or ["no reason given"]
    if any("Unable to contact" in line or "Socket timed out" in line for line in lines):
        raise no_answer("; ".join(dict.fromkeys(lines)))
    return UsageError(
        f"sbatch refuses the jobs: {'; '.join(dict.fromkeys(lines))}",
        "partition, account, qos, memory, processors, GPUs, time limit and constraint are those of the cluster",
        "compare launcher.* with `sinfo` (partitions and nodes) and `scontrol show partition`; nothing was submitted",
    )


def no_answer(said: str) -> FailureError:
    """The error where SLURM does not answer."""
    return FailureError(
        f"SLURM does not answer: {said}",
        "its controller must be up to submit, watch and cancel jobs",
        "try again later; `sinfo` and `scontrol ping` tell more",
    )


def cancel(job_ids: Sequence[str]) -> None:
    """Cancel jobs; those that have ended meanwhile are no error."""
    _answer(["scancel", "--quiet", *job_ids])


def cancel_named(names: Sequence[str]) -> None:
    """Cancel the jobs of these names, if there are any and SLURM answers."""
    with suppress(FailureError):
        _answer(["scancel", "--quiet", "--me", f"--name={','.join(names)}"])


def largest_array() -> int:
    """How many jobs an array may have: MaxArraySize of the cluster. Raises FailureError where SLURM does not answer."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _answer(["scontrol", "show", "config"]), re.MULTILINE)
    return max(int(found[1]), 1) if found else USUAL_ARRAY


def _answer(command: Sequence[str]) -> str:
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise no_answer(f"{command[0]}: {error}") from error
    if asked.returncode != 0:
        raise no_answer((asked.stderr.strip() or f"{command[0]} failed").splitlines()[0])
    return asked.stdout
