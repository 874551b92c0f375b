"""Hydra's side of a sweep: `hydra/sweeper=grid` composes its points, a launcher starts them together.

`hydra/launcher=pack` trains them in this process; `slurm` and `local` submit jobs (`experiments.jobs.settings`).

Hydra imports this file whenever it starts, for `--help` and tab completion too: whatever is heavy is imported later.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from experiments.compose.composer import Composer
from experiments.compose.points import Composition, compose_points
from experiments.compose.words import CLUSTER, FOUND, SEARCH
from experiments.jobs.settings import ALIASES, LOCAL_DEFAULTS, Kind, LaunchSettings
from tinylora.settings.config import RunConfig
from tinylora.settings.errors import UsageError

MODULE = "hydra_plugins.tinylora_pack_launcher.pack_launcher"

# Plain dicts: Hydra runs this file before it is a known module, which dataclasses do not survive.
STORE = ConfigStore.instance()
STORE.store(group="hydra/launcher", name="pack", node={"_target_": f"{MODULE}.PackLauncher"})
for kind, changes in ((Kind.slurm, {}), (Kind.local, LOCAL_DEFAULTS)):
    settings = {"_target_": f"{MODULE}.JobLauncher", "kind": str(kind)} | asdict(LaunchSettings()) | changes
    settings |= dict.fromkeys(ALIASES)  # null, unless given
    STORE.store(group="hydra/launcher", name=str(kind), node=settings)
STORE.store(group="hydra/sweeper", name="grid", node={"_target_": f"{MODULE}.GridSweeper", "params": {}, "grids": []})


class OwnProfiles(SearchPathPlugin):
    """Lets `+cluster=<name>` find files in a folder of one's own, $XDG_CONFIG_HOME/tinylora/cluster."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add the folder behind conf/, where there is one."""
        folder = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "tinylora"
        if (folder / CLUSTER).is_dir():
            search_path.append("tinylora", f"file://{folder.absolute()}")


class PackLauncher(Launcher):
    """Starts all points of a sweep together, in this process."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what starts points: the task function of `experiments.run` takes all of them at once."""
        self.composer, self.task_function = Composer(hydra_context.config_loader, config), task_function
        self.cluster = config.hydra.runtime.choices.get(CLUSTER)

    def start(self, points: Sequence[RunConfig]) -> None:
        """Run the points. Raises what keeps them from starting, or FailureError where not all have finished."""
        self.task_function(points)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """The same for another sweeper than ours, which hands over the overrides of each point."""
        self.start([self.composer.point(list(job)) for job in job_overrides])
        return [JobReturn(overrides=job, status=JobStatus.COMPLETED) for job in job_overrides]


class JobLauncher(PackLauncher):
    """Submits all points of a sweep together, a job per pack, to SLURM or to background processes."""

    def __init__(self, kind: str, **settings: Any) -> None:
        self.kind = Kind(kind)
        self.settings: Any = OmegaConf.to_container(OmegaConf.create(settings))

    def start(self, points: Sequence[RunConfig]) -> None:
        """Submit the points; with launcher.wait, FailureError where not all have finished in the end."""
        where = "" if self.cluster is None else f"{CLUSTER}={self.cluster}: "
        settings = LaunchSettings.of(self.settings, where)

        from experiments.jobs.submit import submit_sweep

        sweep = submit_sweep(points, self.kind, settings)
        if settings.wait and not settings.dry_run:
            from experiments.jobs.watch import wait_for

            wait_for(points if sweep is None else sweep)


class GridSweeper(BasicSweeper):
    """Hydra's grid of all combinations, with five differences.

    It takes the grids of presets (see `experiments.compose.composer`), writes no folder of its own, has every point
    composed and checked before the first one starts, runs round after round for `lr=search`, and raises a job's error
    as it is, after all jobs.
    """

    def __init__(self, params: Any, grids: Any) -> None:
        super().__init__(max_batch_size=None)  # params and grids depend on the point's groups: the composer reads them

    def sweep(self, arguments: list[str]) -> None:
        """Start all points that `arguments` ask for."""
        assert self.launcher is not None and self.hydra_context is not None and self.config is not None
        composition = compose_points(Composer(self.hydra_context.config_loader, self.config), arguments)
        for note in composition.notes:
            print(note, file=sys.stderr)
        if isinstance(self.launcher, PackLauncher):
            self._start(composition)
            return
        if composition.rates is not None:
            raise UsageError(
                f"lr={composition.rates} with hydra/launcher=basic",
                "its points are made of records, and started together",
                "leave hydra/launcher out, or give local or slurm",
            )
        for job in self.launcher.launch(composition.jobs, initial_job_idx=0):
            if job.status is JobStatus.FAILED:
                raise job._return_value  # the public property would print a line of its own

    def _start(self, composition: Composition) -> None:
        """Start the points of a composition together, at the rates that a search finds or has found."""
        assert isinstance(self.launcher, PackLauncher)
        if composition.rates == SEARCH:
            from experiments.search import search_rates

            search_rates(composition.points, self.launcher.start)
        elif composition.rates == FOUND:
            from experiments.found import at_found_rates

            self.launcher.start(at_found_rates(composition.points))
        else:
            self.launcher.start(composition.points)
