"""Configs back from plain values: what `config.as_plain` wrote into a run folder or a sweep's file, as a RunConfig."""

from __future__ import annotations

import types
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from tinylora.settings.algorithms import ALGORITHMS
from tinylora.settings.choices import Algorithm
from tinylora.settings.config import AlgorithmConfig, RunConfig
from tinylora.settings.errors import UsageError


def from_plain(plain: dict[str, Any]) -> RunConfig:
    """The config that `as_plain` made `plain` of. UsageError where it is none, such as one of another version."""
    try:
        config = build(RunConfig, plain)
    except UsageError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"a recorded config: {type(error).__name__}: {error}",
            "it has the settings of tinylora/settings/config.py",
            "read it with the version that wrote it",
        ) from error
    assert isinstance(config, RunConfig)
    return config


def build(schema: Any, plain: dict[str, Any]) -> Any:
    """The dataclass `schema` with these plain values; KeyError, TypeError or ValueError where it has no such ones."""
    kinds = _kinds(schema)
    unknown = set(plain) - {field.name for field in fields(schema)}
    if unknown:
        raise KeyError(f"there is no setting {', '.join(sorted(unknown))}")
    values = {name: _value(kinds[name], value) for name, value in plain.items()}
    # Settings that an old record does not know have the values that its run had by definition.
    absent = {each.name: value for each in fields(schema) if (value := each.metadata.get("absent")) is not None}
    return schema(**absent | values)


@cache
def _kinds(schema: Any) -> dict[str, Any]:
    return get_type_hints(schema)


def _value(kind: Any, value: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        parts = [part for part in get_args(kind) if is_dataclass(part)]
        return _value(parts[0], value) if parts and value is not None else value
    if kind is AlgorithmConfig:
        kind = ALGORITHMS[Algorithm(value["name"])]
    if is_dataclass(kind):
        return build(kind, value)
    return kind(value) if isinstance(kind, type) and issubclass(kind, Enum) else value
