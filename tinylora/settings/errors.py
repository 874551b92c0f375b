"""Errors that a person can act on: what was given, the rule it breaks, what to do; and the rules that raise them."""

from __future__ import annotations

import math
from collections.abc import Iterator


class TinyLoraError(Exception):
    """An error with three parts, shown as one message and without a traceback."""

    exit_status = 1

    def __init__(self, given: str, rule: str, remedy: str) -> None:
        super().__init__(given, rule, remedy)
        self.given, self.rule, self.remedy = given, rule, remedy

    def __str__(self) -> str:
        return f"{self.given}\n  rule:   {self.rule}\n  remedy: {self.remedy}"


class UsageError(TinyLoraError, ValueError):
    """What was asked for cannot be run: a wrong setting, name, file or folder. Exit status 2."""

    exit_status = 2


class FailureError(TinyLoraError, RuntimeError):
    """The machine or the records failed, though what was asked for is fine. Exit status 1."""


def first_line(error: BaseException) -> str:
    """The first line of a foreign error's message, for a rule; its class where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came of, from the last to the first: drivers and libraries wrap what is raised."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = getattr(error, "orig", None) or error.__cause__ or error.__context__


def require(holds: bool, given: str, rule: str, remedy: str) -> None:
    """Raise UsageError with these three parts unless the rule holds."""
    if not holds:
        raise UsageError(given, rule, remedy)


def require_counts(group: str = "", **values: int) -> None:
    """Settings that count things: at least 1. `group` is the beginning of their names, such as `eval.`."""
    for name, value in values.items():
        given = f"{group}{name}"
        require(value >= 1, f"{given}={value}", "it counts things and must be at least 1", f"give {given}=1 or more")


def is_positive(value: float | str) -> bool:
    """Whether a setting is a finite number above 0."""
    return not isinstance(value, str) and math.isfinite(value) and value > 0
