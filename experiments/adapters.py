"""Adapters as a person names them, for commands that use them: by their run or sweep, a file, a PEFT folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.naming import find_runs, labelled
from tinylora.records.choice import BEST, LAST, require_word
from tinylora.records.damage import status_of
from tinylora.records.folder import RunFolder, Status
from tinylora.settings.config import RunConfig
from tinylora.settings.errors import UsageError
from tinylora.settings.paths import absolute

if TYPE_CHECKING:
    from tinylora.train.used import Used

PEFT_SETTINGS = "adapter_config.json"


def add_step(parser: argparse.ArgumentParser) -> None:
    """The option that says of which step v is."""
    said = f"of which evaluation v is: its number, {LAST} (default) or {BEST} (by validation)"
    parser.add_argument("--step", help=said)


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names of adapters among some words, and the settings: name=value where there is no file of that name."""
    settings = [word for word in words if "=" in word and not Path(word).exists()]
    return [word for word in words if word not in settings], settings


def find_adapters(names: Sequence[str], step: str | None, outputs_dir: str, settings: Sequence[str]) -> list[Used]:
    """The adapters that are meant, each once, to be used with these settings.

    Of a sweep the finished runs are meant; the others are named on stderr. Raises UsageError where a name is that of no
    adapter, or no run of a sweep has finished.
    """
    if step is not None:
        require_word(step)
    found = [used for name in names for used in _find(name, step, outputs_dir, settings)]
    return list({(used.folder, used.step, used.file): used for used in found}.values())


def _find(name: str, step: str | None, outputs_dir: str, settings: Sequence[str]) -> list[Used]:
    path = absolute(name, "adapter")
    is_file, is_peft = path.is_file(), (path / PEFT_SETTINGS).is_file()
    if not is_file and not is_peft:
        return _of_runs(name, step or LAST, outputs_dir, settings)
    if step is not None:
        raise UsageError(
            f"--step {step} of {path}",
            "a file holds one v; those of several steps are in the folder of a run",
            "leave --step out, or give the run",
        )
    from tinylora.train.used import of_file, of_peft

    config = _composed(settings)
    return [(of_file if is_file else of_peft)(path, config)]


def _of_runs(name: str, step: str, outputs_dir: str, settings: Sequence[str]) -> list[Used]:
    runs, several = labelled(find_runs(name, outputs_dir), "left out"), False
    from experiments.compose.changed import changed  # these take seconds
    from tinylora.train.used import of_run

    folders = [(label, RunFolder(config)) for label, config in runs]
    if len(folders) > 1:
        several, statuses = True, [status_of(folder) for _, folder in folders]
        for (label, folder), status in zip(folders, statuses, strict=True):
            if status is not Status.finished:
                said = "not begun" if status is None else status.value
                print(f"left out: run {folder.path.name} ({label}) is {said}", file=sys.stderr)
        folders = [each for each, status in zip(folders, statuses, strict=True) if status is Status.finished]
    if several and not folders:
        raise UsageError(
            f"{name}: no run has finished",
            "of a sweep the adapters of finished runs are used",
            "let them finish, or give one run and a --step that was evaluated",
        )
    used = []
    for label, folder in folders:
        config = changed(folder.config, settings)
        used.append(of_run(folder, step, f"{folder.path.name} ({label})", config))
    return used


def _composed(settings: Sequence[str]) -> RunConfig:
    """The settings of a model and a task, as for a run. Raises UsageError where they are those of several."""
    from experiments.compose.points import compose

    points = compose([*settings, "lr=1"]).points  # a rate is of no use here, and some models have no default
    if len(points) != 1:
        raise UsageError(" ".join(settings), "an adapter is used with one value of each setting", "give one value")
    return points[0]
