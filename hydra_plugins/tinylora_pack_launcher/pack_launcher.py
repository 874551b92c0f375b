"""Hydra's side of a sweep: `hydra/sweeper=grid` lists its points, `hydra/launcher=pack` hands them over together.

Hydra imports this file whenever it starts, for `--help` and tab completion too: whatever is heavy is imported later.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from experiments.display import open_progress
from experiments.schema import to_run_config
from tinylora.config import RunConfig
from tinylora.progress import Silent

MANY = 20  # points that take a second or more to compose
MODULE = "hydra_plugins.tinylora_pack_launcher.pack_launcher"

# Plain dicts: Hydra runs this file before it is a known module, which dataclasses do not survive.
STORE = ConfigStore.instance()
STORE.store(group="hydra/launcher", name="pack", node={"_target_": f"{MODULE}.PackLauncher"})
STORE.store(group="hydra/sweeper", name="grid", node={"_target_": f"{MODULE}.GridSweeper"})


class PackLauncher(Launcher):
    """Starts all points of a sweep together, in this process."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what `launch` needs; the task function, which starts one point, is not."""
        self.hydra_context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the points; a job has failed where its run has."""
        points = compose_points(self.hydra_context, self.config, job_overrides)

        from experiments.sweep import incomplete, run_sweep

        records = run_sweep(points)
        error = incomplete(records)
        returns = []
        for overrides, record in zip(job_overrides, records, strict=True):
            status = JobStatus.COMPLETED if incomplete([record]) is None else JobStatus.FAILED
            value = record if status is JobStatus.COMPLETED else error
            returns.append(JobReturn(overrides=overrides, status=status, _return_value=value))
        return returns


class GridSweeper(BasicSweeper):
    """Hydra's grid of all combinations, with three differences.

    It writes no folder of its own, has every point composed and checked before the first one starts, and raises a
    job's error as it is, after all jobs.
    """

    def __init__(self) -> None:
        super().__init__(max_batch_size=None)

    def sweep(self, arguments: list[str]) -> Any:
        """Start all combinations of the values in `arguments`."""
        assert self.launcher is not None and self.hydra_context is not None and self.config is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        (jobs,) = self.split_arguments(parser.parse_overrides(arguments), max_batch_size=None)
        if not isinstance(self.launcher, PackLauncher):
            compose_points(self.hydra_context, self.config, jobs)
        returns = self.launcher.launch(jobs, initial_job_idx=0)
        for job in returns:
            if job.status is JobStatus.FAILED:
                raise job._return_value  # the public property would print a line of its own
        return [returns]


def compose_points(context: HydraContext, master: DictConfig, jobs: Sequence[Sequence[str]]) -> list[RunConfig]:
    """The point of each job (a list of overrides). Raises for the first one that is no valid point."""
    with open_progress() if len(jobs) >= MANY else Silent() as progress:
        progress.phase(f"composing {len(jobs)} points")
        return [to_run_config(context.config_loader.load_sweep_config(master, list(overrides))) for overrides in jobs]
