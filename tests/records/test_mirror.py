"""The MLflow store beside the run folders: brought up to date, made up for, and written by one process at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from support.packs import At, point, steps_in_mlflow
from support.records import make_folder
from support.slurm_jobs import call

from tinylora.records import mirror
from tinylora.records.folder import RunFolder, Status, Unmirrored
from tinylora.records.import_runs import sync
from tinylora.records.measured import WARNINGS
from tinylora.records.mirror import Mirror
from tinylora.records.progress import Silent
from tinylora.records.stopping import Stopped, StopRequest
from tinylora.settings.config import Adapter, AdapterConfig, Sharing
from tinylora.settings.errors import FailureError
from tinylora.train.loop import run_pack


def test_sync_takes_what_stays_and_only_once(outputs: Path) -> None:
    config, stop = point(outputs, steps=4), StopRequest()
    with pytest.raises(Stopped):
        run_pack([config], ["a"], At(2, lambda: stop.ask("a test wants it")), Unmirrored(), stop)
    assert sync(outputs).runs == 1
    assert steps_in_mlflow(config) == [0, 1]
    run_pack([config], ["a"], Silent(), Unmirrored())
    for _ in range(2):
        assert sync(outputs).problems == []
        assert steps_in_mlflow(config) == [0, 1, 2, 3, 4]
    (outputs / "damaged").mkdir()
    (outputs / "damaged" / "config.yaml").write_text("{")
    assert len(sync(outputs).problems) == 1
    assert call("sync", f"--outputs-dir {outputs}").returncode == 1
    assert call("sync", f"--outputs-dir {outputs}/nope").returncode == 2


def test_a_store_that_fails_during_training_stops_nothing_and_is_made_up_for(
    outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = point(outputs, steps=2)

    def broken(self: Mirror, folder: RunFolder) -> None:
        raise OperationalError("INSERT", {}, Exception("database or disk is full"))

    with monkeypatch.context() as patched:
        patched.setattr(Mirror, "_push", broken)
        patched.setattr("tinylora.records.mirror.SECONDS_BETWEEN_PUSHES", 0.0)
        with pytest.raises(FailureError, match="disk is full"):
            run_pack([config], ["a"], Silent())
    assert RunFolder(config).status() is Status.finished
    (record,) = run_pack([config], ["a"], Silent())
    assert record.skipped
    store = Mirror(config)
    (found,) = store.client.search_runs([store.experiment], f"tags.run_key = '{config.run_key}'")
    assert found.data.tags["status"] == "finished"
    assert found.info.status == "FINISHED"
    assert "eval/test/greedy_strict" in found.data.metrics


def test_warnings_are_in_the_store(outputs: Path) -> None:
    told, silent = (make_folder(outputs, status=None, seed=seed) for seed in (0, 1))
    told.conclude(Status.finished, None, {WARNINGS: ["no signal\n  remedy: a", "x" * 9000]})
    silent.conclude(Status.finished, None, {})
    assert sync(outputs).problems == []
    store = Mirror(told.config)
    tags = {run.data.tags["run_key"]: run.data.tags for run in store.client.search_runs([store.experiment])}
    assert tags[told.config.run_key]["warnings"].startswith("no signal\n  remedy: a\nxxx")
    assert "warnings" not in tags[silent.config.run_key]


def test_two_writers_of_one_sqlite_file_take_turns(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "SECONDS_FOR_THE_LOCK", 0.2)
    uri = f"sqlite:///{outputs / 'mlflow.db'}"
    with mirror._only_writer(uri), pytest.raises(mirror.MlflowException, match="another process"):
        mirror._only_writer(uri).__enter__()


def test_mlflow_shows_runs_that_can_be_told_apart_and_nothing_empty(outputs: Path) -> None:
    tied = {"u": 1, "n_tie": 8}
    sizes: list[dict[str, Any]] = [{"u": 13}, {"u": 13, "lr": 0.5}, tied, tied | {"sharing": Sharing.structured}]
    sizes.append({"adapter": AdapterConfig(name=Adapter.lora_xs), "rank": 4})
    configs = [make_folder(outputs, provenance={"data_commits": ""}, **each).config for each in sizes]
    assert sync(outputs).problems == []
    store = Mirror(configs[0])
    found = store.client.search_runs([store.experiment])
    names = {run.info.run_name for run in found}
    assert len(names) == len(configs) and max(map(len, names)) < 80
    assert any("lora_xs rank=4" in name for name in names)
    assert store.client.get_experiment(store.experiment).tags["mlflow.experimentKind"] == "custom_model_development"
    for run in found:
        assert not {"", "None"} & {*run.data.params.values(), *run.data.tags.values()}
