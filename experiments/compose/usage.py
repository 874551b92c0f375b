"""Errors of Hydra and OmegaConf as ours, in three parts: what was given, the rule it breaks, what to do."""

from __future__ import annotations

import argparse
import difflib
import re
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache, partial
from typing import Any, NoReturn, Union, get_args, get_origin, get_type_hints

import yaml
from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from experiments.compose import CONF
from experiments.compose.models import model_words
from tinylora.settings.algorithms import ALGORITHMS
from tinylora.settings.config import ALL, AUTO, RunConfig
from tinylora.settings.errors import UsageError
from tinylora.settings.rules import KIND_WORDS

SHOW = "`python -m experiments.run --cfg job` shows all settings, `--help` the groups"
SPECIAL_WORDS = {"n_tie": ALL, "lr": AUTO, "pack.memory_gib": AUTO, "pack.max_lanes": AUTO}
EXAMPLE_RATE = 0.001  # `auto` has no meaning for every model
FLAGS = "flags start with a dash and settings are name=value, in any order; there is no such flag, or it lacks a value"
COMPLETION_COMMAND = "(install|uninstall|query)=(bash|fish|zsh)"


def check_flags(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words with their flags first, as Hydra takes them, and the settings among them.

    Raises UsageError for flags that Hydra does not know or that cannot be combined.
    """
    parser = get_args_parser()
    parser.error = partial(_refuse_flag, parser)  # type: ignore[method-assign]
    given = parser.parse_intermixed_args(list(arguments))
    settings = list(given.overrides)
    modes = ("run", "multirun", "cfg", "info", "shell_completion")
    chosen = [f"--{mode.replace('_', '-')}" for mode in modes if getattr(given, mode)]
    if len(chosen) > 1:
        *others, kept = chosen
        remedy = f"give {kept}, without {' and '.join(others)}"
        raise UsageError(" ".join(chosen), "each of these asks for something else", remedy)
    if given.resolve and given.cfg is None:
        raise UsageError("--resolve", "it belongs to --cfg", "give --cfg job --resolve")
    if given.shell_completion and not re.fullmatch(COMPLETION_COMMAND, " ".join(settings)):
        raise UsageError(
            " ".join(["-sc", *settings]),
            "-sc takes install=, uninstall= or query= and bash, fish or zsh",
            "give -sc install=bash",
        )
    if given.run or given.experimental_rerun or (given.package and given.cfg is None):
        raise UsageError(
            " ".join(arguments),
            "--run would leave out the points of presets, --experimental-rerun reads a pickle, and --package is for "
            "--cfg alone",
            "leave it out: one run is a sweep of one point",
        )
    return _without(arguments, settings) + settings, [] if given.shell_completion else settings


def _without(words: Sequence[str], settings: Sequence[str]) -> list[str]:
    """The words without the settings, of which a flag's own value may be spelt like one: the last ones are left out."""
    kept = list(reversed(words))
    for setting in settings:
        kept.remove(setting)
    return kept[::-1]


@contextmanager
def readable_errors(launcher_settings: Sequence[str] = ()) -> Iterator[None]:
    """Inside, errors of Hydra and OmegaConf become a UsageError; `launcher_settings` are the names that there are."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise _translate(error, launcher_settings) from error


def _translate(error: Exception, launcher_settings: Sequence[str]) -> UsageError:
    if isinstance(error, MissingConfigException):
        return _missing_option(error)
    if isinstance(error, OverrideParseException):
        return _broken_override(error)
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and cause.full_key:
        return _unknown_setting(cause, str(error), launcher_settings)
    if isinstance(cause, ValidationError) and cause.full_key:
        return _wrong_value(cause, str(error))
    if "requires --multirun" in str(error) or "Ambiguous value" in str(error):
        given = str(error).split("'")[1]
        name, _, values = given.partition("=")
        one = f"give one value: {name}={values.partition(',')[0]}" if values[:1].isalnum() else "give one value"
        return UsageError(given, "settings are shown for one point, not for a sweep", one)
    if lacking := re.search(r"To append to your default list use [+](\w+)=(\S+)", str(error)):
        given = f"{lacking[1]}={lacking[2]}"
        return UsageError(given, f"a run has no {lacking[1]} unless one is added, with a +", f"give +{given}")
    if added := re.search("Either remove [+] prefix: '(.*?)'", str(error)):
        given = added.group(1)
        return UsageError(f"+{given}", "+ adds a setting, and this one is there already", f"give {given}")
    if isinstance(cause, MissingMandatoryValue) and cause.full_key:
        name = str(cause.full_key)
        return UsageError(f"{name} is missing", f"{name} must be given here", f"give {name}=<value>")
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()] or [type(error).__name__]
    rule = " ".join(lines[1:]) or "settings are composed from conf/ and name=value on the command line"
    return UsageError(lines[0], rule, SHOW)


def _refuse_flag(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    known = [*parser._option_string_actions, "--minutes", "--points"]
    wrong = [word for word in message.split() if word.startswith("--")]
    meant = [near for word in wrong for near in difflib.get_close_matches(word, known, 1, cutoff=0.8)]
    given = re.findall(r"--([\w.-]+)(?:[= ]([^\s-]\S*))?", message)
    meant += [f"{name}={value or '<value>'}" for word, value in given if (name := _setting_meant(word)) is not None]
    instead = f"give {meant[0]}" if meant else "leave it out"
    raise UsageError(message, FLAGS, f"{instead}; `python -m experiments.run --hydra-help` lists flags")


def _setting_meant(word: str) -> str | None:
    """The setting of which this is the name, or the last part of it."""
    word = word.replace("-", "_")
    return next((name for name in known_settings() if word in (name, name.rpartition(".")[2])), None)


def _missing_option(error: MissingConfigException) -> UsageError:
    path, options = error.missing_cfg_file or "", list(error.options or ())
    if "/" not in path or not options:
        first_line = str(error).splitlines()[0]
        return UsageError(first_line, "settings are composed from the files of conf/", SHOW)
    of_hydra, below = ("hydra/", path.removeprefix("hydra/")) if path.startswith("hydra/") else ("", path)
    group, _, name = below.partition("/")  # a name may hold more of them, as that of a repository does
    group = of_hydra + group
    return UsageError(f"{group}={name}", f"{group} is one of {', '.join(options)}", _option_meant(group, name, options))


def _option_meant(group: str, name: str, options: Sequence[str]) -> str:
    """The remedy for an option that there is not: all that begin as it does, or the one that is most like it."""
    if group == "model" and (words := model_words(name)) is not None:
        return f"give {words}"
    alike = [each for each in options if name and each.casefold().startswith(name.casefold())]
    near = alike or difflib.get_close_matches(name, options, 1, cutoff=0.4) or _usual(group) or options[:1]
    shown = ", ".join(f"{group}={each}" for each in near)
    return f"give {shown}" if group != "model" else f"give {shown}, or model.hub=<owner>/<name> for any other"


def _usual(group: str) -> list[str]:
    """The option of a group that counts where none is given, if there is one."""
    root = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))
    chosen = [each for each in root["defaults"] if isinstance(each, dict)]
    return [str(option) for each in chosen for name, option in each.items() if name.split()[-1] == group]


def _broken_override(error: OverrideParseException) -> UsageError:
    if re.fullmatch(r"[\w.]+", error.override):
        setting = _setting_meant(error.override)
        return UsageError(
            error.override,
            "a setting is given as name=value, without spaces",
            f"give {setting}=<value>" if setting else f"give <name>={error.override}",
        )
    lines = [line for line in error.message.splitlines() if not line.startswith(("Error parsing override", "See http"))]
    found = lines[0].partition(" expecting ")[0] if lines else "not understood"
    return UsageError(
        error.override,
        f"a setting is given as name=value, several values as name=value1,value2 (here: {found})",
        "a value with brackets, commas, spaces or ~ needs quotes, and these again for the shell: 'name=\"a, b\"'",
    )


def _unknown_setting(
    error: ConfigAttributeError | ConfigKeyError, message: str, launcher_settings: Sequence[str]
) -> UsageError:
    name = str(error.full_key)
    if name.startswith("hydra.launcher."):
        known = [f"launcher.{setting}" for setting in launcher_settings]
        given = _given(message, name).removeprefix("hydra.")
        return _unknown_launcher_setting(name.removeprefix("hydra."), given, known)
    group = name.rpartition(".")[0]
    siblings = [field.name for field in fields(error.object_type)] if is_dataclass(error.object_type) else []
    candidates = [f"{group}.{sibling}" if group else sibling for sibling in siblings] + list(known_settings())
    near = _nearest(name, candidates)
    rule = f"there is no setting `{name}`"
    if siblings:
        rule += f"; {group or 'a run'} has {', '.join(siblings)}"
    remedy = f"did you mean {near}? {SHOW}" if near else SHOW
    return UsageError(_given(message, name), rule, remedy)


def _unknown_launcher_setting(name: str, given: str, known: Sequence[str]) -> UsageError:
    if name in known:
        return UsageError(
            given, "only the launchers that submit jobs have settings", "add hydra/launcher=slurm (or local)"
        )
    near = _nearest(name, known)
    rule = f"there is no setting `{name}`; there are {', '.join(known)}"
    return UsageError(given, rule, f"give {near or known[0]}=..., or leave it out")


def _nearest(name: str, candidates: Sequence[str]) -> str | None:
    """The setting that was probably meant: alike as a whole, or in the part after the last dot."""
    leaves = {candidate.rpartition(".")[2]: candidate for candidate in reversed(candidates)}
    alike = difflib.get_close_matches(name, candidates, 1)
    alike += [leaves[leaf] for leaf in difflib.get_close_matches(name.rpartition(".")[2], leaves, 1, cutoff=0.7)]
    return next((candidate for candidate in alike if candidate != name), None)


def _wrong_value(error: ValidationError, message: str) -> UsageError:
    name = str(error.full_key)
    kind, default = known_settings().get(name, (None, None))
    given = _given(message, f"{name}: {error.msg}".splitlines()[0])
    if kind is None:
        return UsageError(given, str(error.msg).splitlines()[0], SHOW)
    if name == "lr":
        default = EXAMPLE_RATE
    elif isinstance(kind, type) and issubclass(kind, Enum):
        default = _closest(given.partition("=")[2], [option.value for option in kind])
    example = default.value if isinstance(default, Enum) else default
    remedy = SHOW if example is None else f"give {name}={example}, for example"
    return UsageError(given, f"{name} is {_describe(name, kind)}", remedy)


def _given(message: str, otherwise: str) -> str:
    """The override that Hydra's message is about."""
    first_line, *others = message.splitlines() or [""]
    if first_line.startswith("Error merging override "):
        return first_line.removeprefix("Error merging override ")
    for line in others:
        if line.startswith("To append to your config use +"):
            return line.removeprefix("To append to your config use +")
    return otherwise


@cache
def known_settings() -> dict[str, tuple[Any, Any]]:
    """Type and default (None: it has none of its own) of every setting, by dotted name."""
    settings = _settings_of(RunConfig)
    for schema in ALGORITHMS.values():
        settings |= _settings_of(schema, "algorithm.")
    return settings


def _settings_of(schema: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    kinds = get_type_hints(schema)
    settings: dict[str, tuple[Any, Any]] = {}
    for field in fields(schema):
        kind, name = kinds[field.name], prefix + field.name
        default = None if field.default is MISSING else field.default
        settings |= _settings_of(kind, f"{name}.") if is_dataclass(kind) else {name: (kind, default)}
    return settings


def _describe(name: str, kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"one of {', '.join(option.value for option in kind)}"
    if name in SPECIAL_WORDS:
        return f"{'a whole number' if name in ('n_tie', 'pack.max_lanes') else 'a number'} or `{SPECIAL_WORDS[name]}`"
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(KIND_WORDS.get(part, "a group of settings") for part in get_args(kind))
    return KIND_WORDS.get(get_origin(kind) or kind, "a group of settings")


def _closest(given: str, options: Sequence[str]) -> str:
    return (difflib.get_close_matches(given, options, 1, cutoff=0.4) or list(options))[0]
