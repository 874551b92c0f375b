"""How figures look, whatever they show: colours and sizes, panels with their labels, lines with intervals, curves.

Functions take a frame of points that are ready to be drawn, and return a figure; they know no paper and no records.
The room imports nothing else of `analysis`. A newcomer reads `style` first (the fixed colour of each method), then
`lines`, by which most figures are drawn.

Figures are the same whatever the user has set for Matplotlib (`style.applied`), and that stays as it is. The room
imports Matplotlib first, since a setting of the user's can keep it from being imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from pathlib import Path

BACKEND, SETTINGS_FILE = "MPLBACKEND", "MATPLOTLIBRC"  # environment variables


def _import_matplotlib() -> None:
    """Import Matplotlib, without the user's settings where these cannot be read or name a backend that is not here."""
    try:
        importlib.import_module("matplotlib")
        return
    except ImportError:
        raise
    except Exception:  # whatever its reading of the settings stumbles on
        found = importlib.util.find_spec("matplotlib")
    assert found is not None and found.origin is not None
    own = {BACKEND: "agg", SETTINGS_FILE: str(Path(found.origin).parent / "mpl-data" / "matplotlibrc")}
    kept = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        importlib.import_module("matplotlib")
    finally:
        for name, value in kept.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


_import_matplotlib()
