"""What makes two runs the same run: stated at each setting, and read here.

Every setting is declared with `setting(default, role)`. Its role says whether another value makes another run, and
whether the lanes of one pack may differ in it:

    role        hashed into run_key    lanes of a pack
    identity    yes                    agree
    lane        yes                    may differ
    place       no                     agree               where things lie, what computes them, how points are packed
    note        no                     may differ          what is known about the point

Records outlive code, so the hash of recorded settings must never change. A setting that is added later names in
`absent` the value that old runs had by definition, and is left out of the hash where it has that value. A change of the
code after which the same settings would give another v or another reward raises `RECIPE`, which is hashed like a
setting.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

RECIPE = 3
"""How this version turns settings into results: raised by 1 when the same settings would give another v or reward."""


class Role(Enum):
    """What a setting means for the identity of a run, and for the lanes of a pack: the table above."""

    identity = (True, False)
    lane = (True, True)
    place = (False, False)
    note = (False, True)

    def __init__(self, hashed: bool, differs_in_pack: bool) -> None:
        self.hashed, self.differs_in_pack = hashed, differs_in_pack


def setting(
    default: Any,
    role: Role,
    *,
    used: Callable[[Any], bool] | None = None,
    counts_as: Callable[[Any], Any] | None = None,
    given: Callable[[Any], bool] | None = None,
    absent: Any = None,
    enters: Callable[[str, str], str] | None = None,
) -> Any:
    """A field of a settings dataclass; a mutable default is given as the function that makes it.

    `used(run)`, of the RunConfig, says whether the setting has a meaning for that run; where it has none, it is not
    hashed. `counts_as(run)` is the value that is hashed in its place. `given(run)` says whether the run heeds the
    setting, where that is another question than `used`: one that no run of a command heeds may not be given by hand
    (see `uses`). `absent` is for settings that were added after runs had been recorded (see above). `enters(text,
    name)` is what is kept of the text that a person gives: of a path, the absolute one (see `paths`).
    """
    metadata = {"role": role, "used": used, "counts_as": counts_as, "given": given or used, "absent": absent}
    metadata["enters"] = enters
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def hashed_settings(run: Any, group: Any = None) -> dict[str, Any]:
    """The settings of a RunConfig (or of one group of it) that identify the run, as nested plain values."""
    found: dict[str, Any] = {}
    for each in fields(group or run):
        value = getattr(group or run, each.name)
        if is_dataclass(value) and "role" not in each.metadata:
            if inner := hashed_settings(run, value):
                found[each.name] = inner
        elif each.metadata["role"].hashed and (each.metadata["used"] is None or each.metadata["used"](run)):
            counts_as, absent = each.metadata["counts_as"], each.metadata["absent"]
            value = as_plain(value if counts_as is None else counts_as(run))
            if absent is None or value != as_plain(absent):
                found[each.name] = value
    return found


def shared_settings(group: Any) -> dict[str, Any]:
    """The settings in which the lanes of a pack agree, as nested plain values."""
    found: dict[str, Any] = {}
    for each in fields(group):
        value = getattr(group, each.name)
        if is_dataclass(value) and "role" not in each.metadata:
            found[each.name] = shared_settings(value)
        elif not each.metadata["role"].differs_in_pack:
            found[each.name] = as_plain(value)
    return found


def digest(plain: dict[str, Any]) -> str:
    """64 hex digits over nested plain values, whatever their order."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def content_digest(path: Path) -> str:
    """12 hex digits over a file's content; its name where no such file can be read (loading the model then says so)."""
    if not os.path.isfile(path):
        return str(path)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:12]
    except OSError:
        return str(path)


def as_plain(value: Any) -> Any:
    """A config, or any value of a setting, as nested plain values (enums by value), ready for YAML or JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value, dict_factory=lambda items: {name: as_plain(each) for name, each in items})
    return value.value if isinstance(value, Enum) else value


def flatten(plain: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level with dotted names, lists as text: {"model.name": ..., "eval.suites": "gsm8k"}."""
    flat: dict[str, Any] = {}
    for name, value in plain.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = ",".join(map(str, value)) if isinstance(value, list) else value
    return flat
