"""Numbers and settings as text, the same in tables, notes, figures and files."""

from __future__ import annotations

import math
import re
from typing import Any

GAP = "\N{EN DASH}"
"""Stands where there is no number: a missing one is never shown as zero."""


def show(value: Any) -> str:
    """A setting as text: whole numbers without a point, nothing for a missing one."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 1e4 else re.sub(r"\.0$", "", str(value))


def percent(share: float) -> str:
    """A share in per cent, or the sign for a gap."""
    return GAP if math.isnan(share) else f"{100 * share:.1f}"


def percent_range(low: float, high: float) -> str:
    """An interval of shares in per cent, or the sign for a gap."""
    return GAP if math.isnan(low) or math.isnan(high) else f"{percent(low)} to {percent(high)}"


def rounded_percent(share: float, low: float, high: float) -> str:
    """A share in per cent with no more digits than its interval allows: whole ones where that is 2 points or more wide.

    Without an interval (NaN) as `percent` has it.
    """
    return f"{100 * share:.0f}" if high - low >= 0.02 and not math.isnan(share) else percent(share)
