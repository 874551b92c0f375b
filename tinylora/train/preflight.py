"""Checks of all points of a sweep before any is started: what can be known without training is known here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tinylora.records.folder import RunFolder, require_writable
from tinylora.records.store_check import check_experiment
from tinylora.settings.config import RECIPE, RunConfig
from tinylora.settings.errors import UsageError
from tinylora.settings.files import cache_folder
from tinylora.settings.store_urls import STORE
from tinylora.train.inputs import check_inputs
from tinylora.train.origin import require_same_origin


def check(configs: Sequence[RunConfig], in_jobs: bool = False) -> list[str]:
    """Raise UsageError or FailureError for the first point that cannot run; writes nothing but empty stores.

    Points that run `in_jobs` write to servers only, so no store of their own is made. Returns sentences on what
    could not be checked.
    """
    cache_folder()
    task_of = check_inputs(configs, in_jobs)
    notes = require_same_origin(configs, task_of=task_of)
    _check_stores([config for config in configs if config.tracking.uri is not None])
    _look_at_stores([config for config in configs if config.tracking.uri is None])
    for folder in sorted({config.outputs_dir for config in configs}):
        require_writable(Path(folder))
    for config in configs:
        _check_folder(RunFolder(config))
    _check_stores([config for config in configs if config.tracking.uri is None and not in_jobs])
    return notes


def _check_stores(configs: Sequence[RunConfig]) -> None:
    """Open each store once: those that were asked for before an outputs_dir is made, the default ones in it after."""
    for config in {(config.tracking_uri, config.tracking.experiment): config for config in configs}.values():
        from tinylora.records.mirror import Mirror  # MLflow is not everywhere, nor needed for run folders

        Mirror(config).require_artifacts()


def _look_at_stores(configs: Sequence[RunConfig]) -> None:
    """Look at default stores that there are: jobs leave theirs alone, and run folders are imported into it later."""
    for folder, experiment in sorted({(config.outputs_dir, config.tracking.experiment) for config in configs}):
        check_experiment(Path(folder).resolve() / STORE, experiment)


def _check_folder(folder: RunFolder) -> None:
    status, recipe = folder.status(), folder.config.recipe
    if recipe != RECIPE and not (status is not None and status.final):
        raise UsageError(
            f"run {folder.config.run_key} of recipe {recipe}",
            f"this version trains by recipe {RECIPE}: the same settings would give another result from here on",
            "leave recipe out to train it anew, or continue it with the version that began it",
        )
