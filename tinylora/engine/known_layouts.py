"""The layout of a model's rows: tried once for each config (`trial`), and remembered in the cache folder."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers

import tinylora
from tinylora.engine.layout import Layout, Reading
from tinylora.engine.trial import VERSION, Unfit, layout_for
from tinylora.models.find import config_folder
from tinylora.models.load import read_config
from tinylora.settings import remembered
from tinylora.settings.errors import UsageError
from tinylora.settings.model import ModelConfig

REMEMBERED = "layouts.json"


def layout_of(config: ModelConfig) -> Layout:
    """How rows are laid out for a model, from its config alone.

    Raises UsageError for a family whose rows cannot be kept apart in any way.
    """
    folder = config_folder(config)
    key = _key((folder / "config.json").read_bytes(), config)
    found = _read(remembered.recall(REMEMBERED).get(key)) or _tried(folder, key, config)
    if isinstance(found, Layout):
        return found
    raise UsageError(
        f"model {config.identity}",
        f"a token must depend on the tokens before it in its own row and on nothing else; {found}",
        "take a model of another family: docs/models-and-tasks.md lists those that were tried",
    )


def _tried(folder: Path, key: str, config: ModelConfig) -> Layout | str:
    """The answer of a trial, which is remembered: a layout, or why there is none."""
    try:
        layout = layout_for(read_config(folder), config.attention)
    except Unfit as error:
        remembered.remember(REMEMBERED, key, {"refused": str(error)})
        return str(error)
    remembered.remember(REMEMBERED, key, asdict(layout) | {"reading": layout.reading.value})
    return layout


def _read(answer: Any) -> Layout | str | None:
    """A remembered answer; None where there is none, or a damaged one."""
    try:
        if "refused" in answer:
            return str(answer["refused"])
        return Layout(bool(answer["trees"]), Reading(answer["reading"]), int(answer["lost_positions"]))
    except (TypeError, ValueError, LookupError):
        return None


def _key(settings: bytes, config: ModelConfig) -> str:
    """64 hex digits over all that an answer follows from."""
    made_with = (VERSION, tinylora.__version__, torch.__version__, transformers.__version__, config.attention.value)
    return hashlib.sha256(repr(made_with).encode() + settings).hexdigest()
