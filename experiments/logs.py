"""What the jobs of a sweep have written: the end of each log.

    python -m experiments.logs <sweep>               of all its jobs, each as it was submitted last
    python -m experiments.logs <run>                 of the job that had a run, by its key or folder
    python -m experiments.logs <sweep> -f            and what is added, until the jobs have ended
    python -m experiments.logs <sweep> --lines 0     all of it

A job has a log of what it says of itself (.err) and one of what it prints (.out), for each of its processes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments.command import add_outputs_dir, leave, require_folder, run_command
from experiments.jobs import ledger
from experiments.jobs.logs import ALL, Job, follow, jobs_of, tail
from experiments.naming import listed
from tinylora.records.folder import run_folders
from tinylora.settings.command_parser import CommandParser
from tinylora.settings.errors import UsageError


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the logs; the exit status."""
    parser = CommandParser(
        prog="python -m experiments.logs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", help="id of a sweep, or key or folder of a run; the beginning is enough")
    parser.add_argument(
        "-f", "--follow", action="store_true", help="go on with what is added, until the jobs have ended"
    )
    parser.add_argument("--lines", type=int, default=20, help=f"of the end of each log (%(default)s; {ALL}: all)")
    add_outputs_dir(parser)
    options = parser.parse_args(arguments)
    return run_command(lambda: _show(options), interrupted="")  # Ctrl-C is how following ends


def _show(options: argparse.Namespace) -> None:
    if options.lines < ALL:
        raise UsageError(f"--lines {options.lines}", "it is a number of lines, or 0 for all", "give --lines 20")
    outputs = require_folder(options.outputs_dir)
    jobs = _jobs(outputs, options.what)
    shown: Path | None = None
    places: dict[Path, int] = {}
    for job in jobs:
        paths = job.logs()
        if not paths:
            print(f"==> {job}: nothing is written yet", flush=True)
        for path in paths:
            text, places[path] = tail(path, options.lines)
            shown = _print(job, path, text, shown)
    if options.follow:
        for job, path, text in follow(jobs, places):
            shown = _print(job, path, text, shown)


def _print(job: Job, path: Path, text: bytes, shown: Path | None) -> Path | None:
    """Print a part of a log, with its name where another one was shown before; the log that is shown now."""
    if not text:
        return shown
    if path != shown:
        print(f"==> {job}: {path}")
    sys.stdout.write(text.decode(errors="replace"))
    sys.stdout.flush()
    return path


def _jobs(outputs: Path, given: str) -> list[Job]:
    """The jobs that a sweep or a run was given to last. Raises UsageError where there is none."""
    sweeps = ledger.all_sweeps(outputs)
    word = Path(given).name if Path(given).is_dir() else given
    keys = {sweep.id: set(sweep.runs) for sweep in sweeps if sweep.id.startswith(word)}
    keys |= {key: {key} for key in _all_runs(outputs, sweeps) if key.startswith(word)}
    if len(keys) != 1:
        what = "several sweeps or runs" if keys else "no sweep and no run"
        raise UsageError(
            f"{given}: {what} in {outputs}",
            "a sweep or a run is named by the beginning of its id or key that no other has",
            f"give one of {listed(keys or [sweep.id for sweep in sweeps])}, or --outputs-dir of the sweep",
        )
    ((name, runs),) = keys.items()
    jobs = jobs_of(runs, sweeps)
    if not jobs:
        raise UsageError(
            f"{name}: no job has had it",
            "logs are those of jobs, which hydra/launcher=slurm or local submits",
            f"what a run recorded lies in {outputs}/<key>: `python -m experiments.samples <key>`, or its metrics.jsonl",
        )
    return jobs


def _all_runs(outputs: Path, sweeps: Iterable[ledger.Sweep]) -> set[str]:
    return {key for sweep in sweeps for key in sweep.runs} | {folder.name for folder in run_folders(outputs)}


if __name__ == "__main__":
    leave(main)
