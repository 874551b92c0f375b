"""The report: the paper's tables and figures, and those of any other sweep, rebuilt from the MLflow records alone.

    python -m analysis.build [--only figure4,table2] [--format pdf,svg,png]

Five rooms, each of which imports only those below it:

    page            the report as files
    paper           the paper's tables, figures and claims, and the same from our runs
    drawing         how figures look          statistics   intervals, which runs belong together
    records         MLflow stores, read as tidy frames

`options` is what can be asked of the report by name; all may import it.

Nothing here imports torch, trains or changes a record. The one thing that is written besides the report is said when it
happens: `build` first imports run folders that the store lacks, as `experiments.sync` does. `study/` has the archived
records of the study, and the numbers expected of them. Of the project, `analysis` may import `tinylora.settings`,
`tinylora.records` and `tinylora.models.shapes`. A newcomer reads `build`, then `page.report`.
"""

import os

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
