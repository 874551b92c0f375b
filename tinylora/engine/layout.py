"""How rows are laid out for a model: which of the ways that save time give what the model says of each row alone.

Fast rows lean on how a model reads: its attention must depend on the positions and the mask that it is given, and on
nothing else. That holds for most families and not for all (windows and biases by column, positions that are counted
inside). What holds for a model is tried (`trial`), not looked up by its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Reading(Enum):
    """How a rollout reads its rows, the fastest first."""

    padded = "padded"
    """Prompts of any length in one batch, with padding on the left, positions and mask, and a key-value cache."""
    alone = "alone"
    """Rows of one length in a batch, without padding, positions or mask, and with the model's own cache."""
    anew = "anew"
    """As `alone`, and without a cache: every token of a completion reads all before it once more."""

    @property
    def words(self) -> str:
        """What it means, for people."""
        said = {
            Reading.padded: "left padding, cache",
            Reading.alone: "rows of one length, cache",
            Reading.anew: "rows of one length, no cache",
        }
        return said[self]


@dataclass(frozen=True)
class Layout:
    """What is right for a model."""

    trees: bool = True
    """In training, the completions of a prompt share a row (`rows`); else each has a row of its own."""
    reading: Reading = Reading.padded
    lost_positions: int = 0
    """By how much the longest text is shorter than the config's context."""
