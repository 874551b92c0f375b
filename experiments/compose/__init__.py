"""From the words of a command line to points."""

from pathlib import Path

CONF = Path(__file__).resolve().parents[2] / "conf"
