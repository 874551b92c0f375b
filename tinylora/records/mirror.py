"""MLflow as a mirror of the run folders: idempotent, batched, and never in the way of training.

A run is found by its tag `run_key`. Metrics are pushed line by line in order, each line within one transaction. So the
newest step in the store says from which line to go on, even after a kill, and no metric is written twice. Lines of a
lane are pushed only up to its last saved state: later ones are dropped when the lane continues, and the store cannot
drop them. An SQLite file has one writer at a time: whoever pushes holds the lock beside it.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tinylora.records.folder import ADAPTER, CONFIG, METRICS, SUMMARY, MetricLine, RunFolder, Status
from tinylora.records.sqlite_store import make_store
from tinylora.settings.config import RunConfig, flatten
from tinylora.settings.errors import FailureError, first_line
from tinylora.settings.files import held

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
logging.getLogger("alembic").setLevel(logging.WARNING)
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # its errors are raised too, and said once

from mlflow import MlflowClient  # noqa: E402 - after its settings
from mlflow.entities import Metric, Param, Run, RunTag  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from sqlalchemy.exc import SQLAlchemyError  # noqa: E402

BATCH = 1000  # most metrics in one call, MLflow's own limit
PARAMS_BATCH = 100  # likewise for parameters
MARKER = "record/lines"  # written with every line: its newest step says how far the mirror is
SECONDS_BETWEEN_PUSHES = 5.0
SECONDS_AFTER_A_FAILURE = 60.0
SECONDS_FOR_THE_LOCK = 60.0  # another writer pushes a whole sweep in less
SQLITE = "sqlite:///"

Result = TypeVar("Result")


class Mirror:
    """One experiment in one store."""

    def __init__(self, config: RunConfig, patience: float = 0.0) -> None:
        """Connect, and make schema and experiment where they are not there yet. Raises FailureError.

        `patience` is how many seconds a store may be away, at the start and at a final push, before that is an error.
        """
        self.uri, self.patience = config.tracking_uri, patience
        try:
            self.experiment = self._patiently(lambda: self._connect(config), patience)
        except Exception as error:  # the stores raise what their drivers raise
            raise FailureError(
                f"tracking.uri={self.uri}: {first_line(error)[:300]}",
                "the store must answer before training starts",
                "start the server, or correct tracking.uri (null: an SQLite store in outputs_dir)",
            ) from error
        self._next_push = time.monotonic() + SECONDS_BETWEEN_PUSHES

    def _patiently(self, action: Callable[[], Result], patience: float) -> Result:
        """The action's result, as the only writer; a store that is away is asked again until patience (s) ends."""
        until = time.monotonic() + patience
        while True:
            try:
                with _only_writer(self.uri):
                    return action()
            except (MlflowException, SQLAlchemyError):
                if time.monotonic() >= until:
                    raise
                time.sleep(SECONDS_BETWEEN_PUSHES)

    def _connect(self, config: RunConfig) -> str:
        """Open the store, and find the experiment in it; both are made where they are not there."""
        if self.uri.startswith(SQLITE):
            make_store(Path(self.uri.removeprefix(SQLITE)), _touch)
        self.client = MlflowClient(tracking_uri=self.uri)
        name = config.tracking.experiment
        found = self.client.get_experiment_by_name(name)
        if found is None:
            local = config.tracking.uri is None
            artifacts = (Path(config.outputs_dir) / "mlflow-artifacts").resolve().as_uri() if local else None
            try:
                return str(self.client.create_experiment(name, artifact_location=artifacts))
            except MlflowException:  # another process was faster
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def push(self, folders: Sequence[RunFolder], final: bool = False) -> None:
        """Bring the store up to date with run folders, unless that was done seconds ago.

        A store that does not answer is tried again later; only the `final` push raises FailureError.
        """
        if not final and time.monotonic() < self._next_push:
            return
        self._next_push = time.monotonic() + SECONDS_BETWEEN_PUSHES
        try:
            self._patiently(lambda: self._push_all(folders), self.patience if final else 0.0)
        except (MlflowException, SQLAlchemyError) as error:
            self._next_push = time.monotonic() + SECONDS_AFTER_A_FAILURE
            if final:
                raise FailureError(
                    f"tracking.uri={self.uri}: {first_line(error)[:300]}",
                    "the store mirrors the run folders, which are complete",
                    "make the store answer (or make room for it); the same command then only mirrors what is missing",
                ) from error

    def _push_all(self, folders: Sequence[RunFolder]) -> None:
        for folder in folders:
            self._push(folder)

    def _push(self, folder: RunFolder) -> None:
        described = folder.described()
        assert described is not None, f"{folder.path} has not begun"
        run = self._run(folder, described["provenance"])
        pushed = run.data.metrics.get(MARKER, -1.0)  # of the newest step
        for batch in _batches([line for line in folder.lines() if line.step > pushed]):
            self.client.log_batch(run.info.run_id, metrics=batch)
        self._conclude(run, folder, scale_model=described["provenance"]["scale_model"])

    def _run(self, folder: RunFolder, provenance: dict[str, Any]) -> Run:
        """The MLflow run of a folder, made where there is none; its parameters and tags are complete on return."""
        key = folder.config.run_key
        found = self.client.search_runs([self.experiment], f"tags.run_key = '{key}'", max_results=1)
        name = name_of(folder.config)
        run: Run = found[0] if found else self.client.create_run(self.experiment, tags={"run_key": key}, run_name=name)
        asked = parameters(folder.config, provenance)
        items = [Param(name, str(value)) for name, value in asked.items() if name not in run.data.params]
        for start in range(0, len(items), PARAMS_BATCH):
            self.client.log_batch(run.info.run_id, params=items[start : start + PARAMS_BATCH])
        return run

    def _conclude(self, run: Run, folder: RunFolder, scale_model: bool) -> None:
        """Write status and reason, and the artifacts of an ended run, where the store does not have them yet."""
        status = folder.status()
        assert status is not None
        if run.data.tags.get("status") == status.value:
            return
        if status is not Status.running:
            for name in (CONFIG, METRICS, SUMMARY, ADAPTER):
                if (folder.path / name).exists():
                    self.client.log_artifact(run.info.run_id, str(folder.path / name))
        tags = {
            "status": status.value,
            "reason": folder.reason() or "",
            "scale_model": str(scale_model).lower(),
            "label": name_of(folder.config),
        }
        self.client.log_batch(run.info.run_id, tags=[RunTag(name, value) for name, value in tags.items()])
        word = "KILLED" if status is Status.cut_short else status.name.upper()  # in MLflow's own words
        self.client.update_run(run.info.run_id, status=word)


@contextmanager
def _only_writer(uri: str) -> Iterator[None]:
    """Hold the lock of an SQLite store; a server and other databases sort their writers themselves."""
    if not uri.startswith(SQLITE):
        yield
        return
    path = Path(uri.removeprefix(SQLITE))
    with ExitStack() as stack:
        busy = MlflowException("another process is writing to it all the time")
        try:
            stack.enter_context(held(path.with_name(f".{path.name}.lock"), SECONDS_FOR_THE_LOCK, busy))
        except FailureError as error:
            raise MlflowException(error.given) from error
        yield


def _touch(uri: str) -> None:
    """Have MLflow make a store."""
    MlflowClient(tracking_uri=uri).search_experiments(max_results=1)


def name_of(config: RunConfig) -> str:
    """The name of a run in MLflow's own pages; nothing reads it."""
    what = f"{config.model.identity} {config.task.name} {config.algorithm.name.value}"
    return f"{what} u={config.u} {config.precision.value} seed={config.seed}"


def parameters(config: RunConfig, provenance: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a run: its scientific settings by dotted name, its recipe, and its provenance."""
    origin = {name: value for name, value in provenance.items() if name != "scale_model"}
    return flatten(config.scientific()) | {"recipe": config.recipe} | origin


def _batches(lines: Sequence[MetricLine]) -> list[list[Metric]]:
    """Metrics of whole lines, in order, at most BATCH in each batch."""
    batches: list[list[Metric]] = []
    for line in lines:
        stamp = int(line.time * 1000)
        values = line.metrics | {MARKER: float(line.step)}
        metrics = [Metric(name, float(value), stamp, line.step) for name, value in values.items()]
        if batches and len(batches[-1]) + len(metrics) <= BATCH:
            batches[-1] += metrics
        else:
            batches.append(metrics)
    return batches
