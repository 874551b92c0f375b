"""Rules for values of any setting: each is of the kind that its field declares, numbers are finite, texts can be kept.

What a setting means beyond that is ruled where it is declared (`groups`, `model`, `config`).
"""

from __future__ import annotations

import math
import os
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields
from functools import cache
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from tinylora.settings.errors import UsageError, require

LARGEST_WHOLE = 2**63 - 1  # of whole numbers: what all that reads records can hold
SMALLEST_FP32, LARGEST_FP32 = 2.0**-126, (2 - 2**-23) * 2.0**127
DEEPEST = 8  # nesting of a setting that holds lists and mappings
LONGEST_PATH, LONGEST_NAME = 4095, 255  # bytes, of file systems
KIND_WORDS = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    list: "a list",
    dict: "a mapping",
    type(None): "null",
}


def require_kinds(group: Any, prefix: str = "") -> None:
    """Raise UsageError for the first field of a settings dataclass whose value is not of the declared kind."""
    schema: Any = type(group)
    kinds = _kinds(schema)
    for each in fields(group):
        value = getattr(group, each.name)
        reason = _why_not(value, kinds[each.name])
        if reason is not None:
            name = f"{prefix}{each.name}"
            raise UsageError(f"{name}={shown(value)}", f"{name} is {reason}", _example(name, each))


def require_between(name: str, value: float, least: float, most: float, remedy: str) -> None:
    """Raise UsageError where a number is not within two limits, which may be reached."""
    require(least <= value <= most, f"{name}={shown(value)}", f"{name} is from {least:g} to {most:g}", remedy)


def require_path(name: str, value: str | None) -> None:
    """Raise UsageError where a text can be no path of any file system."""
    if value is None:
        return
    given, remedy = f"{name}={shown(value)}", f"give {name}=<another path>"
    parts = [len(os.fsencode(part)) for part in Path(value).parts]
    fits = len(os.fsencode(value)) <= LONGEST_PATH and max(parts, default=0) <= LONGEST_NAME
    require(fits, given, f"a path has at most {LONGEST_PATH} bytes, and a name in it {LONGEST_NAME}", remedy)


def shown(value: Any) -> str:
    """A value for a message, however large it is."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > LARGEST_WHOLE:
        return f"<a number of {value.bit_length()} bits>"
    text = "null" if value is None else str(value)
    return text if len(text) <= 200 else f"{text[:200]}... ({len(text)} characters)"


def why_not_text(text: str) -> str | None:
    """Why a text cannot be kept in records, such as `text without NUL`; None where it can."""
    if "\0" in text:
        return "text without NUL"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "text that Unicode has (it holds a lone surrogate, such as of a byte that is no UTF-8)"
    return None


@cache
def _kinds(schema: Any) -> dict[str, tuple[Any, ...]]:
    """The kinds that each field may have: the parts of a union, without the contents of lists and mappings."""
    return {name: _parts(hint) for name, hint in get_type_hints(schema).items()}


def _parts(hint: Any) -> tuple[Any, ...]:
    parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return tuple(get_origin(part) or part for part in parts)


def _why_not(value: Any, kinds: tuple[Any, ...]) -> str | None:
    """What a field of these kinds is, where the value is not that; None where it is."""
    words = " or ".join(KIND_WORDS.get(kind, "a group of settings") for kind in kinds)
    if isinstance(value, bool) or value is None:
        return None if type(value) in kinds else words
    if isinstance(value, int | float):
        return _why_not_number(value, words) if {type(value), float} & set(kinds) else words
    if isinstance(value, str):
        if str not in kinds:
            return words
        return why_not_text(value) if value.strip() else "text that is not blank"
    if isinstance(value, dict | list):
        return _why_not_nested(value, DEEPEST) if type(value) in kinds else words
    return None if isinstance(value, kinds) else words


def _why_not_number(value: float, words: str) -> str | None:
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{words}, and finite"
    return None if abs(value) <= LARGEST_WHOLE else f"{words} of at most 63 bits"


def _why_not_nested(value: Any, depth: int) -> str | None:
    """The same for what lists and mappings hold: plain values, not nested too deeply."""
    if isinstance(value, str):
        return why_not_text(value)
    if isinstance(value, int | float):
        return _why_not_number(value, "a number")
    if isinstance(value, Mapping) and not all(isinstance(name, str) for name in value):
        return "a mapping whose names are texts"
    if isinstance(value, Mapping | Sequence):
        inner = [*value, *value.values()] if isinstance(value, Mapping) else value
        if depth == 0:
            return f"nested at most {DEEPEST} deep"
        return next((reason for each in inner if (reason := _why_not_nested(each, depth - 1)) is not None), None)
    return None if value is None else "made of numbers, texts, lists and mappings"


def _example(name: str, field: Field[Any]) -> str:
    default = field.default if field.default_factory is MISSING else None
    if default is MISSING or default is None:
        return f"give another {name}, or leave it out"
    return f"give {name}={getattr(default, 'value', default)}, for example"
