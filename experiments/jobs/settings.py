"""The settings of a launcher that submits jobs: `hydra/launcher=slurm` or `local`, each as launcher.<name>=<value>.

Imported whenever Hydra starts, so without anything heavy; what they do is in `request`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tinylora.settings.errors import UsageError


class Kind(StrEnum):
    """Where jobs run."""

    slurm = "slurm"
    local = "local"


OPTIONAL = ("partition", "account", "qos", "gpus", "tasks", "cpus", "memory_gb", "constraint")  # may be null


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
        for name in ("gpus", "tasks", "cpus", "minutes", "array_parallelism", "notice_seconds", "max_requeues"):
            value, least = getattr(self, name), 0 if name in ("gpus", "max_requeues") else 1
            fits = type(value) is int and value >= least  # True is no number
            self._require(name, fits, f"a whole number of at least {least}", 1)
        fits = not self.gpus or self.ranks <= self.gpus
        self._require("tasks", fits, f"at most launcher.gpus={self.gpus}: every task has a GPU", self.gpus)
        memory: Any = self.memory_gb
        self._require("memory_gb", type(memory) in (int, float) and memory > 0, "a number above 0", 8)
        for name in ("partition", "account", "qos", "constraint"):
            value = getattr(self, name)
            self._require(name, isinstance(value, str) and value != "", "a name of your cluster's", "<name>")
        fits = isinstance(self.setup, list) and all(isinstance(line, str) for line in self.setup)
        self._require("setup", fits, "a list of shell commands", "'[\"module load cuda\"]'")
        for name in ("wait", "dry_run"):
            self._require(name, isinstance(getattr(self, name), bool), "true or false", "true")

    def _require(self, name: str, fits: bool, rule: str, example: Any) -> None:
        value = getattr(self, name)
        if not (fits or (value is None and name in OPTIONAL)):
            shown = "null" if value is None else value
            given, remedy = f"launcher.{name}={shown}", f"give launcher.{name}={example}"
            raise UsageError(given, f"launcher.{name} is {rule}", remedy)

    @property
    def ranks(self) -> int:
        """Processes per job."""
        return self.tasks or self.gpus or 1


LOCAL_DEFAULTS: dict[str, Any] = {"array_parallelism": 1, "cpus": None, "minutes": 60 * 24 * 7}
"""Defaults that differ for jobs on one's own machine: one pack at a time, and a week for it."""
