"""Hydra's side of a sweep: `hydra/sweeper=grid` lists its points, a launcher hands them over together.

`hydra/launcher=pack` trains them in this process; `slurm` and `local` submit jobs (`experiments.jobs.settings`).

Hydra imports this file whenever it starts, for `--help` and tab completion too: whatever is heavy is imported later.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from experiments.compose.composer import Composer, Job
from experiments.compose.fitting import fitting
from experiments.display import open_progress
from experiments.jobs.settings import LOCAL_DEFAULTS, Kind, LaunchSettings
from tinylora.records.progress import Silent
from tinylora.settings.config import RunConfig

MANY = 100  # points that take a second or more to compose
MODULE = "hydra_plugins.tinylora_pack_launcher.pack_launcher"

# Plain dicts: Hydra runs this file before it is a known module, which dataclasses do not survive.
STORE = ConfigStore.instance()
STORE.store(group="hydra/launcher", name="pack", node={"_target_": f"{MODULE}.PackLauncher"})
for kind, changes in ((Kind.slurm, {}), (Kind.local, LOCAL_DEFAULTS)):
    settings = {"_target_": f"{MODULE}.JobLauncher", "kind": kind.value} | LaunchSettings().plain() | changes
    STORE.store(group="hydra/launcher", name=kind.value, node=settings)
STORE.store(group="hydra/sweeper", name="grid", node={"_target_": f"{MODULE}.GridSweeper", "params": {}, "grids": []})


class PackLauncher(Launcher):
    """Starts all points of a sweep together, in this process."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what `launch` needs; the task function, which starts one point, is not."""
        self.composer = Composer(hydra_context.config_loader, config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the points; a job has failed where its run has."""
        points = compose_points(self.composer, [list(job) for job in job_overrides])

        from experiments.sweep import incomplete, run_sweep

        records = run_sweep(points)
        error = incomplete(records)
        returns = []
        for overrides, record in zip(job_overrides, records, strict=True):
            status = JobStatus.COMPLETED if incomplete([record]) is None else JobStatus.FAILED
            value = record if status is JobStatus.COMPLETED else error
            returns.append(JobReturn(overrides=overrides, status=status, _return_value=value))
        return returns


class JobLauncher(PackLauncher):
    """Submits all points of a sweep together, a job per pack, to SLURM or to background processes."""

    def __init__(self, kind: str, **settings: Any) -> None:
        self.kind = Kind(kind)
        self.settings: dict[str, Any] = {
            name: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for name, value in settings.items()
        }

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit the points; with launcher.wait they have failed where not all have finished in the end."""
        settings = LaunchSettings(**self.settings)
        points = compose_points(self.composer, [list(job) for job in job_overrides])

        from experiments.jobs.submit import submit_sweep

        sweep = submit_sweep(points, self.kind, settings)
        error = None
        if settings.wait and not settings.dry_run:
            from experiments.status import wait_for

            error = wait_for(points if sweep is None else sweep)
        status = JobStatus.COMPLETED if error is None else JobStatus.FAILED
        return [JobReturn(overrides=list(job), status=status, _return_value=error) for job in job_overrides]


class GridSweeper(BasicSweeper):
    """Hydra's grid of all combinations, with four differences.

    It takes the grids of presets (see `experiments.compose.composer`), writes no folder of its own, has every point
    composed and checked before the first one starts, and raises a job's error as it is, after all jobs.
    """

    def __init__(self, params: Any, grids: Any) -> None:
        super().__init__(max_batch_size=None)  # params and grids depend on the point's groups: the composer reads them

    def sweep(self, arguments: list[str]) -> Any:
        """Start all points that `arguments` ask for."""
        assert self.launcher is not None and self.hydra_context is not None and self.config is not None
        if isinstance(self.launcher, PackLauncher):
            composer = self.launcher.composer
        else:
            composer = Composer(self.hydra_context.config_loader, self.config)
        jobs = fitting_jobs(composer, composer.jobs(arguments))
        returns = self.launcher.launch(jobs, initial_job_idx=0)
        for job in returns:
            if job.status is JobStatus.FAILED:
                raise job._return_value  # the public property would print a line of its own
        return [returns]


def fitting_jobs(composer: Composer, jobs: list[Job]) -> list[Job]:
    """The jobs without those points of presets that do not fit their model; says which. Raises as `compose_points`."""
    points = compose_points(composer, jobs)
    kept, reasons = fitting(points)
    for reason in reasons:
        print(reason, file=sys.stderr)
    chosen = {id(point) for point in kept}
    return [job for job, point in zip(jobs, points, strict=True) if id(point) in chosen]


def compose_points(composer: Composer, jobs: Sequence[Job]) -> list[RunConfig]:
    """The point of each job (a list of overrides). Raises for the first one that is no valid point."""
    with open_progress() if len(jobs) >= MANY else Silent() as progress:
        progress.phase(f"composing {len(jobs)} points")
        return [composer.point(list(job)) for job in jobs]
