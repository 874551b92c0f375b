"""MLflow as a mirror of the run folders: idempotent, batched, and never in the way of training.

A run is found by its tag `run_key`. Metrics are pushed line by line in order, each line within one transaction, with a
mark by which a later push knows what is there already, even after a kill (see `mirrored`). Lines of a lane are pushed
only up to its last saved state: later ones may be made again when the lane continues.

A lane that continues from an older state, in other company, makes steps again with other rounding. MLflow cannot take
back single metrics. So the run gets a new record, written whole, and the old one is then deleted (MLflow keeps deleted
runs until `mlflow gc`). That is so for every kind of store, and after a kill between any two calls the next push does
the rest. Whatever was written last before a kill, a push ends with what the folder says: of an ended run the artifacts
come first, then MLflow's status, then the tags, of which `record/ended` says that all of it was written.

An SQLite file has one writer at a time: whoever pushes holds the lock beside it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from tinylora.records.described import name_of, parameters, tags_of
from tinylora.records.digests import contradictions
from tinylora.records.folder import SUMMARY, RunFolder, Status
from tinylora.records.measured import WARNINGS
from tinylora.records.sqlite_store import (
    SECONDS_FOR_THE_LOCK,
    damage_of,
    damaged,
    forget,
    lock_of,
    make_store,
    of_the_machine,
)
from tinylora.records.store_check import DELETED, deleted, require_artifacts, require_openable
from tinylora.settings.config import RunConfig
from tinylora.settings.errors import FailureError, TinyLoraError, UsageError, first_line
from tinylora.settings.files import held
from tinylora.settings.rules import shown
from tinylora.settings.store_urls import ARTIFACTS, file_of, url_of

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
logging.getLogger("alembic").setLevel(logging.WARNING)
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # its errors are raised too, and said once

from mlflow import MlflowClient  # noqa: E402 - after its settings
from mlflow.entities import Param, Run, RunTag  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from sqlalchemy.exc import SQLAlchemyError  # noqa: E402

from tinylora.records.bulk import add_lines  # noqa: E402 - after MLflow's settings
from tinylora.records.mirrored import MARK as MARKER  # noqa: E402
from tinylora.records.mirrored import MarkedLine, Other, lines_held, log_artifacts, log_evaluations, marked  # noqa: E402

PARAMS_BATCH = 100  # most parameters in one call, MLflow's own limit
MOST_RECORDS = 100  # of one run in one store
ENDED = "record/ended"
TRAINING = {"mlflow.experimentKind": "custom_model_development"}  # so MLflow's pages open on the runs, not on traces
SECONDS_BETWEEN_PUSHES = 5.0
SECONDS_AFTER_A_FAILURE = 60.0

Result = TypeVar("Result")


class Mirror:
    """One experiment in one store."""

    def __init__(self, config: RunConfig, patience: float = 0.0) -> None:
        """Connect, and make schema and experiment where they are not there yet. Raises FailureError or UsageError.

        `patience` is how many seconds a store may be away, at the start and at a final push, before that is an error.
        """
        self.config, self.patience = config, patience
        self.file = file_of(config.tracking_uri)
        self.file = self.file.resolve() if self.file else None
        self.uri = url_of(self.file) if self.file else config.tracking_uri
        require_openable(self.file)
        self._at_the_start(self._connect)
        self._next_push = time.monotonic() + SECONDS_BETWEEN_PUSHES

    def _at_the_start(self, action: Callable[[], None]) -> None:
        """Do what a store must answer to before training. Raises FailureError, or what the action says itself."""
        try:
            self._patiently(action, self.patience)
        except TinyLoraError:  # it says what to do
            raise
        except Exception as error:  # the stores raise what their drivers raise
            rule = "the store must answer before training starts"
            remedy = "start the server, or correct tracking.uri (null: an SQLite store in outputs_dir)"
            raise self._failure(error, rule, remedy) from error

    def _failure(self, error: Exception, rule: str, remedy: str) -> FailureError:
        """What to say of an error of the store: that it is damaged, where it is."""
        if self.file and self.file.is_file() and not of_the_machine(error) and (why := damage_of(self.file, True)):
            return damaged(self.file, why, Path(self.config.outputs_dir))
        return FailureError(f"tracking.uri={shown(self.uri)}: {first_line(error)[:300]}", rule, remedy)

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

    def _connect(self) -> None:
        """Open the store, and find the experiment in it; both are made where they are not there."""
        config, name = self.config, self.config.tracking.experiment
        if self.file:
            make_store(self.file, _touch, Path(config.outputs_dir))
            self.number = self.file.stat().st_ino
        self.client = MlflowClient(tracking_uri=self.uri)
        self.experiment = self._found(name) or self._made(name)

    def _found(self, name: str) -> str | None:
        """The id of the experiment, if there is one. UsageError where it takes no runs."""
        found = self.client.get_experiment_by_name(name)
        if found is None:
            return None
        if found.lifecycle_stage == DELETED:
            raise deleted(self.uri, name, found.experiment_id)
        return str(found.experiment_id)

    def _made(self, name: str) -> str:
        """The id of the experiment, which is made now. UsageError where MLflow takes no such name."""
        artifacts = self.file.with_name(ARTIFACTS).as_uri() if self.file else None
        try:
            return str(self.client.create_experiment(name, artifact_location=artifacts, tags=TRAINING))
        except MlflowException as error:
            if (found := self._found(name)) is not None:  # another process was faster
                return found
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            given, remedy = f"tracking.experiment={shown(name)}", "give tracking.experiment=<another name>"
            raise UsageError(given, f"MLflow takes no such name: {first_line(error)[:300]}", remedy) from error

    def require_artifacts(self) -> None:
        """Raise UsageError where the files of runs cannot be written: a sweep asks before it trains."""

        def ask() -> None:
            found = self.client.get_experiment(self.experiment)
            require_artifacts(self.uri, found.name, found.artifact_location)

        self._at_the_start(ask)

    def push(self, folders: Sequence[RunFolder], final: bool = False) -> None:
        """Bring the store up to date with run folders, unless that was done seconds ago.

        A store that does not answer is tried again later; only the `final` push raises FailureError.
        """
        if not final and time.monotonic() < self._next_push:
            return
        self._next_push = time.monotonic() + SECONDS_BETWEEN_PUSHES
        try:
            self._patiently(lambda: self._push_all(folders), self.patience if final else 0.0)
        except (MlflowException, SQLAlchemyError, TinyLoraError, OSError) as error:
            self._next_push = time.monotonic() + SECONDS_AFTER_A_FAILURE
            if final and isinstance(error, TinyLoraError):  # it says what to do
                raise
            if final:
                with suppress(MlflowException, SQLAlchemyError):
                    self._found(self.config.tracking.experiment)  # which says it, if that was deleted meanwhile
                rule = "the store mirrors the run folders, which are complete"
                again = "make the store answer, or make room for it; the same command then mirrors what is missing"
                raise self._failure(error, rule, again) from error

    def _push_all(self, folders: Sequence[RunFolder]) -> None:
        if self.file and not (self.file.exists() and self.file.stat().st_ino == self.number):
            forget(self.file)  # it was made anew since, and this process would go on writing to the old one
            self._connect()
        refused = []
        for folder in folders:
            try:
                self._push(folder)
            except MlflowException as error:
                if error.error_code != "INVALID_PARAMETER_VALUE":
                    raise
                refused.append(f"run {folder.path.name}: {first_line(error)}")  # the others are pushed all the same
        if refused:
            raise MlflowException("; ".join(refused))

    def _push(self, folder: RunFolder) -> None:
        described = folder.described()
        assert described is not None, f"{folder.path} has not begun"
        provenance = described["provenance"]
        records = self._records(folder, provenance)  # before the lines: these are then at least what is in them
        lines = marked(RunFolder.lines(folder))
        held = {run.info.run_id: self._held(run, lines) for run in records}
        counts = {name: count for name, count in held.items() if isinstance(count, int)}
        fitting = [run for run in records if run.info.run_id in counts]
        run = max(fitting, key=lambda run: counts[run.info.run_id], default=None) or self._create(folder, lines)
        self._describe(run, folder, provenance)
        count = counts.get(run.info.run_id, 0)
        status = folder.status()
        settled = len(lines if status and status.final else folder.lines())
        old = count and run.data.metrics[MARKER] != lines[count - 1].mark  # an earlier version's: marked anew
        new = lines[count - 1 if old else count : settled]
        add_lines(self.client, run.info.run_id, new, at_once=self.file is not None and count == 0)
        self._conclude(run, folder, lines, scale_model=bool(provenance.get("scale_model")))
        log_evaluations(self.client, run, folder.path)
        for record in records:
            if self._replaced(record, held[record.info.run_id]):
                self.client.delete_run(record.info.run_id)

    def _records(self, folder: RunFolder, provenance: dict[str, Any]) -> list[Run]:
        """What the store has of a run, the newest first, but for what was made with another model or other data."""
        asked = f"tags.run_key = '{folder.config.run_key}'"
        found = self.client.search_runs([self.experiment], asked, max_results=MOST_RECORDS)
        return [run for run in found if not contradictions(run.data.params, provenance)]

    def _held(self, run: Run, lines: Sequence[MarkedLine]) -> int | Other:
        newest = run.data.metrics.get(MARKER)
        return lines_held(newest, lambda: self.client.get_metric_history(run.info.run_id, MARKER), lines)

    def _replaced(self, record: Run, held: int | Other) -> bool:
        """Whether a record is one of this folder that holds what the folder no longer says.

        Of another execution that has ended, both stay, and the report says so; on a server it may be someone else's.
        """
        if isinstance(held, int):
            return False
        ended = record.data.tags.get("status") in (Status.finished.value, Status.failed.value)
        return held is Other.earlier or (self.config.tracking.uri is None and not ended)

    def _create(self, folder: RunFolder, lines: Sequence[MarkedLine]) -> Run:
        tags = {"run_key": folder.config.run_key}
        started = lines[0].stamp if lines else None
        return self.client.create_run(self.experiment, started, tags=tags, run_name=name_of(folder.config))

    def _describe(self, run: Run, folder: RunFolder, provenance: dict[str, Any]) -> None:
        """Write the parameters that the store does not have yet."""
        asked = parameters(folder.config, provenance)
        items = [Param(name, str(value)) for name, value in asked.items() if name not in run.data.params]
        for start in range(0, len(items), PARAMS_BATCH):
            self.client.log_batch(run.info.run_id, params=items[start : start + PARAMS_BATCH])

    def _conclude(self, run: Run, folder: RunFolder, lines: Sequence[MarkedLine], scale_model: bool) -> None:
        """Write status and reason, and the artifacts of an ended run, where the store does not have them yet."""
        status = folder.status()
        assert status is not None
        word = "KILLED" if status is Status.cut_short else status.name.upper()  # in MLflow's own words
        ended = "" if status is Status.running else _digest_of_end(folder, lines)
        now = run.data.tags
        if (now.get("status"), run.info.status) == (status.value, word) and now.get(ENDED, ended) == ended:
            return
        if status is Status.running:
            self.client.update_run(run.info.run_id, status=word)
        else:
            log_artifacts(self.client, run.info.run_id, folder.path)
            self.client.set_terminated(run.info.run_id, word, lines[-1].stamp if lines else None)
        said = (folder.summary() or {}).get(WARNINGS, [])
        tags = tags_of(folder.config, status.value, folder.reason(), said)
        for name in [name for name, text in tags.items() if text is None and name in now]:
            self.client.delete_tag(run.info.run_id, name)
        tags |= {"scale_model": str(scale_model).lower(), ENDED: ended}
        shown = [RunTag(name, text) for name, text in tags.items() if text is not None]
        self.client.log_batch(run.info.run_id, tags=shown)


def _digest_of_end(folder: RunFolder, lines: Sequence[MarkedLine]) -> str:
    """12 hex digits over how a run ended and all its lines."""
    said = f"{lines[-1].mark if lines else ''} ".encode() + (folder.path / SUMMARY).read_bytes()
    return hashlib.sha256(said).hexdigest()[:12]


@contextmanager
def _only_writer(uri: str) -> Iterator[None]:
    """Hold the lock of an SQLite store; a server and other databases sort their writers themselves."""
    path = file_of(uri)
    if path is None:
        yield
        return
    with ExitStack() as stack:
        busy = MlflowException("another process is writing to it all the time")
        try:
            stack.enter_context(held(lock_of(path), SECONDS_FOR_THE_LOCK, busy))
        except FailureError as error:
            raise MlflowException(f"{first_line(error.__cause__ or error)}: {lock_of(path)}") from error
        yield


def _touch(uri: str) -> None:
    """Have MLflow make a store."""
    MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
