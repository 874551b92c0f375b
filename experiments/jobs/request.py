"""What a job asks for, as submitit and SLURM call it: device, parameters, environment, the last lines of its script."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template

from experiments.jobs.endings import ENDED_BY_MEMORY
from experiments.jobs.ledger import CANCELLED, CODE, Submission, Sweep
from experiments.jobs.settings import Kind, LaunchSettings
from experiments.planning.capacity import UNKNOWN, Place
from experiments.planning.devices import GB, GIB, Device, find_device
from tinylora.settings.errors import UsageError
from tinylora.settings.files import CACHE_VARIABLE, cache_folder

SECONDS_FOR_ALL_TO_END = 1800  # from the end of one task of a job to that of the last: longer than a step
BEGUN = "begun=$(stat -Lc %s /proc/self/fd/2)"  # bytes of the log before this start of the job
REQUEUE = Path(__file__).with_name("requeue.sh.j2")  # shell after the job's Python: it queues a killed job again


def python_of(settings: LaunchSettings) -> str:
    """What starts Python in a job. -P: not the working directory's sources are imported, but those of PYTHONPATH."""
    return f"{settings.python or shlex.quote(sys.executable)} -P"


def device_of_jobs(kind: Kind, settings: LaunchSettings) -> Device:
    """What a job computes on: a GPU like those here, or the processors' memory that it asks for. Raises UsageError."""
    here = find_device()
    if kind is Kind.local or (settings.gpus and here.accelerator):
        return here
    if not settings.gpus and settings.memory_gb is not None:
        each = settings.memory_gb / settings.places
        return Device("a job", each * GB / GIB, accelerator=False)
    raise UsageError(
        "pack.max_lanes=auto for jobs whose memory is not known here",
        "lanes are chosen by the memory of the jobs' GPU (known where this machine has one too) or launcher.memory_gb",
        "give pack.memory_gib=<GiB for rows, such as half of the GPU's>, or pack.max_lanes=<number>",
    )


def place_of_jobs(kind: Kind, settings: LaunchSettings) -> Place | None:
    """What is known of the machine of a job; None for background processes, which are here."""
    if kind is Kind.local:
        return None
    host, memory = UNKNOWN.host, settings.job_memory_gb
    if memory is not None:
        host = Device("a job", memory / settings.places * GB / GIB, accelerator=False)
    if not settings.gpus:
        return Place(host, host)
    found = find_device()
    return Place(found if found.accelerator else UNKNOWN.device, host)


def parameters(sweep: Sweep, submission: Submission, settings: LaunchSettings) -> dict[str, Any]:
    """What SLURM is asked for, in submitit's names."""
    code = sweep.place(submission) / CODE
    requeue = Template(REQUEUE.read_text(encoding="utf-8"), undefined=StrictUndefined)
    cancelled, memory = shlex.quote(str(sweep.folder / CANCELLED)), shlex.quote(ENDED_BY_MEMORY)
    exports = [f"export {name}={shlex.quote(value)}" for name, value in environment(code, settings).items()]
    parameters: dict[str, Any] = {
        "job_name": sweep.job_name(submission),
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "constraint": settings.constraint,
        "exclude": settings.exclude,
        "gres": settings.gres,
        "comment": settings.comment,
        "mail_user": settings.mail_user,
        "mail_type": settings.mail_type,
        "gpus_per_node": settings.gpus,
        "cpus_per_task": settings.job_cpus,
        "mem": _megabytes(settings.memory_gb),
        "mem_per_gpu": _megabytes(settings.memory_per_gpu_gb),
        "time": settings.minutes,
        "nodes": settings.nodes,
        "ntasks_per_node": settings.ranks_per_node,
        "signal_delay_s": settings.notice_seconds,
        "array_parallelism": settings.array_parallelism,
        "additional_parameters": {"requeue": True, "chdir": str(code)} | settings.sbatch,
        "setup": [*exports, BEGUN, *_setup(settings.setup)],
        "srun_args": _srun_arguments(settings),
        "teardown": requeue.render(cancelled=cancelled, most=settings.max_requeues, memory=memory).splitlines(),
    }
    return {name: value for name, value in parameters.items() if value is not None} | {"wckey": None}  # not submitit's


def _megabytes(gigabytes: float | None) -> str | None:
    return None if gigabytes is None else f"{round(gigabytes * 1024)}MB"


def _setup(lines: list[str]) -> list[str]:
    """The user's lines, of which one that fails ends the job: what it was to provide would be missing."""
    said = '"error: launcher.setup: $BASH_COMMAND ended with status $status"'
    failing = f"trap 'status=$?; echo {said} >&2; exit $status' ERR"
    return [failing, *lines, "trap - ERR"] if lines else []


def _srun_arguments(settings: LaunchSettings) -> list[str]:
    """Arguments of srun: the processors of a task, which it does not take over from sbatch, and how tasks end.

    Where one of several tasks fails, the others notice it and end with its error; srun ends those that do not.
    """
    cpus = [] if settings.job_cpus is None else [f"--cpus-per-task={settings.job_cpus}"]
    several = ["--kill-on-bad-exit=0", f"--wait={SECONDS_FOR_ALL_TO_END}"] if settings.ranks > 1 else []
    return [*cpus, *several, *settings.srun_args]


def environment(code: Path, settings: LaunchSettings) -> dict[str, str]:
    """Variables of a job: Python imports the copied sources first, PyTorch uses the processors that were asked for."""
    path = os.pathsep.join(filter(None, [str(code), os.environ.get("PYTHONPATH")]))
    threads = {} if settings.cpus is None else {"OMP_NUM_THREADS": str(settings.cpus)}
    cache = {CACHE_VARIABLE: str(cache_folder())} if os.environ.get(CACHE_VARIABLE) else {}  # jobs begin elsewhere
    return {"PYTHONPATH": path} | threads | cache | {name: str(value) for name, value in settings.environment.items()}
