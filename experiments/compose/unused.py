"""Settings that were given by hand and that no point of the sweep uses: refused, since they look as if they did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from tinylora.settings.config import RunConfig
from tinylora.settings.errors import UsageError
from tinylora.settings.uses import Need


def require_used(points: Sequence[RunConfig], given: Mapping[str, str]) -> None:
    """Raise UsageError for the first setting that has no meaning for any of the points.

    `given` has the word by which each setting was given, by its dotted name. In a sweep it is enough that one point
    uses it, as in `adapter=tinylora,full u=1,13`.
    """
    for name, word in given.items():
        needs = [(point, _need(point, name)) for point in points]
        if not needs or any(need is None or need(point) for point, need in needs):
            continue
        need = needs[0][1]
        wanted = need.words if isinstance(need, Need) else "another combination of settings"
        raise UsageError(
            f"{word} with {_said(points[0])}",
            f"no point of this command uses {name}: it has a meaning for {wanted}",
            f"leave {name} out, or change the setting that keeps it from being used",
        )


def _need(point: RunConfig, name: str) -> Callable[[Any], bool] | None:
    """What a setting needs to be heeded; None where it always is, or where the point has no such setting."""
    group: Any = point
    *outer, last = name.split(".")
    for part in outer:
        declared = next((each for each in fields(group) if each.name == part), None) if is_dataclass(group) else None
        if declared is None:
            return None
        if "role" in declared.metadata:  # a mapping, whose names are the user's
            return _declared(declared)
        group = getattr(group, part)
    found = next((each for each in fields(group) if each.name == last), None) if is_dataclass(group) else None
    return None if found is None else _declared(found)


def _declared(field: Any) -> Callable[[Any], bool] | None:
    need: Callable[[Any], bool] | None = field.metadata.get("given")
    return need


def _said(point: RunConfig) -> str:
    """What a point is of, in the words of a command line."""
    said = f"adapter={point.adapter.name.value} algorithm={point.algorithm.name.value} task={point.task.name}"
    return said if point.model.path is None else f"{said} model.path={point.model.path}"
