"""Errors that a person can act on: what was given, the rule it breaks, what to do."""

from __future__ import annotations


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
