"""Checks of all points of a sweep before any is started: what can be known without training is known here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tinylora.records.folder import CONFIG, RunFolder, Status
from tinylora.records.store_check import check_experiment
from tinylora.records.writable import require_writable
from tinylora.settings.config import RECIPE, RunConfig
from tinylora.settings.errors import UsageError
from tinylora.settings.files import cache_folder
from tinylora.settings.groups import TrackingConfig
from tinylora.settings.store_urls import STORE
from tinylora.train.inputs import check_inputs
from tinylora.train.origin import require_same_origin


def check(configs: Sequence[RunConfig], in_jobs: bool = False) -> list[str]:
    """Raise UsageError or FailureError for the first point that cannot run; writes nothing but empty experiments.

    Points that run `in_jobs` write to servers only, so no store of their own is looked into. Returns sentences on what
    could not be checked.
    """
    cache_folder()
    inputs = check_inputs(configs, in_jobs)
    origin = require_same_origin(configs, task_of=inputs.task_of, form_of=inputs.form_of)
    notes = [*_begun_before(configs), *inputs.notes, *origin]
    _check_stores([config for config in configs if config.tracking.uri is not None])
    _look_at_stores([config for config in configs if config.tracking.uri is None])
    for folder in sorted({config.outputs_dir for config in configs}):
        require_writable(Path(folder))
    for config in configs:
        _check_folder(RunFolder(config))
    _check_stores([config for config in configs if config.tracking.uri is None and not in_jobs and _has_store(config)])
    return notes


def _check_stores(configs: Sequence[RunConfig]) -> None:
    """Open each store once: those that were asked for before an outputs_dir is made, the default ones in it after."""
    for config in {(config.tracking_uri, config.tracking.experiment): config for config in configs}.values():
        from tinylora.records.mirror import Mirror  # MLflow is not everywhere, nor needed for run folders

        Mirror(config).require_artifacts()


def _has_store(config: RunConfig) -> bool:
    """Whether there is something to be checked: a store that is not there yet is made at the first push.

    That takes MLflow seconds, in which a model can train. A name of the user's own may be one that MLflow refuses.
    """
    own_name = config.tracking.experiment != TrackingConfig().experiment
    return own_name or (Path(config.outputs_dir).resolve() / STORE).exists()


def _look_at_stores(configs: Sequence[RunConfig]) -> None:
    """Look at default stores that there are: jobs leave theirs alone, and run folders are imported into it later."""
    for folder, experiment in sorted({(config.outputs_dir, config.tracking.experiment) for config in configs}):
        check_experiment(Path(folder).resolve() / STORE, experiment)


def _begun_before(configs: Sequence[RunConfig]) -> list[str]:
    """A sentence for each older recipe that has begun some of the points, which are then other runs."""
    notes = []
    for recipe in range(1, RECIPE):
        begun = sum(c.recipe == RECIPE and (replace(c, recipe=recipe).folder / CONFIG).exists() for c in configs)
        if begun:
            notes.append(
                f"{begun} of {len(configs)} runs were begun by recipe {recipe}, an earlier version of this package: "
                f"their records stay, and this version trains them anew by recipe {RECIPE}"
            )
    return notes


def _check_folder(folder: RunFolder) -> None:
    """A damaged run is set aside later, of whatever recipe it is."""
    status, recipe = folder.status(), folder.config.recipe
    if recipe != RECIPE and (status is None or not (status.final or status is Status.damaged)):
        raise UsageError(
            f"run {folder.config.run_key} of recipe {recipe}",
            f"this version trains by recipe {RECIPE}: the same settings would give another result from here on",
            "leave recipe out to train it anew, or continue it with the version that began it",
        )
