"""From overrides to points, the one way there is: for the sweeper that Hydra starts, and for `experiments.plan`.

overrides              u=1,13 +paper=figure4            what a command line says
a list for each point  [u=1, +paper=figure4, lr=1e-5]   with the grids of presets (`composer`)
points                 RunConfig, ...                   composed; without those of presets that do not fit their
                                                        model (`fitting`), and each run once
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException

from experiments.compose import CONF, schema
from experiments.compose.composer import Composer, Job
from experiments.compose.fitting import fitting
from experiments.compose.unused import require_used
from experiments.compose.usage import SHOW, readable_errors
from experiments.compose.words import check_words, given_settings, with_rates, word_for_rates
from experiments.display import open_progress
from tinylora.records.progress import Silent
from tinylora.settings.config import RunConfig
from tinylora.settings.errors import UsageError, first_line

MANY = 100  # points that take a second or more to compose


@dataclass(frozen=True)
class Composition:
    """What the overrides of a sweep ask for."""

    points: list[RunConfig]
    """Each run once, in the order of the sweep."""
    jobs: list[Job]
    """The overrides of each point, by which Hydra's own launchers start it."""
    notes: list[str]
    """What was left out, and why."""
    rates: str | None = None
    """`search` or `found`, where the rates of the points stand for any (see `experiments.search`)."""


def compose(overrides: Sequence[str]) -> Composition:
    """The points of a command line, where Hydra has not been started. Raises UsageError."""
    schema.register()
    with readable_errors():
        check_words(overrides)
    with readable_errors(), initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        return compose_points(Composer(loader, loader.load_configuration("config", [], RunMode.MULTIRUN)), overrides)


def compose_points(composer: Composer, overrides: Sequence[str]) -> Composition:
    """The points that the overrides ask for. Raises Hydra's errors, or UsageError, for the first that is no point."""
    given = composer.parser.parse_overrides(list(overrides))
    jobs = composer.jobs(with_rates(given))
    with open_progress() if len(jobs) >= MANY else Silent() as progress:
        progress.phase(f"composing {len(jobs)} points")
        composed = [_composed(composer, job) for job in jobs]
    require_used(composed, given_settings(given))
    kept, notes = fitting(composed)
    points = distinct(kept)
    if not points:
        rule = f"no point is left: {'; '.join(notes) or 'there is none'}"
        raise UsageError(" ".join(overrides), rule, "give smaller numbers, or a larger model")
    if len(points) < len(kept):
        notes.append(f"{len(kept) - len(points)} of {len(kept)} points repeat another one and run once")
    chosen = {id(point) for point in points}
    kept_jobs = [job for job, point in zip(jobs, composed, strict=True) if id(point) in chosen]
    return Composition(points, kept_jobs, notes, rates=word_for_rates(given))


def _composed(composer: Composer, job: Job) -> RunConfig:
    """The point of a job. Raises Hydra's errors, or UsageError, also for what Hydra has no error of its own for."""
    try:
        return composer.point(job)
    except (UsageError, HydraException, OmegaConfBaseException):
        raise
    except Exception as error:  # of OmegaConf, on what its types do not foresee
        raise UsageError(
            " ".join(job) or "conf/config.yaml",
            f"settings are composed from conf/ and name=value, and these are not: {first_line(error)}",
            SHOW,
        ) from error


def distinct(points: Sequence[RunConfig]) -> list[RunConfig]:
    """The points without those that are the same run as an earlier one, in order. Raises UsageError.

    Where two of them are one run by name and come from different folders, it is not said which of them is meant.
    """
    first: dict[str, RunConfig] = {}
    for point in points:
        known = first.setdefault(point.run_key, point)
        for (name, one), (_, other) in zip(_sources(known), _sources(point), strict=True):
            if one != other:
                raise UsageError(
                    f"{name}={one} and {name}={other} in one sweep",
                    f"a run is known by the names of its model and task, which are the same here ({point.run_key})",
                    "rename one of the folders (on the hub: give model.name), or give two commands, each with an "
                    "outputs_dir of its own",
                )
    return list(first.values())


def _sources(point: RunConfig) -> list[tuple[str, str | None]]:
    """Where what a run is made with comes from, which its key does not say."""
    model, task = point.model, point.task
    hub = model.hub if model.path is None else None
    return [("model.path", model.path), ("model.hub", hub), ("task.folder", task.folder)]
