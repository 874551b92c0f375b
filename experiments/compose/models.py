"""Which model the words of a command line mean, where they name a repository of the hub or a folder.

`model.hub=<owner>/<name>` alone says it all: a repository that has a file in `conf/model` is that option. Of any other
one, name, sizes and dtype are those of its config.json, and no rate is known: what the default model has of these is
not its own. Nothing else is fetched. The words that this adds are settings of the point, in a plan as in a run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from experiments.compose import CONF
from tinylora.models.gguf import is_gguf
from tinylora.models.shapes import dtype_of_folder, shape_of_folder
from tinylora.settings.choices import Precision
from tinylora.settings.errors import UsageError
from tinylora.settings.identity import as_plain

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")  # owner/name, as the hub spells it
MODEL, HUB, ANY = "model", "model.hub", "hub"  # the group, the setting, the option for what has no file of its own


@cache
def option_of(repository: str) -> str | None:
    """The option of the group `model` that is this repository of the hub; None where there is none."""
    for path in sorted(CONF.glob(f"{MODEL}/*.yaml")):
        described = yaml.safe_load(path.read_text(encoding="utf-8"))
        if str(described.get("hub")).casefold() == repository.casefold():
            return path.stem
    return None


def model_words(name: str) -> str | None:
    """The words for a model that was given as `model=<name>` and is no option: of a folder or file, or of the hub."""
    if os.path.isdir(name) or (os.path.isfile(name) and is_gguf(Path(name))):
        return f"model.path={name}"
    if not REPOSITORY.fullmatch(name):
        return None
    option = option_of(name)
    return f"{HUB}={name}" if option is None else f"{MODEL}={option}"


def with_hub_model(words: Sequence[str], overrides: Sequence[Override] | None = None) -> list[str]:
    """The words of one point, with those that `model.hub` stands for behind them; the same where it is not given.

    `overrides` are the words as Hydra reads them, where they have been read before.
    Raises UsageError where another model is named beside it, or the hub does not give its config.json; FailureError
    where it does not answer and has not been asked for it before.
    """
    parsed = overrides or OverridesParser.create().parse_overrides(list(words))
    given = {override.get_key_element().lstrip("+"): override.value() for override in parsed}
    repository, chosen = given.get(HUB), given.get(MODEL)
    if chosen == ANY and not isinstance(repository, str):
        raise UsageError(f"{MODEL}={ANY}", "it stands for any repository of the hub", f"give {HUB}=<owner>/<name>")
    if not isinstance(repository, str) or "model.path" in given or not repository.strip():
        return list(words)  # a blank one is refused with all other settings
    option = option_of(repository) or ANY
    if chosen not in (None, option):
        raise UsageError(
            f"{MODEL}={chosen} {HUB}={repository}",
            "each of these names a model, whose sizes and rates are its own",
            f"give {HUB}={repository} without {MODEL}={chosen}",
        )
    added = {MODEL: option} | (_described(repository, given) if option == ANY else {})
    return [*words, *(f"{name}={value}" for name, value in added.items() if name not in given)]


def _described(repository: str, given: Mapping[str, object]) -> dict[str, str]:
    """Name, sizes and dtype of a repository; with sizes that are given by hand nothing is asked for."""
    found = {"model.name": f"'{repository.rpartition('/')[2].lower()}'"}
    if any(name.startswith("model.shape") for name in given):
        return found
    from tinylora.models.hub import config_file

    folder = config_file(repository, str(given.get("model.revision", "main"))).parent
    shape, dtype = shape_of_folder(folder), dtype_of_folder(folder) or Precision.fp32
    sizes = [] if shape is None else [f"{name}:{str(value).lower()}" for name, value in as_plain(shape).items()]
    return found | {"model.shape": f"{{{','.join(sizes)}}}" if sizes else "null", "model.dtype": dtype.value}
