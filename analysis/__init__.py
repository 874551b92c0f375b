"""The report: the paper's tables and figures, and those of any other sweep, rebuilt from the MLflow records alone.

    python -m analysis.build [--only figure4,table2] [--format pdf,svg,png]

Nothing here imports torch or reads a run folder. Stores (`stores`) become two tidy frames (`load`), runs become cells
and means with intervals (`stats`, `grid`). Each table and figure of the paper is a declaration (`items`): which runs it
shows (`selection`), what makes them, what the paper reports (`paper`), and the function that draws it (`paper_figures`,
`paper_tables`, `ratios`). Its claims are checked in `claims`. Runs that belong to none of them are shown by method and
size (`figures`, `tables`). `build` writes all files and one self-contained page (`report`, `report.html.j2`).
"""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before MLflow is imported: a report sends nothing anywhere
