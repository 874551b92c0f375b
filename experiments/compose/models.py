"""Which model the words of a command line mean, where they name a repository of the hub or a folder."""

from __future__ import annotations

import os
import re
from functools import cache

import yaml

from experiments.compose import CONF

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")  # owner/name, as the hub spells it


@cache
def option_of(repository: str) -> str | None:
    """The option of the group `model` that is this repository of the hub; None where there is none."""
    for path in sorted(CONF.glob("model/*.yaml")):
        described = yaml.safe_load(path.read_text(encoding="utf-8"))
        if str(described.get("hub")).casefold() == repository.casefold():
            return path.stem
    return None


def model_words(name: str) -> str | None:
    """The words for a model that was given as `model=<name>` and is no option: of a folder, or of the hub."""
    if os.path.isdir(name):
        return f"model.path={name}"
    if not REPOSITORY.fullmatch(name):
        return None
    option = option_of(name)
    return f"model.hub={name} model.name={name.partition('/')[2]}" if option is None else f"model={option}"
