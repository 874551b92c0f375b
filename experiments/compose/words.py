"""The words of a command line before Hydra composes anything of them: whether each says one thing that we can do.

Hydra's grammar allows more than a sweep has a use for: settings taken away (`~u`), put elsewhere (`u@x`), or given
twice, of which the last counts. What would change the experiment without a word, or end in a traceback, is refused.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, RangeSweep

from experiments.compose import CONF
from experiments.compose.usage import known_settings
from tinylora.settings.errors import UsageError, first_line, require
from tinylora.settings.rules import shown

MOST_POINTS = 100_000  # of one command: composing takes milliseconds a point
LONGEST_WORD = 100_000  # characters
OF_HYDRA = ("hydra/launcher", "hydra.searchpath")  # what Hydra may be told
LAUNCHER = "hydra.launcher."  # settings of the launcher
CLUSTER = "cluster"  # the group of files of launcher settings
SEARCH, FOUND = "search", "found"  # lr: try rates until the best is found, or take those (`experiments.search`)
ONE_VALUE = "give each setting once: name=value, or name=value1,value2 for a sweep"


def check_words(words: Sequence[str], groups: Path = CONF) -> list[Override]:
    """The overrides that the words are. Raises UsageError, or Hydra's OverrideParseException.

    `groups` is the folder whose folders are the groups, with a file for each option.
    """
    overrides = [_parsed(word) for word in words]
    for override in overrides:
        _check_hydra(override)
        _check_cluster(override)
        _check_one(override, groups)
    _require_once(overrides)
    points = 1
    for override in overrides:
        points *= _count(override, groups)
        if points > MOST_POINTS:
            raise UsageError(
                f"{override.input_line}, in all more than {MOST_POINTS:,} points",
                f"all points of a sweep are composed and checked before the first starts, {MOST_POINTS:,} at most",
                "give fewer values, in several commands",
            )
    return overrides


def with_rates(overrides: Sequence[Override]) -> list[str]:
    """The words that the overrides are, with a rate in the place of `lr=search` and `lr=found`."""
    return [str(override.input_line) if word_for_rates([override]) is None else "lr=1" for override in overrides]


def word_for_rates(overrides: Sequence[Override]) -> str | None:
    """`search` or `found`, where lr is given as this; it is no rate of any run."""
    given = [str(value) for override in overrides if override.key_or_group == "lr" for value in _values(override)]
    return next((value for value in given if value in (SEARCH, FOUND)), None)


def given_settings(overrides: Sequence[Override], groups: Path = CONF) -> dict[str, str]:
    """The settings that the overrides name, by dotted name, each with its word; of groups, an algorithm's choice."""
    found: dict[str, str] = {}
    for override in overrides:
        word = str(override.input_line)
        for name in _leaves(override):
            if not _is_group(override, groups) or name != override.key_or_group:
                found[name] = word
            elif name == "algorithm":
                found["algorithm.name"] = word
    return found


def _parsed(word: str) -> Override:
    require(len(word) <= LONGEST_WORD, shown(word), f"a word has at most {LONGEST_WORD:,} characters", "shorten it")
    try:
        return OverridesParser.create().parse_overrides([word])[0]
    except (ValueError, RecursionError, MemoryError) as error:  # of a number with thousands of digits, of nesting
        raise UsageError(
            shown(word), f"settings are given as name=value, and this cannot be read: {first_line(error)}", ONE_VALUE
        ) from error


def _check_one(override: Override, groups: Path) -> None:
    word, key = str(override.input_line), override.key_or_group
    require(key.strip() != "", word, "settings are given as name=value, and this has no name", ONE_VALUE)
    require(
        not override.is_delete(),
        word,
        "a setting cannot be taken away: without one its default would count",
        "leave it out, or give the value that you want: name=value",
    )
    require(
        override.package is None, word, "where a setting belongs is its name, without @", f"give {key}=<value> instead"
    )
    if override.value_type is None or isinstance(override.value(), IntervalSweep):
        rule = "a sweep is over values that are listed, and an INTERVAL has any number of them"
        raise UsageError(word, rule, _instead_of_interval(override))
    if isinstance(override.value(), Glob):
        known = ", ".join(_options(key, groups))
        rule = f"glob chooses among the options of a group{f': {known}' if known else f', and {key} is a setting'}"
        require(_count(override, groups) > 0, word, rule, f"give {key}=<value1>,<value2>")
    chosen = word_for_rates([override])
    alone = chosen is None or len(_values(override)) == 1
    rule = f"lr={chosen} chooses all rates that are tried, so it stands alone"
    require(alone, word, rule, f"give lr={chosen}, or numbers, lr=1e-3,1e-2")
    kind = known_settings().get(key, (None, None))[0]
    for value in _values(override):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        require(not (kind is bool and number), word, f"{key} is true or false", f"give {key}=true or {key}=false")
        if _is_group(override, groups):
            rule = f"{key} is one of {', '.join(_options(key, groups))}"
            require(isinstance(value, str | dict), word, rule, f"give {key}=<one of these>, or {key}.<setting>=<value>")
        require(value != {}, word, "{} changes nothing: what there is stays as it is", f"give {key}.<name>=<value>")


def _instead_of_interval(override: Override) -> str:
    """A remedy for an interval: its ends as values of a sweep; for rates, the search that finds the best one."""
    key, interval = override.key_or_group, override.value()
    if not isinstance(interval, IntervalSweep) or interval.start is None or interval.end is None:
        return f"give {key}=<value1>,<value2>"
    search = f", or lr={SEARCH}, which finds the best one" if key == "lr" else ""
    return f"give {key}={interval.start:g},{interval.end:g}, with what you want between them{search}"


def _check_hydra(override: Override) -> None:
    """Only what starts the points may be chosen: how Hydra composes and what it writes is settled in conf/."""
    key = override.key_or_group
    if key.partition(".")[0].partition("/")[0] == "hydra":
        require(
            key in OF_HYDRA or key.startswith(LAUNCHER),
            str(override.input_line),
            "Hydra itself is set up by conf/config.yaml, and only its launcher is chosen by hand",
            "leave it out, or give hydra/launcher=<pack, local or slurm> and launcher.<name>=<value>",
        )
        name, _, value = str(override.input_line).removeprefix("++").removeprefix("hydra.").partition("=")
        require(
            not (key.startswith(LAUNCHER) and override.is_sweep_override()),
            str(override.input_line),
            "a setting of the launcher has one value for all jobs, and a comma lists values of a sweep",
            f"""give one value; one that has a comma in it is quoted, twice for the shell: '{name}="{value}"'""",
        )
        named = "/" not in key or isinstance(override.value(), str | ChoiceSweep)  # of several values Hydra says more
        require(named, str(override.input_line), "a launcher has a name", "give hydra/launcher=pack, local or slurm")


def _check_cluster(override: Override) -> None:
    """A sweep is submitted to one cluster, by its profile as a whole."""
    word = str(override.input_line)
    known = override.key_or_group == CLUSTER and not override.is_sweep_override() and isinstance(override.value(), str)
    require(
        known or override.key_or_group.partition(".")[0] != CLUSTER,
        word,
        "a cluster is a profile by its name, one for all jobs; its settings are those of the launcher",
        "give +cluster=<name>, and launcher.<setting>=<value> for what is to be otherwise",
    )


def _require_once(overrides: Sequence[Override]) -> None:
    """Of two different values of a setting Hydra takes the last; what is said twice in the same way does no harm."""
    seen: dict[str, Override] = {}
    for override in overrides:
        for name in _leaves(override):
            first = seen.setdefault(name, override)
            if repr(first.value()) != repr(override.value()):
                raise UsageError(
                    f"{first.input_line} {override.input_line}",
                    f"{name} is given twice, and only one of them would count",
                    ONE_VALUE,
                )


def _leaves(override: Override) -> list[str]:
    """The dotted names of the settings that an override sets: several where its value is a mapping."""
    names: dict[str, None] = {}
    for value in _values(override):
        names |= dict.fromkeys(_named(override.key_or_group, value))
    return list(names) or [override.key_or_group]


def _named(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _named(f"{name}.{key}", inner)
    else:
        yield name


def _values(override: Override) -> list[Any]:
    """Its value, or the values of a sweep that lists them."""
    value = override.value()
    if isinstance(value, ChoiceSweep):
        return [Override._convert_value(each) for each in value.list]
    return [] if isinstance(value, Glob | RangeSweep | IntervalSweep) else [value]


def _count(override: Override, groups: Path) -> int:
    """How many values a sweep has, counted up to one more than there may be points. Raises UsageError for none."""
    value, word = override.value(), str(override.input_line)
    if isinstance(value, Glob):
        return len(value.filter(_options(override.key_or_group, groups)))
    if isinstance(value, ChoiceSweep):
        return len(value.list)
    if not isinstance(value, RangeSweep):
        return 1
    try:
        count = sum(1 for _ in itertools.islice(iter(value.range()), MOST_POINTS + 1))
    except Exception as error:  # a step of 0, or what is no number
        raise UsageError(word, f"a range has a start, an end and a step: {first_line(error)}", ONE_VALUE) from error
    require(count > 0, word, "there is no value in this range, so the sweep would have no point", ONE_VALUE)
    return count


def _is_group(override: Override, groups: Path) -> bool:
    return bool(_options(override.key_or_group, groups))


def _options(group: str, groups: Path) -> list[str]:
    """The options of a group of ours; none of another name."""
    return sorted(path.stem for path in groups.glob(f"{group}/*.yaml")) if group.replace("_", "").isalnum() else []
