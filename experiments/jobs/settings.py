"""The settings of a launcher that submits jobs: `hydra/launcher=slurm` or `local`, each as launcher.<name>=<value>.

A cluster profile (`+cluster=<name>`, docs/cluster.md) is a file of them. Imported whenever Hydra starts, so without
anything heavy; what they do is in `request`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from tinylora.settings.errors import UsageError, require


class Kind(StrEnum):
    """Where jobs run."""

    slurm = "slurm"
    local = "local"


NAMES = (
    "partition",
    "account",
    "qos",
    "constraint",
    "exclude",
    "gres",
    "comment",
    "mail_user",
    "mail_type",
    "python",
    "at_end",
)
"""Settings that are texts."""
OPTIONAL = (*NAMES, "gpus", "tasks", "cpus", "memory_gb", "memory_per_gpu_gb")  # may be null
AUTO = "auto"
TYPED_GPUS = re.compile(r"[A-Za-z][\w.-]*:([1-9]\d*)")  # h100:4
ALIASES = {
    "timeout_min": "minutes",
    "gpus_per_node": "gpus",
    "tasks_per_node": "tasks",
    "cpus_per_task": "cpus",
    "mem_gb": "memory_gb",
    "signal_delay_s": "notice_seconds",
    "max_num_timeout": "max_requeues",
    "additional_parameters": "sbatch",
}
"""What hydra-submitit-launcher calls them, which is taken, too."""


@dataclass(frozen=True)
class LaunchSettings:
    """What jobs ask for, and how they are handled. None leaves a choice to the cluster."""

    partition: str | None = None
    """Partition (queue)."""
    account: str | None = None
    """Account that is charged."""
    qos: str | None = None
    """Quality of service."""
    gpus: int | str | None = None
    """GPUs per job, 4 or with their type, h100:4; locally: None lets jobs see all of the machine's."""
    nodes: int = 1
    """Nodes of a job, whose processes train a pack together; tasks, GPUs and memory are then those of each node."""
    tasks: int | None = None
    """Processes that train a pack together (data parallel), each with `cpus` and one of `gpus`; None: one per GPU."""
    packs_per_job: int | str = 1
    """Packs that a job trains at once, each in a process with `cpus` and one of `gpus`; auto: one for each GPU."""
    cpus: int | None = 4
    """Processors per task, and threads of PyTorch in it; per pack where a job trains several at once."""
    memory_gb: float | None = None
    """Memory per job; with pack.max_lanes=auto and no GPUs, what decides how many lanes a pack has."""
    memory_per_gpu_gb: float | None = None
    """The same for each GPU of the job, instead of memory_gb."""
    minutes: int = 720
    """Time limit of a job; what is not finished then is requeued."""
    constraint: str | None = None
    """Features that the node must have."""
    exclude: str | None = None
    """Nodes that jobs do not run on."""
    gres: str | None = None
    """Generic resources."""
    comment: str | None = None
    """A comment that SLURM keeps."""
    mail_user: str | None = None
    """Who is told by mail what mail_type says."""
    mail_type: str | None = None
    """Of which events: END,FAIL."""
    array_parallelism: int = 256
    """Most jobs that run at once; locally: background processes that share the packs."""
    setup: list[str] = field(default_factory=list)
    """Shell commands before a job's Python, such as [module load cuda]."""
    python: str | None = None
    """What starts Python in a job, such as `apptainer exec --nv image.sif python`; None: the Python that submits."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables of a job, such as {HF_HUB_OFFLINE: "1"}."""
    srun_args: list[str] = field(default_factory=list)
    """Further arguments of srun, such as [--container-image=image.sqsh] of pyxis."""
    sbatch: dict[str, Any] = field(default_factory=dict)
    """Further #SBATCH parameters, such as {nice: 100, exclude: node7}."""
    notice_seconds: int = 90
    """How long before its end a job is told to save its state: longer than the longest step."""
    max_requeues: int = 10
    """How often a job that was preempted, killed or out of time is queued again."""
    at_end: str | None = None
    """A shell command that is run once all jobs of a submission have ended (see `at_end`)."""
    wait: bool = False
    """Stay until all jobs have ended, with progress."""
    dry_run: bool = False
    """Write everything and submit nothing."""

    @classmethod
    def of(cls, given: Mapping[str, Any], where: str = "") -> LaunchSettings:
        """The settings of these names, or of their ALIASES; `where` they were read. Raises UsageError for others."""
        own = {each.name: given[each.name] for each in fields(cls) if each.name in given}
        for alias, name in ALIASES.items():
            if (value := given.get(alias)) is not None:
                said = f"{where}launcher.{alias}={value}"
                rule = f"launcher.{name} is the same, and is given, too"
                usual = (getattr(LaunchSettings(), name), LOCAL_DEFAULTS.get(name), value)
                require(own[name] in usual, said, rule, f"give launcher.{name}={value}")
                own[name] = value
        for name in given.keys() - own.keys() - ALIASES.keys():
            near = difflib.get_close_matches(name, own, 1, cutoff=0.5) or ["partition"]
            known = ", ".join(own)
            raise UsageError(
                f"{where}launcher.{name}={given[name]}", f"a launcher has {known}", f"give launcher.{near[0]}=<value>"
            )
        return cls(**own)

    def __post_init__(self) -> None:
        for name in ("nodes", "tasks", "cpus", "minutes", "array_parallelism", "notice_seconds", "max_requeues"):
            value, least = getattr(self, name), 0 if name == "max_requeues" else 1
            fits = type(value) is int and value >= least  # True is no number
            self._require(name, fits, f"a whole number of at least {least}", 1)
        gpus: Any = self.gpus
        fits = (type(gpus) is int and gpus >= 0) or (isinstance(gpus, str) and TYPED_GPUS.fullmatch(gpus) is not None)
        self._require("gpus", fits, "a number of GPUs, or their type and number", "4, or h100:4")
        fits = not self.gpus or self.ranks_per_node <= self.gpu_count
        self._require("tasks", fits, f"at most launcher.gpus={self.gpus}: every task has a GPU", self.gpu_count)
        self._require_memory()
        self._require_packs()
        for name in NAMES:
            value = getattr(self, name)
            self._require(name, isinstance(value, str) and value != "", "a text", "<text>")
        for name in ("setup", "srun_args"):
            value = getattr(self, name)
            fits = isinstance(value, list) and all(isinstance(line, str) for line in value)
            self._require(name, fits, "a list of texts", "'[\"module load cuda\"]'")
        for name in ("sbatch", "environment"):
            self._require(name, isinstance(getattr(self, name), dict), "names with a value each", "'{name: value}'")
        for name in ("wait", "dry_run"):
            self._require(name, isinstance(getattr(self, name), bool), "true or false", "true")

    def _require_memory(self) -> None:
        for name in ("memory_gb", "memory_per_gpu_gb"):
            memory: Any = getattr(self, name)
            self._require(name, type(memory) in (int, float) and memory > 0, "a number above 0", 8)
        alone = self.memory_per_gpu_gb is None or (self.memory_gb is None and bool(self.gpus))
        self._require("memory_per_gpu_gb", alone, "for jobs with GPUs, instead of memory_gb", "null")

    def _require_packs(self) -> None:
        packs: Any = self.packs_per_job
        fits = packs == AUTO or (type(packs) is int and packs >= 1)
        self._require("packs_per_job", fits, "a number of packs that a job trains at once, or auto: one per GPU", 8)
        if packs == 1:
            return
        fits = not self.gpus or packs == AUTO or packs <= self.gpu_count
        self._require("packs_per_job", fits, f"at most launcher.gpus={self.gpus}: every pack has a GPU", self.gpu_count)
        alone = self.tasks in (None, 1)
        self._require("nodes", self.nodes == 1, f"1 with launcher.packs_per_job={packs}: such a job is on one node", 1)
        self._require("tasks", alone, f"1 with launcher.packs_per_job={packs}: each pack is trained by one process", 1)

    def _require(self, name: str, fits: bool, rule: str, example: Any) -> None:
        value = getattr(self, name)
        if not (fits or (value is None and name in OPTIONAL)):
            shown = "null" if value is None else value
            given, remedy = f"launcher.{name}={shown}", f"give launcher.{name}={example}"
            raise UsageError(given, f"launcher.{name} is {rule}", remedy)

    @property
    def ranks(self) -> int:
        """Processes that train a pack together."""
        return self.nodes * self.ranks_per_node

    @property
    def ranks_per_node(self) -> int:
        """How many of them are on one node."""
        return 1 if self.packs_per_job != 1 else self.tasks or self.gpu_count or 1

    @property
    def gpu_count(self) -> int:
        """GPUs per job; 0 where none are asked for."""
        typed = TYPED_GPUS.fullmatch(self.gpus) if isinstance(self.gpus, str) else None
        return int(typed[1]) if typed else int(self.gpus or 0)

    @property
    def places(self) -> int:
        """Packs that a job trains at once. Raises UsageError for `auto` where the job asks for no GPUs."""
        if self.packs_per_job == AUTO:
            fits = self.gpu_count > 0
            self._require("packs_per_job", fits, "auto only with launcher.gpus: one pack for each GPU", 8)
            return self.gpu_count
        return int(self.packs_per_job)

    @property
    def job_cpus(self) -> int | None:
        """Processors of a task of a job."""
        return None if self.cpus is None else self.cpus * self.places

    @property
    def job_memory_gb(self) -> float | None:
        """Memory of a job; None where it is not said."""
        return self.memory_gb if self.memory_per_gpu_gb is None else self.memory_per_gpu_gb * self.gpu_count


LOCAL_DEFAULTS: dict[str, Any] = {"array_parallelism": 1, "cpus": None, "minutes": 60 * 24 * 7}
"""Defaults that differ for jobs on one's own machine: one pack at a time, and a week for it."""
