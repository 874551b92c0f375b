"""The report of a sweep: tables and figures rebuilt from the MLflow records alone.

    python -m analysis.build

Nothing here imports torch or reads a run folder. Records become two tidy frames (`load`), runs become cells and means
with intervals (`stats`, `grid`), these become tables and figures (`tables`, `figures`, `style`), and `build` writes
them and one self-contained page (`report`, `report.html.j2`).
"""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before MLflow is imported: a report sends nothing anywhere
