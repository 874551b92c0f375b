"""Submitting a sweep: its points are checked and formed into packs, the sources are copied, and each pack gets a job.

Runs that have ended, wait or run already are not submitted again. A pack that was begun keeps all its lanes, also those
that have ended, which are skipped: so its batches stay the same, and with them its results. A submission that is
refused leaves nothing behind on the disk.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from submitit import LocalExecutor, SlurmExecutor
from submitit.core.utils import FailedJobError, FailedSubmissionError, environment_variables

from experiments.display import counted
from experiments.jobs import ledger, slurm, snapshot
from experiments.jobs.at_end import EndJob, parameters_of_end, submit_end
from experiments.jobs.job import PackJob
from experiments.jobs.ledger import Submission, Sweep
from experiments.jobs.request import device_of_jobs, environment, parameters, place_of_jobs, python_of
from experiments.jobs.settings import Kind, LaunchSettings
from experiments.jobs.states import Active
from experiments.planning.capacity import Place
from experiments.planning.packing import packs_of_sweep, unfinished
from experiments.sweep import check
from tinylora.engine.ranks import require_work, world_size
from tinylora.models.find import is_here
from tinylora.records.progress import labels
from tinylora.settings.config import RunConfig
from tinylora.settings.errors import FailureError, UsageError
from tinylora.settings.store_urls import file_of


def submit_sweep(points: Sequence[RunConfig], kind: Kind, settings: LaunchSettings) -> Sweep | None:
    """Submit the points that have not ended and are not queued, and print what was done; None where there were none.

    Raises UsageError or FailureError before anything is submitted.
    """
    if world_size() > 1:
        raise UsageError(
            f"hydra/launcher={kind} in one of {world_size()} processes",
            "a sweep is submitted once; its jobs start their processes themselves",
            f"start it without torchrun, and give launcher.tasks={world_size()}",
        )
    if kind is Kind.slurm:
        slurm.require_commands()
    elif settings.nodes > 1:
        given, rule = f"launcher.nodes={settings.nodes} with hydra/launcher={kind}", "this machine is one node"
        raise UsageError(given, rule, "leave launcher.nodes out, or give hydra/launcher=slurm")
    settings = _with_places(kind, settings)
    outputs = Path(points[0].outputs_dir)
    with _as_before_unless_used(outputs):
        _check(points, place_of_jobs(kind, settings))
        return _submit_points(points, outputs, kind, settings)


def _with_places(kind: Kind, settings: LaunchSettings) -> LaunchSettings:
    """The settings with the number of packs that a job trains at once. Raises UsageError."""
    if settings.packs_per_job == 1:
        return settings
    if kind is Kind.local and settings.gpus is None:
        settings = replace(settings, gpus=_gpus_here())
    return replace(settings, packs_per_job=settings.places)


def _gpus_here() -> int:
    import torch

    return torch.cuda.device_count()


@contextmanager
def _as_before_unless_used(outputs: Path) -> Iterator[None]:
    """The checks make the folder, to see whether it can be written to; inside, an empty one goes where it was new."""
    there = outputs.exists()
    try:
        yield
    finally:
        if not there:
            with suppress(OSError):  # it is not empty, or was not made
                outputs.rmdir()


def _submit_points(points: Sequence[RunConfig], outputs: Path, kind: Kind, settings: LaunchSettings) -> Sweep | None:
    with ledger.locked(outputs):
        others = ledger.all_sweeps(outputs)
        busy = Active(others).runs(others)
        going = {point.run_key for point in unfinished(points)}
        todo = going - busy.keys()
        _say_left_out(points, going, busy)
        if not todo:
            return None
        packs = []
        for pack in packs_of_sweep(points, lambda: device_of_jobs(kind, settings), settings.ranks, busy):
            if any(point.run_key in todo for point in pack):
                require_work(pack, settings.ranks)
                packs.append([point.run_key for point in pack])
        return _submit(ledger.sweep_of(points, labels(points)), packs, kind, settings)


def _submit(sweep: Sweep, packs: list[list[str]], kind: Kind, settings: LaunchSettings) -> Sweep:
    number = max((submission.number for submission in sweep.submissions), default=0) + 1
    place, shares = sweep.folder / str(number), _shares(len(packs), kind, settings)
    array_size = _array_size(shares or len(packs), kind, settings)
    submission = Submission(
        number, round(time.time(), 3), kind, sys.argv[1:], asdict(settings), {}, packs, [], array_size, shares
    )
    sweep.submissions.append(submission)
    try:
        submission = replace(submission, source=snapshot.take(place / ledger.CODE))
        sweep.submissions[-1] = submission
        sweep.save()  # jobs read it
        (place / ledger.JOBS).mkdir(parents=True, exist_ok=True)
        jobs = (_to_slurm if kind is Kind.slurm else _to_local)(sweep, submission, settings)
    except BaseException as error:
        if kind is Kind.slurm and not _refused_at_once(submission, error):  # sbatch may have taken some a moment ago
            slurm.cancel_named([sweep.job_name(submission, array) for array in range(len(submission.arrays))])
        sweep.drop(submission)
        if isinstance(error, OSError):
            rule = "sources, scripts and what submitit hands to jobs are written there before jobs are submitted"
            raise FailureError(f"{place}: {error}", rule, "make room, or give another outputs_dir") from error
        raise
    sweep.submissions[-1] = replace(submission, jobs=jobs)
    sweep.save()
    _say_submitted(sweep, sweep.submissions[-1])
    return sweep


def _refused_at_once(submission: Submission, error: BaseException) -> bool:
    return isinstance(error, UsageError) and len(submission.arrays) == 1


def _shares(packs: int, kind: Kind, settings: LaunchSettings) -> int | None:
    """How many jobs share the packs; None where each pack has one of its own."""
    if kind is Kind.slurm and settings.places == 1:
        return None
    return min(settings.array_parallelism, -(-packs // settings.places))


def _array_size(jobs: int, kind: Kind, settings: LaunchSettings) -> int | None:
    """Jobs of an array, where SLURM takes none that has all. Raises UsageError or FailureError."""
    if kind is not Kind.slurm or jobs == 1 or jobs <= (most := slurm.largest_array()):
        return None
    arrays = -(-jobs // most)
    if settings.array_parallelism < arrays:
        raise UsageError(
            f"launcher.array_parallelism={settings.array_parallelism} for {jobs} jobs",
            f"the cluster's arrays have at most {most} jobs (MaxArraySize), and each of {arrays} runs at least one",
            f"give launcher.array_parallelism={arrays} or more, or larger packs (pack.max_lanes)",
        )
    return most


def _to_slurm(sweep: Sweep, submission: Submission, settings: LaunchSettings) -> list[str]:
    """Submit the arrays (or a job, for one pack); returns the ids of their jobs, none for a dry run."""
    place, arrays = sweep.place(submission), submission.arrays
    executor = SlurmExecutor(place / ledger.JOBS, max_num_timeout=settings.max_requeues, python=python_of(settings))
    of_each = replace(settings, array_parallelism=settings.array_parallelism // len(arrays))
    asked = parameters(sweep, submission, of_each)
    executor.update_parameters(**asked)
    script = place / ledger.JOBS / "submission.sh"
    script.write_text(_script(executor, len(arrays[0])), encoding="utf-8")
    slurm.require_acceptable(script)
    if settings.dry_run:
        return []
    (sweep.folder / ledger.CANCELLED).unlink(missing_ok=True)
    ids: list[str] = []
    for array, of_array in enumerate(arrays):
        executor.update_parameters(job_name=sweep.job_name(submission, array))
        shares = [submission.packs_of_jobs[job] for job in of_array]
        jobs = [PackJob(str(sweep.folder), submission.number, packs) for packs in shares]
        try:
            ids += [str(job.job_id) for job in executor.submit_array(jobs)]
        except (FailedJobError, FailedSubmissionError) as error:
            raise slurm.refused(str(error)) from error
    if settings.at_end is not None:
        last = SlurmExecutor(executor.folder, python=python_of(settings))
        last.update_parameters(**parameters_of_end(asked, f"{sweep.job_name(submission)}.end", ids))
        submit_end(last, EndJob(str(sweep.folder), submission.number))
    return ids


def _script(executor: Any, jobs: int) -> str:
    """The batch script that submitit will write: SLURM is asked whether it takes it; a dry run leaves it to be read."""
    copy = type(executor)(executor.folder)
    copy.parameters = executor.parameters | ({"map_count": jobs} if jobs > 1 else {})
    return str(copy._make_submission_file_text(executor._submitit_command_str, "script"))


def _to_local(sweep: Sweep, submission: Submission, settings: LaunchSettings) -> list[str]:
    """Start background processes that share the packs; returns their process ids, none for a dry run."""
    if settings.dry_run:
        return []
    place = sweep.place(submission)
    executor = LocalExecutor(place / ledger.JOBS, max_num_timeout=settings.max_requeues, python=python_of(settings))
    executor.update_parameters(
        timeout_min=settings.minutes,
        signal_delay_s=settings.notice_seconds,
        gpus_per_node=_gpus_here() if settings.gpus is None else settings.gpu_count,
        setup=settings.setup,
        tasks_per_node=settings.ranks,
    )
    (sweep.folder / ledger.CANCELLED).unlink(missing_ok=True)
    jobs = [PackJob(str(sweep.folder), submission.number, packs) for packs in submission.packs_of_jobs]
    with environment_variables(**environment(place / ledger.CODE, settings)), _without_streams():
        ids = [str(job.job_id) for job in executor.submit_array(jobs)]
        if settings.at_end is not None:
            executor.update_parameters(gpus_per_node=0, tasks_per_node=1)
            submit_end(executor, EndJob(str(sweep.folder), submission.number, tuple(ids)))
        return ids


@contextmanager
def _without_streams() -> Iterator[None]:
    """Processes started inside do not hold the terminal or the pipes of this one open."""
    kept = [os.dup(number) for number in range(3)]
    try:
        with open(os.devnull, "r+b") as nothing:
            for number in range(3):
                os.dup2(nothing.fileno(), number)
        yield
    finally:
        for number, copy in enumerate(kept):
            os.dup2(copy, number)
            os.close(copy)


def _check(points: Sequence[RunConfig], place: Place | None) -> None:
    """Raise UsageError or FailureError for the first point that cannot run in a job."""
    for point in points:
        if point.tracking.uri is not None and file_of(point.tracking.uri) is not None:
            raise UsageError(
                f"tracking.uri={point.tracking.uri} with jobs",
                "jobs write to a tracking server, or to run folders alone: one file would have many writers",
                "leave tracking.uri out (`python -m experiments.sync` then fills the SQLite store), or give a server's",
            )
    check(points, in_jobs=True, place=place)
    for name in sorted({point.model.identity for point in points if not is_here(point.model)}):
        print(
            f"model {name} is not here yet, and the jobs will fetch it: where their nodes have no connection, "
            "first give `python -m experiments.prepare` with the same settings",
            file=sys.stderr,
        )


def _say_left_out(points: Sequence[RunConfig], going: set[str], busy: dict[str, str]) -> None:
    if len(going) < len(points):
        print(f"{len(points) - len(going)} of {len(points)} runs have ended before")
    jobs = [busy[point.run_key] for point in points if point.run_key in busy.keys() & going]
    if jobs:
        unique = ", ".join(dict.fromkeys(jobs))
        print(f"{len(jobs)} of {len(points)} runs are queued or running already: jobs {unique}")


def _say_submitted(sweep: Sweep, submission: Submission) -> None:
    runs = sum(len(pack) for pack in submission.packs)
    what = f"{counted(runs, 'run')} in {counted(len(submission.packs), 'pack')}"
    if not submission.jobs:
        print(f"dry run: {what}; nothing is submitted. Scripts and sources: {sweep.place(submission)}")
        return
    where = "jobs" if submission.kind is Kind.slurm else "background processes"
    outputs = sweep.folder.parent.parent
    print(f"sweep {sweep.id}: {what}, {where} {', '.join(submission.jobs)}")
    print(f"  watch:  python -m experiments.status {sweep.id} --watch --outputs-dir {outputs}")
    print(f"  cancel: python -m experiments.cancel {sweep.id} --outputs-dir {outputs}")
    print(f"  logs:   {sweep.place(submission) / ledger.JOBS}")
