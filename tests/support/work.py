"""Work as a number of calls of functions, Python's and C's: the same on every machine, however busy it is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

SMALL, LARGE = 100_000, 1_000_000  # characters


def calls(action: Callable[[], object]) -> int:
    """How many functions an action calls in this thread."""
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(before)
    return count


def require_bounded(action: Callable[[str], object], piece: str, most: int) -> None:
    """Fail where a text of a million characters takes more than so many calls, or more than one of a tenth does."""
    small, large = (calls(lambda size=size: action(piece * (size // len(piece)))) for size in (SMALL, LARGE))  # type: ignore[misc]
    assert large <= most, f"{large:,} calls"
    assert large <= 1.1 * small + 100, f"{small:,} calls for a tenth of the text, and {large:,} for all of it"
