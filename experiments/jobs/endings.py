"""Why a job has ended, from its log: what we said ourselves, or what SLURM, Python or the system said of it.

srun has the last word in a log ("task 0: Exited with exit code 1"), and it hides the reason.
"""

from __future__ import annotations

import re
from pathlib import Path

LOG_TAIL = 200_000  # bytes of a log in which the reason is looked for
LONGEST = 300  # characters that are shown
OUT_OF_MEMORY = "oom[_-]kill|out of memory|MemoryError|bad_alloc|(can't|cannot) allocate memory"
"""What is said where memory was not enough: by SLURM, Python, PyTorch or the system; without regard to case."""
ENDED_BY_MEMORY = "^(srun|slurmstepd)[^:]*: .*(oom[_-]kill|out of memory)|std::bad_alloc"
"""The same of a process that was killed for it, by SLURM, or that has aborted."""

_STARTED = re.compile(r"^pack \d+ of sweep ", re.MULTILINE)  # each start of a job says it, and all write to one log
_OWN = re.compile(r"(?:error|not requeued): .*")
_OTHERS = (
    (re.compile(OUT_OF_MEMORY, re.IGNORECASE), "out of memory: give launcher.memory_gb more, or fewer lanes"),
    (re.compile(r"DUE TO TIME LIMIT"), "its time limit was over (launcher.minutes)"),
    (re.compile(r"DUE TO NODE FAILURE"), "its node failed"),
    (re.compile(r"DUE TO PREEMPTION"), "it was preempted"),
)
_OF_SLURM = re.compile(r"(?:srun|slurmstepd)[^:]*: |submitit [A-Z]")


def why_ended(log: Path) -> str:
    """The reasons that the newest start of a job has left in its log, or its last line; empty where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(log.stat().st_size - LOG_TAIL, 0))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in _STARTED.split(text)[-1].splitlines() if line.strip()]
    reasons = dict.fromkeys(reason for line in lines if (reason := _reason(line)))
    of_others = [line for line in lines if not _OF_SLURM.match(line)] or lines
    return ("; ".join(reasons) or (of_others[-1] if of_others else ""))[:LONGEST]


def _reason(line: str) -> str | None:
    if own := _OWN.match(line):
        return own[0]
    return next((reason for pattern, reason in _OTHERS if pattern.search(line)), None)
