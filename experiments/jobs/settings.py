"""The settings of a launcher that submits jobs: `hydra/launcher=slurm` or `local`, each as launcher.<name>=<value>.

Imported whenever Hydra starts, so without anything heavy; what they do is in `request`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from tinylora.settings.errors import UsageError


class Kind(Enum):
    """Where jobs run."""

    slurm = "slurm"
    local = "local"


@dataclass(frozen=True)
class LaunchSettings:
    """What jobs ask for, and how they are handled. None leaves a choice to the cluster."""

    partition: str | None = None
    """Partition (queue)."""
    account: str | None = None
    """Account that is charged."""
    qos: str | None = None
    """Quality of service."""
    gpus: int | None = None
    """GPUs per job; locally: None lets jobs see all of the machine's."""
    tasks: int | None = None
    """Processes that train a pack together (data parallel), each with `cpus` and one of `gpus`; None: one per GPU."""
    cpus: int | None = 4
    """Processors per task, and threads of PyTorch in it."""
    memory_gb: float | None = None
    """Memory per job; with pack.max_lanes=auto and no GPUs, what decides how many lanes a pack has."""
    minutes: int = 720
    """Time limit of a job; what is not finished then is requeued."""
    constraint: str | None = None
    """Features that the node must have."""
    array_parallelism: int = 256
    """Most jobs that run at once; locally: background processes that share the packs."""
    setup: list[str] = field(default_factory=list)
    """Shell commands before a job's Python, such as [module load cuda]."""
    sbatch: dict[str, Any] = field(default_factory=dict)
    """Further #SBATCH parameters, such as {nice: 100, exclude: node7}."""
    notice_seconds: int = 90
    """How long before its end a job is told to save its state: longer than the longest step."""
    max_requeues: int = 10
    """How often a job that was preempted, killed or out of time is queued again."""
    wait: bool = False
    """Stay until all jobs have ended, with progress."""
    dry_run: bool = False
    """Write everything and submit nothing."""

    def __post_init__(self) -> None:
        whole = {
            "gpus": 0,
            "tasks": 1,
            "cpus": 1,
            "minutes": 1,
            "array_parallelism": 1,
            "notice_seconds": 1,
            "max_requeues": 0,
        }
        for name, least in whole.items():
            value = getattr(self, name)
            if value is None and name in ("gpus", "tasks", "cpus"):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise _wrong(name, value, f"a whole number of at least {least}", max(least, 1))
        if self.gpus and self.ranks > self.gpus:
            raise _wrong("tasks", self.tasks, f"at most launcher.gpus={self.gpus}: every task has a GPU", self.gpus)
        if self.memory_gb is not None and (_no_number(self.memory_gb) or self.memory_gb <= 0):
            raise _wrong("memory_gb", self.memory_gb, "a number above 0", 8)
        for name in ("partition", "account", "qos", "constraint"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and value):
                raise _wrong(name, value, "a name of your cluster's", "<name>")
        if not isinstance(self.setup, list) or not all(isinstance(line, str) for line in self.setup):
            raise _wrong("setup", self.setup, "a list of shell commands", "'[\"module load cuda\"]'")
        for name in ("wait", "dry_run"):
            if not isinstance(getattr(self, name), bool):
                raise _wrong(name, getattr(self, name), "true or false", "true")

    @property
    def ranks(self) -> int:
        """Processes per job."""
        return self.tasks or self.gpus or 1

    def plain(self) -> dict[str, Any]:
        """As plain values, for the record."""
        return asdict(self)


LOCAL_DEFAULTS: dict[str, Any] = {"array_parallelism": 1, "cpus": None, "minutes": 60 * 24 * 7}
"""Defaults that differ for jobs on one's own machine: one pack at a time, and a week for it."""


def _no_number(value: Any) -> bool:
    return isinstance(value, bool) or not isinstance(value, int | float)


def _wrong(name: str, value: Any, rule: str, example: Any) -> UsageError:
    shown = "null" if value is None else value
    return UsageError(f"launcher.{name}={shown}", f"launcher.{name} is {rule}", f"give launcher.{name}={example}")
