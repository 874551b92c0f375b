"""From a command line to points: grids of presets and of the command line, composed by Hydra.

A preset (`+paper=figure4`) brings its sweep with it: `hydra.sweeper.params` are axes that all its points have, and
`hydra.sweeper.grids` are the parts of the sweep, each with axes of its own, written as on the command line:

    hydra:
      sweeper:
        params: {lr: "1e-5,1e-4", seed: "0,1,2"}
        grids: [{u: 1, n_tie: "16,4,1"}, {u: "2,32", n_tie: 1}]

A protocol that is given by hand (`+protocol=...`) takes the place of the preset's own, wherever it stands.

A preset on a model that has a file in `conf/scale` is composed with it: the experiment in small, for a scale model.
What is given on the command line replaces the axis of that name. Hydra takes a quarter of a second to compose a point,
and milliseconds to read a word. So each word is read once; points that choose the same options of all groups are
composed once, and each of them copies the parts alone in which its words change something.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from experiments.compose.models import with_hub_model
from experiments.compose.schema import Parts
from tinylora.settings.config import RunConfig

PRESETS, PROTOCOLS, SCALE = "paper", "protocol", "scale"  # groups
Job = list[str]
"""The overrides of one point."""


class Composer:
    """Composes points of one command line."""

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        assert isinstance(loader, ConfigLoaderImpl)
        self.loader, self.master = loader, master
        self.parser = OverridesParser.create(config_loader=loader)
        self._chosen: dict[tuple[str, ...], tuple[Parts, Any]] = {}
        self._read: dict[str, Override] = {}
        self._is_group = cache(loader.repository.group_exists)

    def jobs(self, arguments: Sequence[str]) -> list[Job]:
        """All points that the arguments ask for, those of presets included, in order."""
        return [job for given in self._product(arguments) for job in self._with_grids(self._with_model(given))]

    def _with_model(self, job: Job) -> Job:
        return with_hub_model(job, self._overrides(job))

    def point(self, job: Job) -> RunConfig:
        """The point of a job. Raises Hydra's errors, or UsageError, where it is none."""
        groups, values = self._split(job)
        return self._choose(groups)[0].point(values)

    def _overrides(self, job: Job) -> list[Override]:
        for word in job:
            if word not in self._read:
                (self._read[word],) = self.parser.parse_overrides([word])
        return [self._read[word] for word in job]

    def _product(self, arguments: Sequence[str]) -> list[Job]:
        (jobs,) = BasicSweeper.split_arguments(self.parser.parse_overrides(list(arguments)), max_batch_size=None)
        return jobs

    def _with_grids(self, job: Job) -> list[Job]:
        """The points of a preset's grids, or the job itself where it names no preset."""
        _, sweeper = self._choose(self._split(job)[0])
        given = {override.get_key_element().lstrip("+") for override in self._overrides(job)}
        jobs = []
        for grid in sweeper.get("grids") or [{}]:
            axes = (sweeper.get("params") or {}) | grid
            arguments = [f"{name}={value}" for name, value in axes.items() if name not in given]
            jobs += [job + added for added in self._product(arguments)]
        return jobs

    def _split(self, job: Job) -> tuple[Job, list[Override]]:
        """The choices of groups, a protocol last, and the values, which are set when the groups are composed."""
        groups, protocols, values = list[str](), list[str](), list[Override]()
        for override, text in zip(self._overrides(job), job, strict=True):
            if self._is_group(override.key_or_group) and not isinstance(override.value(), dict):
                (protocols if override.key_or_group == PROTOCOLS else groups).append(text)
            else:
                values.append(override)
        return groups + protocols, values

    def _choose(self, groups: Job) -> tuple[Parts, Any]:
        """What the root and some groups compose to: the settings of a point, and those of the sweeper."""
        key = tuple(groups)
        if key not in self._chosen:
            composed = self.loader.load_sweep_config(self.master, groups)
            scale = f"{SCALE}/{composed.hydra.runtime.choices.model}"
            if PRESETS in composed.hydra.runtime.choices and self.loader.repository.config_exists(scale):
                composed = self.loader.load_sweep_config(self.master, [*groups, f"+{scale.replace('/', '=')}"])
            sweeper = OmegaConf.to_container(composed.hydra.sweeper)
            with open_dict(composed):
                del composed["hydra"]
            self._chosen[key] = Parts(composed), sweeper
        return self._chosen[key]
