"""How figures look, whatever they show: colours and sizes, panels with their labels, lines with intervals, curves.

Functions take a frame of points that are ready to be drawn, and return a figure; they know no paper and no records.
The room imports nothing else of `analysis`. A newcomer reads `style` first (the fixed colour of each method), then
`lines`, by which most figures are drawn.

Figures are the same whatever the user has set for Matplotlib (`style.applied`), and that stays as it is. Settings that
Matplotlib cannot read are left out when it is imported, which is here first: `paper` and `page` import this room.
"""

import importlib
import importlib.util
import os
import sys
from contextlib import chdir
from pathlib import Path

BACKEND = "MPLBACKEND"  # environment variable


def _import_matplotlib() -> None:
    """Import Matplotlib, without the user's settings where these cannot be read or name a backend that is not here."""
    try:
        importlib.import_module("matplotlib")
        return
    except ImportError:
        raise
    except Exception:  # whatever its reading of the settings stumbles on
        for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
            del sys.modules[name]  # what is half imported
        found = importlib.util.find_spec("matplotlib")
    assert found is not None and found.origin is not None
    kept = os.environ.pop(BACKEND, None)
    try:
        with chdir(Path(found.origin).parent / "mpl-data"):  # the file in the working folder comes first
            importlib.import_module("matplotlib")
    finally:
        if kept is not None:
            os.environ[BACKEND] = kept


_import_matplotlib()
