"""Checks of all points of a sweep before any is started: what can be known without training is known here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tinylora.adapters.tying import tie
from tinylora.models.load import outline, require_context
from tinylora.models.shapes import ModuleShape
from tinylora.records.folder import RunFolder, require_writable
from tinylora.settings.config import RECIPE, Algorithm, RunConfig
from tinylora.settings.errors import UsageError
from tinylora.tasks import task_of
from tinylora.train.origin import require_same_origin


def check(configs: Sequence[RunConfig], in_jobs: bool = False) -> list[str]:
    """Raise UsageError or FailureError for the first point that cannot run; writes nothing but empty stores.

    Points that run `in_jobs` write to servers only, so no store of their own is looked at. Returns sentences on what
    could not be checked.
    """
    outlines: dict[str, list[ModuleShape]] = {}
    for config in configs:
        model = repr(config.model)
        if model not in outlines:
            outlines[model] = outline(config.model)
        _check_adapter(config, outlines[model])
    for config in {repr((config.model, config.rollout.max_new_tokens)): config for config in configs}.values():
        require_context(config, longest_prompt=1)  # the prompts themselves are counted with the tokenizer
    asked = {repr((c.task, c.eval.suites, c.algorithm.name, c.training_steps > 0)): c for c in configs}
    for config in asked.values():  # another seed or number of problems is nothing new to a task
        _check_task(config)
    notes = require_same_origin(configs)
    for folder in sorted({config.outputs_dir for config in configs}):
        require_writable(Path(folder))
    for config in configs:
        _check_folder(RunFolder(config))
    stores = {config.tracking_uri: config for config in configs if not (in_jobs and config.tracking.uri is None)}
    for config in stores.values():
        from tinylora.records.mirror import Mirror  # MLflow is not everywhere, nor needed for run folders

        Mirror(config)
    return notes


def _check_adapter(config: RunConfig, maps: Sequence[ModuleShape]) -> None:
    if not config.adapter.name.has_basis:
        return
    tie([module.name for module in maps], config.sharing, config.n_tie)
    smallest = min(min(module.d_out, module.d_in) for module in maps)
    if config.rank > smallest:
        raise UsageError(
            f"rank={config.rank}",
            f"the smallest side of an adapted weight of {config.model.identity} is {smallest}, and no basis has more",
            f"give rank={smallest} or less",
        )


def _check_task(config: RunConfig) -> None:
    """Read the data and the suites, and try whether there is something to learn from where something is trained."""
    task = task_of(config)
    if config.training_steps == 0:
        return
    problem = task.batch(config.seed, 1, 1)[0]
    if config.algorithm.name is Algorithm.sft:
        task.demonstration(problem, config.task.demonstrations)


def _check_folder(folder: RunFolder) -> None:
    status, recipe = folder.status(), folder.config.recipe
    if recipe != RECIPE and not (status is not None and status.final):
        raise UsageError(
            f"run {folder.config.run_key} of recipe {recipe}",
            f"this version trains by recipe {RECIPE}: the same settings would give another result from here on",
            "leave recipe out to train it anew, or continue it with the version that began it",
        )
