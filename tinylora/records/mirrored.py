"""How far MLflow's record of a run holds the lines of its folder, and whether it holds anything else.

Every line is written in one transaction with a mark: a number over this line and all before it. The newest mark of a
record thus says of all its lines whether they are those of the folder. Records of earlier versions have the step as
their mark. Their lines are compared by the times at which they were written, of which a line made again has another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Run
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS

from tinylora.records.evaluations import EVALUATIONS, TAG, newest, read_evaluations
from tinylora.records.folder import ADAPTER, CONFIG, ITEMS, METRICS, SUMMARY, MetricLine
from tinylora.records.kept import KEPT
from tinylora.records.samples import SAMPLES, read_samples, table_of

MARK = "record/lines"
ARTIFACTS = (CONFIG, METRICS, ITEMS, SAMPLES, KEPT, SUMMARY, ADAPTER)
TABLE = "samples.json"
BATCH = 1000  # most metrics in one call, MLflow's own limit
FIRST_MARK = 2**48  # marks are above every step, and below 2**53: whole as MLflow's numbers


@dataclass(frozen=True)
class MarkedLine:
    """A line of a run folder, and the number that stands for it and all before it."""

    line: MetricLine
    mark: float

    @property
    def stamp(self) -> int:
        """When it was written, as MLflow has it (ms)."""
        return int(self.line.time * 1000)

    def metrics(self) -> list[Metric]:
        """Its metrics, the mark last: what has the mark has all."""
        values = self.line.metrics | {MARK: self.mark}
        return [Metric(name, float(value), self.stamp, self.line.step) for name, value in values.items()]


def log_artifacts(client: MlflowClient, run_id: str, folder: Path) -> None:
    """Copy the files of a run folder; of its samples, MLflow also gets a table that it shows."""
    for name in ARTIFACTS:
        if (folder / name).exists():
            client.log_artifact(run_id, str(folder / name))
    if (folder / SAMPLES).exists():  # not by `log_table`, which adds to a table that is there
        client.log_text(run_id, table_of(read_samples(folder / SAMPLES)[0]), TABLE)
        client.set_tag(run_id, MLFLOW_LOGGED_ARTIFACTS, json.dumps([{"path": TABLE, "type": "table"}]))


def log_evaluations(client: MlflowClient, run: Run, folder: Path) -> None:
    """Write what the adapters of a run were found to be worth after its training, unless it is there already.

    The newest result of a step and a suite is a metric, `after/<suite>/sampled_strict` and so on, which is not mistaken
    for one of the run's own; the file is an artifact. A damaged file is named.
    """
    path = folder / EVALUATIONS
    if not path.exists():
        return
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    if run.data.tags.get(TAG) == digest:
        return
    of_steps = [(line, line.step) for line in newest(read_evaluations(folder)) if line.step is not None]
    metrics = [
        Metric(f"after/{name.removeprefix('eval/')}", float(value), int(line.time * 1000), step)
        for line, step in of_steps
        for name, value in line.metrics.items()
    ]
    for start in range(0, len(metrics), BATCH):
        client.log_batch(run.info.run_id, metrics=metrics[start : start + BATCH])
    client.log_artifact(run.info.run_id, str(path))
    client.set_tag(run.info.run_id, TAG, digest)


class Other(Enum):
    """A record that holds other lines than the folder."""

    earlier = "lines that this run has made again since"
    execution = "another execution of the same settings"


def marked(lines: Iterable[MetricLine]) -> list[MarkedLine]:
    """The lines with their marks."""
    found, digest = [], hashlib.sha256()
    for line in lines:
        digest.update(json.dumps(vars(line)).encode() + b"\n")
        found.append(MarkedLine(line, float(FIRST_MARK + int.from_bytes(digest.digest()[:6]))))
    return found


def lines_held(
    newest: float | None, points: Callable[[], Iterable[Metric]], lines: Sequence[MarkedLine]
) -> int | Other:
    """How many of the lines a record holds, from the first on, if it holds nothing else; else what it holds.

    `newest` is its newest mark, `points` all its marks with their steps and times: asked for where one is not enough.
    """
    if newest is None:
        return 0
    places = {line.mark: count for count, line in enumerate(lines, start=1)}
    if newest in places:
        return places[newest]
    stamps: dict[int, set[int]] = {}
    for point in points():
        stamps.setdefault(point.step, set()).add(point.timestamp)
    known = {line.line.step: {line.stamp} for line in lines[: len(stamps)]}
    if newest < FIRST_MARK and stamps == known:
        return len(stamps)
    first = lines[0] if lines else None
    return Other.earlier if first and first.stamp in stamps.get(first.line.step, ()) else Other.execution


def batches(lines: Sequence[MarkedLine]) -> list[list[Metric]]:
    """The metrics of lines in order, at most BATCH in each batch; a line is not cut unless it is longer than that."""
    found: list[list[Metric]] = []
    for line in lines:
        metrics = line.metrics()
        if found and len(found[-1]) + len(metrics) <= BATCH:
            found[-1] += metrics
        else:
            found += [metrics[start : start + BATCH] for start in range(0, len(metrics), BATCH)]
    return found
