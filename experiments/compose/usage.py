"""Errors of Hydra and OmegaConf as ours, in three parts: what was given, the rule it breaks, what to do."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, NoReturn, Union, get_args, get_origin, get_type_hints

from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from tinylora.settings.config import ALL, AUTO, GrpoConfig, RunConfig, SftConfig
from tinylora.settings.errors import UsageError
from tinylora.settings.rules import KIND_WORDS

SHOW = "`python -m experiments.run --cfg job` shows all settings, `--help` the groups"
SPECIAL_WORDS = {"n_tie": ALL, "lr": AUTO, "pack.memory_gib": AUTO, "pack.max_lanes": AUTO}
COMPLETION_COMMAND = "(install|uninstall|query)=(bash|fish|zsh)"


def check_flags(arguments: Sequence[str]) -> list[str]:
    """The words that are no flags. Raises UsageError for flags that Hydra does not know or that cannot be combined."""
    parser = get_args_parser()
    parser.error = _refuse_flag  # type: ignore[method-assign]
    given = parser.parse_args(list(arguments))
    modes = ("run", "multirun", "cfg", "info", "shell_completion")
    chosen = [f"--{mode.replace('_', '-')}" for mode in modes if getattr(given, mode)]
    if len(chosen) > 1:
        raise UsageError(" ".join(chosen), "each of these asks for something else", f"give {chosen[-1]} alone")
    if given.resolve and given.cfg is None and not given.help:
        raise UsageError("--resolve", "it belongs to --cfg", "give --cfg job --resolve")
    if given.shell_completion and not re.fullmatch(COMPLETION_COMMAND, " ".join(given.overrides)):
        raise UsageError(
            " ".join(["-sc", *given.overrides]),
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
    return [] if given.shell_completion else list(given.overrides)


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
        return UsageError(given, "settings are shown for one point, not for a sweep", "give one value")
    if added := re.search("Either remove [+] prefix: '(.*?)'", str(error)):
        given = added.group(1)
        return UsageError(f"+{given}", "+ adds a setting, and this one is there already", f"give {given}")
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()] or [type(error).__name__]
    rule = " ".join(lines[1:]) or "settings are composed from conf/ and name=value on the command line"
    return UsageError(lines[0], rule, SHOW)


def _refuse_flag(message: str) -> NoReturn:
    raise UsageError(
        message, "flags start with a dash, settings are given as name=value", "see --help and --hydra-help"
    )


def _missing_option(error: MissingConfigException) -> UsageError:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    options = list(error.options or ())
    if not group or not options:
        first_line = str(error).splitlines()[0]
        return UsageError(first_line, "settings are composed from the files of conf/", SHOW)
    remedy = f"give {group}={_closest(name, options)}"
    return UsageError(f"{group}={name}", f"{group} is one of {', '.join(options)}", remedy)


def _broken_override(error: OverrideParseException) -> UsageError:
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
    if isinstance(kind, type) and issubclass(kind, Enum):
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
    return _settings_of(RunConfig) | _settings_of(GrpoConfig, "algorithm.") | _settings_of(SftConfig, "algorithm.")


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
