"""Cancel a submitted sweep: its jobs end, and what they have saved stays.

python -m experiments.cancel <sweep> [--outputs-dir outputs]

The command that submitted it submits what is unfinished again.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import suppress

from experiments.jobs import ledger as sweeps
from experiments.jobs import slurm
from experiments.jobs.ledger import Active, Sweep
from experiments.jobs.settings import Kind
from experiments.sync import add_outputs_dir, require_folder
from tinylora.settings.errors import TinyLoraError


def main(arguments: list[str] | None = None) -> int:
    """Cancel, say what was done; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m experiments.cancel", description="Cancel a submitted sweep.")
    parser.add_argument("sweep", help="id of the sweep, or its beginning")
    add_outputs_dir(parser)
    options = parser.parse_args(arguments)
    try:
        outputs = options.outputs_dir.expanduser().resolve()
        require_folder(outputs)
        with sweeps.locked(outputs):
            jobs = cancel(sweeps.find(outputs, options.sweep))
    except TinyLoraError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    print(f"cancelled: {', '.join(jobs)}" if jobs else "no job of this sweep waits or runs")
    return 0


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
    (sweep.folder / sweeps.CANCELLED).touch()  # before they are told: no job requeues itself then
    in_slurm = [job for job, kind in found.items() if kind is Kind.slurm]
    if in_slurm:
        slurm.cancel(in_slurm)
    for process in found.keys() - set(in_slurm):
        with suppress(ProcessLookupError):
            os.kill(int(process), signal.SIGTERM)  # submitit's controller, which tells the job
    return list(found)


if __name__ == "__main__":
    sys.exit(main())
