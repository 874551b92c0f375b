"""Stopping a pack between two steps, or in an evaluation: whoever wants it says so, and the loop ends with every state
saved.

An interrupt ends a step in its middle, which loses what was not saved; a scheduler gives notice, so nothing need be.
"""

from __future__ import annotations


class StopRequest:
    """What a signal handler sets and the loop looks at before every step."""

    def __init__(self) -> None:
        self.reason: str | None = None

    def ask(self, reason: str) -> None:
        """Stop before the next step; the first reason is kept."""
        self.reason = self.reason or reason

    def obey(self, also: str | None = None) -> None:
        """Raise Stopped where a stop was asked for, here or by another (`also`: its reason)."""
        if (reason := self.reason or also) is not None:
            raise Stopped(reason)


class Stopped(Exception):
    """The pack has stopped where it was asked to; the same points continue from there."""
