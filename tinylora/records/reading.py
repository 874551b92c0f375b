"""Run folders as they are found on a disk: which there are, with which settings, and how far their states are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import yaml

from tinylora.records.folder import CONFIG
from tinylora.settings.config import RunConfig
from tinylora.settings.errors import UsageError
from tinylora.settings.recorded import from_plain


def saved_step(path: Path) -> int:
    """The step of a saved state; -1 where there is none. Reads the header alone."""
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        return int(header["__metadata__"]["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return -1


def run_folders(outputs: Path) -> Iterator[Path]:
    """The folders of all runs that have begun."""
    for path in sorted(outputs.glob(f"*/{CONFIG}")):
        yield path.parent


def read_config(path: Path, outputs: Path) -> RunConfig:
    """The config of a run folder, as one in `outputs`, wherever it was made."""
    try:
        written = yaml.load((path / CONFIG).read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        config = from_plain(written["config"])
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UsageError(f"{path / CONFIG} is damaged", "it says which run a folder holds", "restore it") from error
    config = replace(config, outputs_dir=str(outputs))
    if config.run_key != path.name:
        raise UsageError(f"its settings are those of {config.run_key}", "a folder has its run's key as name", "restore")
    return config
