"""The report: the paper's tables and figures, and those of any other sweep, rebuilt from the MLflow records alone.

    python -m analysis.build [--only figure4,table2] [--format pdf,svg,png]

Five rooms, each of which imports only those below it:

    page            the report as files
    paper           the paper's tables, figures and claims, and the same from our runs
    drawing         how figures look          statistics   intervals, which runs belong together
    records         MLflow stores, read as tidy frames

Nothing here imports torch, trains or changes a record. The one thing that is written besides the report is said when it
happens: `build` first imports run folders that the store lacks, as `experiments.sync` does. `study/` has the archived
records of the study, and the numbers expected of them. Of the project, `analysis` may import `tinylora.settings`,
`tinylora.records` and `tinylora.models.shapes`. A newcomer reads `build`, then `page.report`.
"""

import importlib
import importlib.util
import os
import sys
from contextlib import chdir
from pathlib import Path

try:
    from tinylora.settings.interrupts import quiet_until_started

    quiet_until_started()
    from tinylora.settings.paths import end_without_surroundings

    end_without_surroundings()
    from tinylora.settings.extras import require_extra

    require_extra("report", ("pandas", "scipy", "matplotlib", "altair", "vl_convert", "mlflow", "rich"))
except KeyboardInterrupt:  # in this very moment
    raise SystemExit(130) from None

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before MLflow is imported: a report sends nothing anywhere

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
